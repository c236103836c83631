/** What `status` and `doctor` share: what they examine, and their exit status. */
import { exitStatus } from '../failure.ts';
import { type Finding, isWell } from '../health/finding.ts';
import { type Health, lookAt } from '../health/health.ts';
import { openersOf } from '../machine/openers.ts';
import { counted } from '../terminal/say.ts';
import type { Options } from './options.ts';

/** Examines the system that the options name. @param open - whether to open the seed and ask the TPM */
export const examine = async (options: Options, open: boolean): Promise<Health> =>
  await lookAt(options.value('root') ?? '/', (paths) => openersOf(paths, options.value('tpm2-device')), { open });

/** `2 problems, 1 warning`. */
export function countsOf(findings: readonly Finding[]): string {
  const countOf = (level: Finding['level']): number => findings.filter((finding) => finding.level === level).length;
  return (['problem', 'warning'] as const)
    .filter((level) => countOf(level) > 0)
    .map((level) => counted(countOf(level), level))
    .join(', ');
}

/**
 * The exit status for these findings. A TPM that still does not answer would block an ordinary exit: then the process
 * kills itself.
 */
export function finish({ hangs }: Health, findings: readonly Finding[]): number {
  if (hangs) process.kill(process.pid, 'SIGKILL');
  return isWell(findings) ? 0 : exitStatus.unwell;
}
