/** Lets running units see their new secrets. */
import { anyUnit, type UnitAction } from '../manifest/declaration.ts';
import { listedUnits, queueJobs, unitProperties } from '../system/systemctl.ts';
import { instancesOf, templateOf } from '../system/unit-name.ts';
import type { ReleaseChange } from './plan.ts';
import { monotonicNow } from './unit-jobs.ts';

/** What a unit has to do to see what changed. */
export interface UnitStep {
  readonly unit: string;
  readonly action: UnitAction;
  /** Whether only files changed: a reload then needs no new credentials. */
  readonly files?: true;
}

const strength: Readonly<Record<UnitAction, number>> = { none: 0, reload: 1, restart: 2 };

/** What each unit needs: the strongest action that its credentials ask for. Removed ones need nothing. */
export function stepsFor(changes: readonly ReleaseChange[]): UnitStep[] {
  const steps = new Map<string, UnitAction>();
  const refreshed = new Set<string>();
  for (const { unit, action, file } of changes) {
    if (unit === anyUnit) continue;
    const known = steps.get(unit);
    if (known === undefined || strength[action] > strength[known]) steps.set(unit, action);
    if (action === 'reload' && file !== true) refreshed.add(unit);
  }
  return [...steps].map(([unit, action]) => ({
    unit,
    action,
    ...(action === 'reload' && !refreshed.has(unit) ? { files: true } : {}),
  }));
}

/** Merges two lists: for each unit the stronger action. */
export function mergedSteps(one: readonly UnitStep[], other: readonly UnitStep[]): UnitStep[] {
  const steps = new Map(one.map((step) => [step.unit, step]));
  for (const step of other) {
    const known = steps.get(step.unit);
    steps.set(step.unit, known ? stronger(known, step) : step);
  }
  return [...steps.values()];
}

function stronger(one: UnitStep, other: UnitStep): UnitStep {
  const isOther =
    strength[other.action] > strength[one.action] || (other.action === one.action && other.files !== true);
  return isOther ? other : one;
}

/** What is done with a running unit. */
export interface TakenStep extends UnitStep {
  /** The unit's name in the manifest: an instance's template. */
  readonly declared: string;
}

/** Units that were told to restart or reload, which may still be doing so. */
export interface Told {
  readonly taken: readonly TakenStep[];
  /** systemd's reasons for units that it refused to restart or reload. */
  readonly refused: ReadonlyMap<string, string>;
  /** Microseconds on the monotonic clock, before the first unit was told. */
  readonly since: number;
}

/** Nobody was told anything. */
export const nobody: Told = { taken: [], refused: new Map(), since: 0 };

/**
 * Has systemd restart or reload the running units of `steps`, all in one call so that their ordering is respected,
 * without waiting for them.
 * @returns the restarts and reloads under way, instances by their own names
 * @throws Failure `system` if systemctl fails
 */
export function takeSteps(steps: readonly UnitStep[]): Told {
  const since = monotonicNow();
  const taken = runningSteps(steps);
  const refused = (['reload', 'restart'] as const).flatMap((action) => {
    const units = taken.filter((step) => step.action === action).map(({ unit }) => unit);
    // try-restart: a unit that stopped in the meantime stays stopped.
    return [...queueJobs(action === 'restart' ? 'try-restart' : 'reload', units)];
  });
  return { taken, refused: new Map(refused), since };
}

/**
 * What {@link takeSteps} would do now. A systemd that can't give a running unit new credentials (before 260) restarts a
 * unit instead of reloading it.
 */
export function runningSteps(steps: readonly UnitStep[]): TakenStep[] {
  const wanted = new Map(steps.filter(({ action }) => action !== 'none').map((step) => [step.unit, step]));
  if (wanted.size === 0) return [];
  const running = runningOf([...wanted.keys()]).flatMap((unit): TakenStep[] => {
    // An instance with secrets of its own has those of its template too.
    const [step, other] = [unit, templateOf(unit)].flatMap((name) => wanted.get(name ?? '') ?? []);
    if (step === undefined) return [];
    const taken = other ? stronger(step, other) : step;
    return [{ ...taken, unit, declared: taken.unit }];
  });
  const refreshing = refreshable(
    running.filter(({ action, files }) => action === 'reload' && files !== true).map(({ unit }) => unit),
  );
  return running.map(
    (step): TakenStep =>
      step.action === 'reload' && step.files !== true && !refreshing.has(step.unit)
        ? { ...step, action: 'restart' }
        : step,
  );
}

/** The running ones of these services, and running instances of templates. */
const runningOf = (units: readonly string[]): string[] =>
  listedUnits('list-units', '--plain', '--state=active,activating,reloading', '--', ...units.map(instancesOf));

/** The units that get their new credentials when they reload. */
function refreshable(units: readonly string[]): Set<string> {
  if (units.length === 0) return new Set();
  return new Set(
    unitProperties(units, ['RefreshOnReload'])
      .filter(({ values }) => /\bcredentials\b/.test(values.get('RefreshOnReload') ?? ''))
      .map(({ unit }) => unit),
  );
}
