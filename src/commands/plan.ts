import { staleCredentials } from '../deliver/credential-store.ts';
import { withFileProblems } from '../deliver/file-folder.ts';
import { type Plan, withMade } from '../deliver/plan.ts';
import { planned, snapshotInForce } from '../deliver/provision.ts';
import { changesOf, type UnitChange } from '../deliver/rendered-folder.ts';
import { readRendering, renderUnits } from '../deliver/rendering.ts';
import { runningSteps, stepsFor } from '../deliver/running-units.ts';
import { readManifest } from '../manifest/manifest.ts';
import { openStore } from '../store/open.ts';
import { wipeScopes } from '../store/scope.ts';
import { hostScope } from '../store/snapshot.ts';
import { refuseRewound } from '../store/tpm-counter.ts';
import { pathsUnder } from '../system/paths.ts';
import { systemIsRunning } from '../system/systemctl.ts';
import { periodNamed } from './get.ts';
import { meansOf } from './means.ts';
import { Options } from './options.ts';
import { counted, printJson, printTable, say } from './say.ts';
import { showHostPlan } from './vault-plan.ts';
import { isOperator, sound } from './view.ts';

/** `auxcred plan`: what `auxcred apply` would change and which units it would touch, or what a host of the vault would get. Changes nothing. */
export async function plan(argv: readonly string[]): Promise<number> {
  const options = new Options('plan', argv);
  options.exactly();
  return isOperator(options) ? await showHostPlan(options) : await showPlan(options, { dropIns: true });
}

/**
 * Says what putting the manifest in force would change, down to the units that would be restarted or reloaded, and changes nothing.
 * @param dropIns - whether the units' drop-ins would be put in force too
 * @returns 0
 * @throws Failure for all that would keep it from being put in force
 */
export async function showPlan(options: Options, { dropIns: withDropIns }: { readonly dropIns: boolean }): Promise<number> {
  const root = options.value('root') ?? '/';
  const paths = pathsUnder(root);
  const { declarations } = sound(withFileProblems(root, readManifest(root)));
  const at = options.value('at');
  const { payload, counter } = await openStore(paths, meansOf(paths, options.value('tpm2-device')));
  try {
    if (!options.flag('accept-older')) refuseRewound(counter, snapshotInForce(paths, payload.scopes)?.tpmCounter);
    const wanted = planned(paths, declarations, payload.scopes, { at: at === undefined ? new Date() : periodNamed(at).start, counter: payload.counter, acceptEarlier: at !== undefined || options.flag('accept-clock'), acceptOlder: options.flag('accept-older') });
    const future = { ...wanted, changes: withMade(wanted.changes, staleCredentials(paths, wanted.releases, payload.sealing, hostScope(payload.scopes)), declarations) };
    const dropIns = withDropIns ? changesOf(readRendering(paths), renderUnits(declarations)) : undefined;
    if (options.flag('json')) printJson(jsonOf(future, dropIns ?? [], root));
    else sayPlan(future, dropIns, root, options.flag('no-restart'));
  } finally {
    wipeScopes(payload.scopes);
  }
  return 0;
}

const hooksOf = ({ replaced }: Plan): { secret: string; command: readonly string[] }[] => replaced.filter(({ declaration }) => declaration.hook.length > 0).map(({ declaration }) => ({ secret: declaration.name, command: declaration.hook }));

const jsonOf = (future: Plan, dropIns: readonly UnitChange[], root: string): unknown => {
  const steps = stepsFor(future.changes);
  return { credentials: future.changes, units: steps, ...(systemIsRunning(root) ? { running: runningSteps(steps).map(({ unit, action }) => ({ unit, action })) } : {}), hooks: hooksOf(future), dropIns };
};

function sayPlan(future: Plan, dropIns: readonly UnitChange[] | undefined, root: string, noRestart: boolean): void {
  const { changes } = future;
  if (changes.length > 0) printTable([['UNIT', 'CREDENTIAL', 'CHANGE', 'THEN'], ...changes.map(({ unit, credential, why, action }) => [unit || 'any', credential, why, why === 'removed' || action === 'none' || noRestart ? '' : action])]);
  for (const { secret, command } of hooksOf(future)) say(`would run ${command.join(' ')} for ${secret}`);
  for (const { unit, change } of dropIns ?? []) say(`drop-in of ${unit}: ${change}`);
  if (changes.length + (dropIns ?? []).length === 0) {
    say('nothing would change');
    return;
  }
  const others = changes.filter(({ sameValue }) => !sameValue).length;
  say([
    `${counted(others, 'credential')}${dropIns === undefined ? '' : ` and ${counted(dropIns.length, 'drop-in')}`} would change`,
    ...(others === changes.length ? [] : [`${counted(changes.length - others, 'credential')} would be made in another way and have the same value`]),
    ...(noRestart ? ['no unit would be touched'] : touched(future, root)),
  ].join('; '));
}

/** Which units would be restarted or reloaded: those that run, where that can be told. */
function touched({ changes }: Plan, root: string): string[] {
  const steps = stepsFor(changes);
  if (!systemIsRunning(root)) return [`of the units that run, ${counted(steps.filter(({ action }) => action !== 'none').length, 'unit')} at most would be restarted or reloaded`];
  const running = runningSteps(steps);
  for (const { unit, action } of running) say(`would ${action} ${unit}`);
  return [`${counted(running.length, 'unit')} that ${running.length === 1 ? 'runs' : 'run'} would be restarted or reloaded`];
}
