/** Lets units that run see their new secrets. */
import type { UnitAction } from '../manifest/declaration.ts';
import { systemctl, systemctlOutput } from '../system/systemctl.ts';
import type { ReleaseChange } from './plan.ts';

export interface UnitStep {
  readonly unit: string;
  readonly action: UnitAction;
}

const strength: Readonly<Record<UnitAction, number>> = { none: 0, reload: 1, restart: 2 };

/** What each unit needs: the strongest of what its credentials ask for. Removed ones need nothing. */
export function stepsFor(changes: readonly ReleaseChange[]): UnitStep[] {
  const steps = new Map<string, UnitAction>();
  for (const { unit, action } of changes) {
    const known = steps.get(unit);
    if (known === undefined || strength[action] > strength[known]) steps.set(unit, action);
  }
  return [...steps].map(([unit, action]) => ({ unit, action }));
}

/**
 * Restarts or reloads the units of `steps` that run, without waiting for them. A systemd that can't give a running unit new credentials
 * (before 260) restarts where a reload was asked for.
 * @returns what was done, instances by their own names
 */
export function takeSteps(steps: readonly UnitStep[]): UnitStep[] {
  const taken = steps.filter(({ action }) => action !== 'none').flatMap(({ unit, action }) => running(unit).map((name): UnitStep => ({ unit: name, action: action === 'reload' && !refreshes(name) ? 'restart' : action })));
  for (const action of ['reload', 'restart'] as const) {
    const units = taken.filter((step) => step.action === action).map(({ unit }) => unit);
    // try-restart: one that stopped in the meantime stays stopped.
    if (units.length > 0) systemctl('--no-block', action === 'restart' ? 'try-restart' : 'reload', '--', ...units);
  }
  return taken;
}

/** A service that runs, or the instances of a template that do. */
function running(unit: string): string[] {
  const pattern = unit.replace('@.service', '@*.service').replaceAll('\\', '\\\\');
  return systemctlOutput('list-units', '--plain', '--no-legend', '--full', '--state=active,activating,reloading', '--', pattern)
    .split('\n').map((line) => line.split(' ')[0] ?? '').filter((name) => name !== '');
}

const refreshes = (unit: string): boolean => /\bcredentials\b/.test(systemctlOutput('show', '--property=RefreshOnReload', '--value', '--', unit));
