import { withValues } from '../cli/chosen-value.ts';
import { Options } from '../cli/options.ts';
import { printBytes } from '../terminal/say.ts';

/**
 * `auxcred get NAME` prints a secret's bytes: of a declared secret (the active value on a machine, today's on the
 * operator's side; `--at=` selects a period, `--generation=` a generation), else of the fixed file with that name.
 */
export async function get(argv: readonly string[]): Promise<number> {
  const options = new Options('get', argv);
  const [name = ''] = options.exactly('the name of a secret');
  await withValues([name], options, ([value]) => {
    if (value) printBytes(value);
  });
  return 0;
}
