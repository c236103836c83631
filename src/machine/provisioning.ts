/** Opens the seeds, activates a manifest and writes what units read without the broker. */
import { existsSync } from 'node:fs';
import { releaseRecord } from '../broker/journal-record.ts';
import { exitStatus, Failure } from '../failure.ts';
import { anyUnit } from '../manifest/declaration.ts';
import { digestsIn } from '../manifest/declared.ts';
import type { Manifest } from '../manifest/manifest.ts';
import { problemText } from '../manifest/problem-text.ts';
import { fillCredentialStore, refuseForeignCredentials } from '../provision/credential-store.ts';
import { writeFiles } from '../provision/file-folder.ts';
import { runHook } from '../provision/hook.ts';
import { manifestOn } from '../provision/machine-problems.ts';
import { notePending, pendingSteps } from '../provision/pending.ts';
import type { ReleaseChange } from '../provision/plan.ts';
import { activeSnapshot } from '../provision/preparing.ts';
import { type Provisioned, provision } from '../provision/provision.ts';
import { mergedSteps, stepsFor, type UnitStep } from '../provision/running-units.ts';
import { undelivered } from '../provision/undelivered.ts';
import { hadSeeds, restoreHint } from '../seeds/lost-seeds.ts';
import { devicePatience, type OpenedSeeds, openPinnedSeeds } from '../seeds/open.ts';
import type { Payload } from '../seeds/payload.ts';
import { settlePins } from '../seeds/pins.ts';
import { hostScope, wipeScopes } from '../seeds/scope.ts';
import { refuseRewound } from '../seeds/tpm-counter.ts';
import { activeSources, type Release, releaseKey } from '../snapshot/snapshot.ts';
import { configurationOf } from '../system/configuration.ts';
import { journal } from '../system/journal.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import { stopRunning, systemdVersion, systemIsRunning } from '../system/systemctl.ts';
import { print, say, warn } from '../terminal/say.ts';
import { restoreBrokerAccess } from './broker-access.ts';
import { caughtUp, raised } from './counter.ts';
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

/** How to provision. */
export interface ProvisionFlags {
  /** Whether this is before units start, at boot: hooks can't run, and no unit has to be told. */
  readonly early: boolean;
  /** Whether the switch of a configuration restarts the units whose secrets it has changed. */
  readonly switching?: boolean;
  readonly acceptClock: boolean;
  readonly acceptOlder: boolean;
}

/** Opens the seeds, installs the snapshot and ends a running broker; the next one reads it. @throws Failure */
export async function provisionManifest(
  root: string,
  device: string | undefined,
  manifest: Manifest,
  flags: ProvisionFlags,
): Promise<Activated> {
  const paths = pathsUnder(root);
  const store = await openPinnedSeeds(paths, { ...openersOf(paths, device), patience: devicePatience });
  try {
    if (!flags.early) restoreBrokerAccess(root, store);
    const activated = await provisionWith(root, store, manifest, flags);
    if (flags.early && store.payload.sealing.lock !== undefined) await settlePush(paths, activated);
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
  { payload, counter }: Pick<OpenedSeeds, 'payload' | 'counter'>,
  manifest: Manifest,
  { early, acceptClock, acceptOlder, switching = false }: ProvisionFlags,
): Promise<Activated> {
  const paths = pathsUnder(root);
  const host = hostScope(payload.scopes);
  refuseForeignCredentials(paths, manifest.declarations, host);
  const running = systemIsRunning(root);
  const pending = early || !running ? [] : pendingSteps(paths, host);
  // The units that write files run after this one, at boot and in a switch, which may also make the files' owners.
  const leavesFiles = early || switching;
  const missing: ReadonlySet<string> = deliversDirectly(paths, manifest)
    ? await undelivered(root, paths, payload, leavesFiles)
    : new Set();
  const note = (changes: readonly ReleaseChange[]): void => {
    notePending(paths, host, mergedSteps(pending, stepsFor(ours(changes, switching))));
  };
  const recorded = activeSnapshot(paths, payload.scopes)?.tpmCounter;
  const remembered = acceptOlder && counter?.value !== undefined ? counter.value : refuseRewound(counter, recorded);
  settlePins(paths, payload.scopes);
  const tpmCounter = counter && remembered !== undefined ? await caughtUp(counter, remembered, recorded) : undefined;
  const provisioned = provision(root, paths, manifest.declarations, payload.scopes, {
    at: new Date(),
    counter: payload.counter,
    sealing: payload.sealing,
    tpmCounter,
    undelivered: missing,
    declared: configurationOf(paths) === undefined ? undefined : digestsIn(manifest.files),
    acceptEarlier: acceptClock,
    acceptOlder,
    beforehand: early || !running ? undefined : note,
    hook: early || !running ? 'later' : runHook,
  });
  if (provisioned.changed) await raised(counter);
  if (provisioned.changed && running) stopRunning('auxcred.service');
  const activated = { ...provisioned, changes: ours(provisioned.changes, switching) };
  if (!deliversDirectly(paths, manifest)) return { ...activated, failures: [], pending };
  const { made, failures } = await deliverDirectly(root, payload, { missing, leavesFiles });
  const isImported = made.some(({ unit, delivery }) => unit === anyUnit && delivery === 'credstore');
  if (isImported && running && systemdVersion() < importingVersion)
    warn(
      "this systemd can't import credentials (254 is the first that can), so secrets without units reach nobody",
      'units = ["web.service"]',
    );
  const changes =
    failures.length === 0
      ? activated.changes
      : deliveredOf(activated.changes, await undelivered(root, paths, payload, leavesFiles));
  return { ...activated, failures, pending, changed: provisioned.changed || made.length > 0, changes };
}

/** The changes that auxcred tells units about: in a switch, those that the configuration did not cause. */
const ours = (changes: readonly ReleaseChange[], switching: boolean): readonly ReleaseChange[] =>
  switching ? changes.filter(({ declared }) => declared !== true) : changes;

/**
 * The changes for units whose secrets were all written. Any other unit is left alone until the next run has written
 * them.
 */
function deliveredOf(changes: readonly ReleaseChange[], undeliveredNow: ReadonlySet<string>): ReleaseChange[] {
  const lacking = new Set(changes.filter((change) => undeliveredNow.has(releaseKey(change))).map(({ unit }) => unit));
  return changes.filter(({ unit }) => !lacking.has(unit));
}

/** Whether anything has to be, or still is, where units read it without the broker. */
const deliversDirectly = (paths: Paths, { declarations }: Manifest): boolean =>
  declarations.some(({ delivery }) => delivery === 'credstore' || delivery === 'file') ||
  [paths.credstoreRecord, paths.fileLinks, paths.files].some((path) => existsSync(path));

/** The first systemd with ImportCredential= (systemd.exec(5)). */
const importingVersion = 254;

/** What {@link deliverDirectly} writes beside what is new. */
export interface DirectDelivery {
  /** What {@link undelivered} found before. */
  readonly missing: ReadonlySet<string>;
  /** Whether to leave out files, which have units of their own at boot and in a switch. */
  readonly leavesFiles: boolean;
}

/**
 * Writes what units read without the broker: encrypted credentials and files. What can't be written does not stop the
 * rest, and the next run tries again.
 * @returns the releases that were written, and why others were not
 */
export async function deliverDirectly(
  root: string,
  { scopes, sealing }: Payload,
  { missing, leavesFiles }: DirectDelivery,
): Promise<{ made: Release[]; failures: string[] }> {
  const paths = pathsUnder(root);
  const releases = activeSnapshot(paths, scopes)?.releases ?? [];
  const sources = activeSources(paths, scopes);
  const made: Release[] = [];
  const failures: string[] = [];
  const attempt = async (work: () => Promise<void> | void): Promise<void> => {
    try {
      await work();
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      failures.push(`${error.message}${error.hint === undefined ? '' : ` (${error.hint})`}`);
    }
  };
  await attempt(async () => {
    const filling = { releases, undelivered: missing, sources, sealing, host: hostScope(scopes) };
    made.push(...(await fillCredentialStore(root, paths, filling)));
  });
  if (leavesFiles || !systemIsRunning(root)) return { made, failures };
  await attempt(() => {
    const { written, failed } = writeFiles(paths, releases, sources, 'all');
    for (const release of written) journal(releaseRecord(release, release));
    made.push(...written);
    failures.push(
      ...new Set([...failed].map(([{ credential }, reason]) => `the file ${credential} was not written: ${reason}`)),
    );
  });
  return { made, failures };
}

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
