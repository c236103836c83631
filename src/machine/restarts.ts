/** Restarts and reloads of running units after a change. */
import { exitStatus } from '../failure.ts';
import { forgetPending } from '../provision/pending.ts';
import { mergedSteps, nobody, stepsFor, type Told, takeSteps } from '../provision/running-units.ts';
import { failuresOf, type UnitFailure, unfinishedService, unitsFailure } from '../provision/unit-jobs.ts';
import { pathsUnder } from '../system/paths.ts';
import { sayProgress, whileSaying } from '../terminal/progress.ts';
import { counted, say } from '../terminal/say.ts';
import type { Activated } from './provisioning.ts';

/** Why a unit is touched although nothing changes for it. */
export const cutShort = 'an earlier run was interrupted before it got here';

/**
 * Lets running units see what changed, now or in an interrupted run, and says so.
 * @param restart - whether units may be touched
 * @returns the restarts and reloads under way
 */
export function tellUnits(root: string, { changes, pending }: Activated, restart: boolean): Told {
  const told = restart ? takeSteps(mergedSteps(pending, stepsFor(changes))) : nobody;
  forgetPending(pathsUnder(root));
  for (const { unit, declared, action } of told.taken) {
    const why = changes
      .filter((change) => change.unit === declared)
      .map((change) => `${change.credential} (${change.why})`);
    say(`${action} ${unit}: ${why.length > 0 ? why.join(', ') : cutShort}`);
  }
  return told;
}

/**
 * Waits for these units, and says which do not run and why. Called without the lock, since a unit's own start may need
 * it.
 * @param status - the exit status so far
 * @param wait - whether to wait, rather than only report the units that systemd refused to touch
 * @returns the exit status, updated
 */
export async function unitsStatus(status: number, told: Told, wait: boolean): Promise<number> {
  const failures = await unitFailures(told, wait);
  for (const { unit, reason } of failures) say(`${unit} ${reason}`);
  if (failures.length > 0) say(`hint: ${unitsFailure(failures).hint ?? ''}`);
  else if (wait && told.taken.length > 0)
    say(`${counted(told.taken.length, 'unit')} ${told.taken.length === 1 ? 'runs' : 'run'} with the changes`);
  return status === 0 && failures.length > 0 ? exitStatus['unit-failed'] : status;
}

/** The units that do not run as told. @param wait - whether to wait until that is known */
export async function unitFailures(told: Told, wait: boolean): Promise<readonly UnitFailure[]> {
  const own = wait && told.taken.length > 0 ? unfinishedService() : undefined;
  if (own !== undefined) say(`not waiting for units, since they may wait for ${own}, which this process belongs to`);
  if (!wait || own !== undefined) return [...told.refused].map(([unit, reason]) => ({ unit, reason }));
  return await whileSaying('waiting for units', () =>
    failuresOf(told, (waiting) => {
      if (waiting.length > 0) sayProgress(`waiting for ${waiting.join(', ')}`);
    }),
  );
}
