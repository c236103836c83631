import { exitStatus, Failure } from '../failure.ts';
import { digestsIn } from '../manifest/declared.ts';
import type { Manifest } from '../manifest/manifest.ts';
import { problemText } from '../manifest/problem-text.ts';
import { activeSnapshot } from '../provision/active-snapshot.ts';
import { refuseForeignCredentials } from '../provision/credential-store.ts';
import { runHook } from '../provision/hook.ts';
import { manifestOn } from '../provision/machine-problems.ts';
import { notePending, pendingSteps } from '../provision/pending.ts';
import type { ReleaseChange } from '../provision/plan.ts';
import { type Provisioned, provision } from '../provision/provision.ts';
import { mergedSteps, stepsFor, type UnitStep } from '../provision/running-units.ts';
import { type DirectDelivery, undelivered } from '../provision/undelivered.ts';
import { hadSeeds, restoreHint } from '../seeds/lost-seeds.ts';
import { devicePatience, type OpenedSeeds, openPinnedSeeds } from '../seeds/open.ts';
import { settlePins } from '../seeds/pins.ts';
import { hostScope, wipeScopes } from '../seeds/scope.ts';
import { refuseRewound } from '../seeds/tpm-counter.ts';
import { configurationOf } from '../system/configuration.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import { stopRunning, systemIsRunning } from '../system/systemctl.ts';
import { print, say, warn } from '../terminal/say.ts';
import { restoreBrokerAccess } from './broker-access.ts';
import { caughtUp, raised } from './counter.ts';
import { deliverDirectly, deliveredOf, deliversDirectly, warnUnimportable } from './delivering.ts';
import { openersOf } from './openers.ts';

/** Says that a secret waits for its hook. */
export const sayPostponed = (name: string): void => {
  say(`${name} is unchanged until its hook can run: auxcred provision, once the machine is up`);
};

/** Warns of the effect on units if the machine has no seeds. */
export function sayUnsealed(paths: Paths): void {
  if (hadSeeds(paths))
    warn(
      `this machine's seed is lost, so units with secrets will not start: ${paths.seeds} is missing`,
      restoreHint(paths),
    );
  else warn('no seed is sealed yet, so units with secrets will not start', 'run auxcred seal');
}

/** The manifest, if all of it is valid. @throws Failure `invalid-manifest` after printing every problem. */
export function usableManifest(root: string): Manifest {
  const manifest = manifestOn(root);
  for (const problem of manifest.problems) print(problemText(problem));
  if (manifest.problems.some(({ severity }) => severity === 'error')) {
    throw new Failure('invalid-manifest', 'the manifest has errors, so nothing was changed', {
      hint: 'fix the lines above; auxcred check checks them again',
    });
  }
  return manifest;
}

/** What was activated, and why some of it is not where units read it. */
export interface Activated extends Provisioned {
  readonly failures: readonly string[];
  /** Restarts and reloads that an interrupted run left to do. */
  readonly pending: readonly UnitStep[];
}

/**
 * When provisioning happens, which decides what it does for units:
 *
 * - `boot`: before they start. Hooks can't run yet, and nobody has to be told. Files have a unit of their own, later.
 * - `switch`: while a configuration is switched, which itself restarts the units whose secrets it has changed, and
 *   writes the files, whose owners it may still make.
 * - `command`: at any other time. All of it is done here.
 */
export type Occasion = 'boot' | 'switch' | 'command';

/** How to provision. */
export interface ProvisionWishes {
  readonly occasion: Occasion;
  readonly acceptClock: boolean;
  readonly acceptOlder: boolean;
}

/** Opens the seeds, installs the snapshot and ends a running broker; the next one reads it. @throws Failure */
export async function provisionManifest(
  root: string,
  device: string | undefined,
  manifest: Manifest,
  wishes: ProvisionWishes,
): Promise<Activated> {
  const paths = pathsUnder(root);
  const store = await openPinnedSeeds(paths, { ...openersOf(paths, device), patience: devicePatience });
  try {
    if (wishes.occasion !== 'boot') restoreBrokerAccess(root, store);
    const activated = await provisionWith(root, store, manifest, wishes);
    if (wishes.occasion === 'boot' && store.payload.sealing.lock !== undefined) await settlePush(paths, activated);
    return activated;
  } finally {
    wipeScopes(store.payload.scopes);
  }
}

/** Only a boot can activate what a push left on a machine that locks its seeds. */
async function settlePush(paths: Paths, { failures, held, postponed }: Activated): Promise<void> {
  if (failures.length + held.size + postponed.length > 0) return;
  // Loaded only here: other machines boot without it.
  const { finishAtBoot } = await import('../push/arrival.ts');
  try {
    finishAtBoot(paths);
  } catch (error) {
    // The secrets are active all the same, and the next push reports a damaged record.
    if (!(error instanceof Failure)) throw error;
    warn(error.message, error.hint);
  }
}

/** The same with seeds that are already open, which the caller wipes. @throws Failure */
export async function provisionWith(
  root: string,
  opened: Pick<OpenedSeeds, 'payload' | 'counter'>,
  manifest: Manifest,
  { occasion, acceptClock, acceptOlder }: ProvisionWishes,
): Promise<Activated> {
  const paths = pathsUnder(root);
  const { payload, counter } = opened;
  const host = hostScope(payload.scopes);
  refuseForeignCredentials(paths, manifest.declarations, host);
  const isUp = occasion !== 'boot' && systemIsRunning(root);
  const pending = isUp ? pendingSteps(paths, host) : [];
  const note = (changes: readonly ReleaseChange[]): void => {
    notePending(paths, host, mergedSteps(pending, stepsFor(ours(changes, occasion))));
  };
  const delivery = deliversDirectly(paths, manifest) ? deliveryAt(occasion) : undefined;
  const missing: ReadonlySet<string> = delivery ? await undelivered(root, paths, payload, delivery) : new Set();
  const tpmCounter = await settledCounter(paths, opened, acceptOlder);
  const provisioned = provision(root, paths, manifest.declarations, payload.scopes, {
    at: new Date(),
    counter: payload.counter,
    sealing: payload.sealing,
    tpmCounter,
    undelivered: missing,
    declared: configurationOf(paths) === undefined ? undefined : digestsIn(manifest.files),
    acceptEarlier: acceptClock,
    acceptOlder,
    beforehand: isUp ? note : undefined,
    hook: isUp ? runHook : 'later',
  });
  if (provisioned.changed) await raised(counter);
  if (provisioned.changed && systemIsRunning(root)) stopRunning('auxcred.service');
  const changes = ours(provisioned.changes, occasion);
  if (!delivery) return { ...provisioned, changes, failures: [], pending };
  const { made, failures } = await deliverDirectly(root, payload, missing, delivery);
  warnUnimportable(root, made);
  return {
    ...provisioned,
    changed: provisioned.changed || made.length > 0,
    changes: failures.length === 0 ? changes : deliveredOf(changes, await undelivered(root, paths, payload, delivery)),
    failures,
    pending,
  };
}

/**
 * Refuses a store that was rolled back, then finishes what a power cut left of a seal or of an earlier run: pins of two
 * seeds, a counter that was not raised.
 * @returns the counter's value; undefined without one
 * @throws Failure `older`, unless that is accepted
 */
async function settledCounter(
  paths: Paths,
  { payload: { scopes }, counter }: Pick<OpenedSeeds, 'payload' | 'counter'>,
  isOlderAccepted: boolean,
): Promise<number | undefined> {
  const recorded = activeSnapshot(paths, scopes)?.tpmCounter;
  const isAccepted = isOlderAccepted && counter?.value !== undefined;
  const value = isAccepted ? counter.value : refuseRewound(counter, recorded);
  settlePins(paths, scopes);
  return counter && value !== undefined ? await caughtUp(counter, value, recorded) : undefined;
}

/** At boot and in a switch, files have a unit of their own. */
const deliveryAt = (occasion: Occasion): DirectDelivery =>
  occasion === 'command' ? 'credentials and files' : 'credentials';

/** The changes that auxcred tells units about: in a switch, those that the configuration did not cause. */
const ours = (changes: readonly ReleaseChange[], occasion: Occasion): readonly ReleaseChange[] =>
  occasion === 'switch' ? changes.filter(({ declared }) => declared !== true) : changes;

/**
 * Warns which secrets are unchanged, which hooks did not run and what could not be written; returns the exit status.
 */
export function sayHeld({ held, postponed, untold, failures }: Activated): number {
  for (const failure of failures) warn(failure, 'auxcred provision tries again');
  for (const name of untold)
    warn(
      `the hook of ${name} did not run: the seed of the old value is gone`,
      `tell the service its new value: auxcred get ${name}`,
    );
  for (const name of postponed) sayPostponed(name);
  for (const [name, reason] of held) warn(`${name} is unchanged: ${reason}`, 'auxcred provision tries again');
  return failures.length > 0 ? exitStatus.system : held.size === 0 ? 0 : exitStatus.hook;
}
