import { Failure } from '../failure.ts';
import type { Options } from './options.ts';

/** The boot that `--predict` means. */
export interface ChosenPrediction {
  /** The entry; undefined for what boots by default. */
  readonly named: string | undefined;
  /** Its command line, if it is not the entry's own. */
  readonly commandLine: string | undefined;
}

/** @returns undefined without `--predict` @throws Failure `usage` for `--cmdline` without it */
export function chosenPrediction(options: Options): ChosenPrediction | undefined {
  const named = options.value('predict');
  const commandLine = options.value('cmdline');
  if (named !== undefined) return { named: named === '' ? undefined : named, commandLine };
  if (commandLine === undefined) return undefined;
  throw new Failure('usage', '--cmdline needs --predict', { hint: '--predict alone is the entry that boots next' });
}
