/** What activating a manifest would change on this machine. */
import { statSync } from 'node:fs';
import { changesOf, type UnitChange } from '../drop-ins/rendered-folder.ts';
import { readRendering, renderUnits } from '../drop-ins/rendering.ts';
import { openersOf } from '../machine/openers.ts';
import { sayPostponed, sayUnsealed } from '../machine/provisioning.ts';
import { cutShort } from '../machine/restarts.ts';
import { readManifest } from '../manifest/manifest.ts';
import { activeSnapshot } from '../provision/active-snapshot.ts';
import { withMachineProblems } from '../provision/machine-problems.ts';
import { pendingSteps } from '../provision/pending.ts';
import type { ReleaseChange } from '../provision/plan.ts';
import { dryRun } from '../provision/provision.ts';
import { mergedSteps, runningSteps, stepsFor, type UnitStep } from '../provision/running-units.ts';
import { undelivered } from '../provision/undelivered.ts';
import { openPinnedSeeds } from '../seeds/open.ts';
import { hostScope, wipeScopes } from '../seeds/scope.ts';
import { refuseRewound } from '../seeds/tpm-counter.ts';
import { configurationOf } from '../system/configuration.ts';
import { pathsUnder } from '../system/paths.ts';
import { systemIsRunning } from '../system/systemctl.ts';
import { whileSaying } from '../terminal/progress.ts';
import { counted, printJson, printTable, say, warn } from '../terminal/say.ts';
import { periodNamed } from './chosen-recipe.ts';
import type { Options } from './options.ts';
import { sound } from './sound-manifest.ts';

/**
 * Prints what activating the manifest would change, down to the units that would be restarted or reloaded. Changes
 * nothing.
 * @param dropIns - whether the units' drop-ins would be written too
 * @returns 0
 * @throws Failure for anything that would keep it from being activated
 */
export async function showPlan(
  options: Options,
  { dropIns: withDropIns }: { readonly dropIns: boolean },
): Promise<number> {
  const root = options.value('root') ?? '/';
  const paths = pathsUnder(root);
  const named = options.value('at');
  const at = named === undefined ? undefined : periodNamed(named).start;
  const { declarations } = sound(withMachineProblems(root, readManifest(root)));
  const dropIns =
    withDropIns && configurationOf(paths) === undefined
      ? changesOf(readRendering(paths), renderUnits(declarations))
      : undefined;
  // Unlike existsSync, this does not call seeds missing that are only hidden from this user.
  if (withDropIns && !statSync(paths.seeds, { throwIfNoEntry: false })) {
    sayUnsealed(paths);
    show({ changes: [], pending: [], hooks: [], postponed: [], dropIns }, options, root);
    return 0;
  }
  const { payload, counter } = await whileSaying('opening the seeds', () =>
    openPinnedSeeds(paths, openersOf(paths, options.value('tpm2-device'))),
  );
  try {
    if (!options.flag('accept-older')) refuseRewound(counter, activeSnapshot(paths, payload.scopes)?.tpmCounter);
    const running = systemIsRunning(root);
    const { changes, hooked } = dryRun(
      paths,
      declarations,
      payload.scopes,
      {
        at: at ?? new Date(),
        counter: payload.counter,
        undelivered: await whileSaying('reading what units have', () =>
          undelivered(root, paths, payload, 'credentials and files'),
        ),
        acceptEarlier: at !== undefined || options.flag('accept-clock'),
        acceptOlder: options.flag('accept-older'),
      },
      running ? 'run' : 'later',
    );
    const namesOf = (replacements: typeof hooked.told): string[] =>
      replacements.map(({ declaration }) => declaration.name);
    for (const name of namesOf(hooked.untold))
      warn(`the hook of ${name} would not run: the seed of the old value is gone`);
    show(
      {
        changes,
        dropIns,
        pending: running ? pendingSteps(paths, hostScope(payload.scopes)) : [],
        postponed: namesOf(hooked.postponed),
        hooks: hooked.told.map(({ declaration }) => ({ secret: declaration.name, command: declaration.hook })),
      },
      options,
      root,
    );
  } finally {
    wipeScopes(payload.scopes);
  }
  return 0;
}

/** What would happen. */
interface Future {
  readonly changes: readonly ReleaseChange[];
  /** Restarts and reloads that an interrupted run left to do. */
  readonly pending: readonly UnitStep[];
  readonly hooks: readonly { readonly secret: string; readonly command: readonly string[] }[];
  /** Secrets that stay unchanged until their hook can run. */
  readonly postponed: readonly string[];
  /** Undefined if they are left alone. */
  readonly dropIns: readonly UnitChange[] | undefined;
}

function show(future: Future, options: Options, root: string): void {
  if (options.flag('json')) printJson(jsonOf(future, root));
  else sayPlan(future, root, options.flag('no-restart'));
}

const stepsOf = ({ changes, pending }: Future): UnitStep[] => mergedSteps(pending, stepsFor(changes));

function jsonOf(future: Future, root: string): unknown {
  const { changes, hooks, dropIns = [] } = future;
  const steps = stepsOf(future);
  return {
    credentials: changes,
    units: steps,
    ...(systemIsRunning(root) ? { running: runningSteps(steps).map(({ unit, action }) => ({ unit, action })) } : {}),
    hooks,
    dropIns,
  };
}

function sayPlan(future: Future, root: string, noRestart: boolean): void {
  const { changes, hooks, postponed, dropIns, pending } = future;
  if (changes.length > 0)
    printTable([
      ['UNIT', 'CREDENTIAL', 'CHANGE', 'THEN'],
      ...changes.map(({ unit, credential, why, action }) => [
        unit || 'any',
        credential,
        why,
        why === 'removed' || action === 'none' || noRestart ? '' : action,
      ]),
    ]);
  for (const { secret, command } of hooks) say(`would run ${command.join(' ')} for ${secret}`);
  for (const name of postponed) sayPostponed(name);
  for (const { unit, change } of dropIns ?? []) say(`drop-in of ${unit}: ${change}`);
  if (changes.length + (dropIns ?? []).length + pending.length === 0) {
    say('nothing would change');
    return;
  }
  const others = changes.filter(({ sameValue }) => !sameValue).length;
  say(
    [
      `${counted(others, 'credential')}${dropIns === undefined ? '' : ` and ${counted(dropIns.length, 'drop-in')}`} ` +
        'would change',
      ...(others === changes.length
        ? []
        : [
            `${counted(changes.length - others, 'credential')} would be made or delivered differently but keep ` +
              'the same value',
          ]),
      ...(noRestart ? ['no unit would be touched'] : [sayTouched(future, root)]),
    ].join('; '),
  );
}

/** Says which units would be restarted or reloaded, if it is known which ones run. @returns how many they are, in words */
function sayTouched(future: Future, root: string): string {
  const steps = stepsOf(future);
  if (!systemIsRunning(root)) {
    const most = steps.filter(({ action }) => action !== 'none').length;
    if (most === 0) return 'no unit would be restarted or reloaded';
    return `at most ${counted(most, 'unit')} would be restarted or reloaded, if running`;
  }
  const running = runningSteps(steps);
  for (const { unit, declared, action } of running)
    say(`would ${action} ${unit}${future.changes.some((change) => change.unit === declared) ? '' : `: ${cutShort}`}`);
  return `${counted(running.length, 'unit')} would be restarted or reloaded`;
}
