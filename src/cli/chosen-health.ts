/** What `status` and `doctor` share: what they examine, and their exit status. */
import { exitStatus } from '../failure.ts';
import { type Finding, isWell } from '../health/finding.ts';
import { type Health, lookAt } from '../health/health.ts';
import { openersOf } from '../machine/openers.ts';
import type { Options } from './options.ts';

/** Examines the system that the options name. */
export const look = async (options: Options, open: boolean): Promise<Health> =>
  await lookAt(options.value('root') ?? '/', (paths) => openersOf(paths, options.value('tpm2-device')), { open });

/** `2 problems, 1 warning`. */
export function countsOf(findings: readonly Finding[]): string {
  const counted = (['problem', 'warning'] as const).map((level) => ({
    level,
    number: findings.filter((finding) => finding.level === level).length,
  }));
  return counted
    .filter(({ number }) => number > 0)
    .map(({ level, number }) => `${String(number)} ${level}${number === 1 ? '' : 's'}`)
    .join(', ');
}

/** Exits with the right status, by force: a TPM that still does not answer would block an ordinary exit. */
export function left({ hangs }: Health, findings: readonly Finding[]): number {
  if (hangs) process.kill(process.pid, 'SIGKILL');
  return isWell(findings) ? 0 : exitStatus.unwell;
}
