/**
 * Units that have yet to see what was activated. The note is written before the snapshot and removed once they were
 * restarted or reloaded, so a run that is killed in between leaves them to the next one. A boot voids the note, since
 * all units then start with the new secrets.
 */
import { readFileSync, rmSync } from 'node:fs';
import { Failure } from '../failure.ts';
import { unitActions } from '../manifest/declaration.ts';
import type { Scope } from '../seeds/scope.ts';
import { authenticated, verified } from '../snapshot/authenticated.ts';
import { readIfPresent, replaceFile } from '../system/files.ts';
import type { Paths } from '../system/paths.ts';
import type { UnitStep } from './running-units.ts';

/** The kernel's name for this boot (proc_sys_kernel(5)). */
const bootId = (): string => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();

/**
 * The units that an interrupted run of this boot left behind.
 * @param host - the machine's own scope, whose seed the note was authenticated with
 */
export function pendingSteps(paths: Paths, host: Scope): UnitStep[] {
  const bytes = readIfPresent(paths.pending);
  if (!bytes) return [];
  try {
    const json = verified(bytes, host);
    json.at('kind').oneOf(['pending']);
    if (json.at('boot').text() !== bootId()) return [];
    return json
      .at('units')
      .list()
      .map((item) => ({
        unit: item.at('unit').text(),
        action: item.at('action').oneOf(unitActions),
        ...(item.at('files').flag() ? { files: true } : {}),
      }));
  } catch (error) {
    // From another seed or version, whose secrets no longer matter.
    if (error instanceof Failure && error.code === 'malformed') return [];
    throw error;
  }
}

/** Writes the note, unless no unit has to do anything. */
export function notePending(paths: Paths, host: Scope, steps: readonly UnitStep[]): void {
  const units = steps
    .filter(({ action }) => action !== 'none')
    .map(({ unit, action, files = false }) => ({ unit, action, files }));
  if (units.length > 0)
    replaceFile(paths.pending, authenticated({ kind: 'pending', boot: bootId(), units }, host), { mode: 0o600 });
}

/** Removes the note. */
export const forgetPending = ({ pending }: Paths): void => {
  rmSync(pending, { force: true });
};
