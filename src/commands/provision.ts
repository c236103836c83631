import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { fillCredentialStore, refuseForeignCredentials } from '../deliver/credential-store.ts';
import { writeFiles } from '../deliver/file-folder.ts';
import { withMachineProblems } from '../deliver/machine-problems.ts';
import { runHook } from '../deliver/hook.ts';
import { brokerGroup, provision, type Provisioned, snapshotInForce } from '../deliver/provision.ts';
import { recordRelease } from '../deliver/record.ts';
import { forgetPending, notePending, pendingSteps } from '../deliver/pending.ts';
import { mergedSteps, stepsFor, type TakenStep, takeSteps, type UnitStep } from '../deliver/running-units.ts';
import { type ReleaseChange, withMade } from '../deliver/plan.ts';
import type { Sources } from '../derive/value.ts';
import { exitStatus, Failure } from '../failure.ts';
import { FixedFolder } from '../fixed/folder.ts';
import { fixedValues } from '../fixed/value.ts';
import { anyUnit, rotates } from '../manifest/declaration.ts';
import { type Manifest, readManifest } from '../manifest/manifest.ts';
import { devicePatience, openStore, type OpenStore } from '../store/open.ts';
import type { Payload } from '../store/payload.ts';
import { settlePins } from '../store/pins.ts';
import { seedsOf, wipeScopes } from '../store/scope.ts';
import { hostScope, readFixedFile, type Release, removeStrayGenerations } from '../store/snapshot.ts';
import { refuseRewound } from '../store/tpm-counter.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import { ensureFolder, groupId, removeLeftovers } from '../system/files.ts';
import { refuseForeign } from '../system/held-folder.ts';
import { withLock } from '../system/lock.ts';
import { stopRunning, systemdVersion, systemIsRunning } from '../system/systemctl.ts';
import { problemText } from './check.ts';
import { caughtUp, raised } from './machine-counter.ts';
import { meansOf } from './means.ts';
import { Options } from './options.ts';
import { showPlan } from './plan.ts';
import { counted, print, say, warn } from './say.ts';

/** `auxcred provision`: puts the manifest's secrets in force for the broker, without touching the units' drop-ins. */
export async function provisionCommand(argv: readonly string[]): Promise<number> {
  const options = new Options('provision', argv);
  options.exactly();
  if (options.flag('dry-run')) return await showPlan(options, { dropIns: false });
  const root = options.value('root') ?? '/';
  const early = options.flag('early');
  // A broker that starts while another one is at work, for a hook of it, must not wait for it.
  return await oneAtATime(root, early ? 'leave' : 'wait', async () => {
    const manifest = usableManifest(root);
    if (options.flag('due') && !manifest.declarations.some(({ content }) => rotates(content))) {
      say('no secret rotates');
      return 0;
    }
    const provisioned = await provisionManifest(root, options.value('tpm2-device'), manifest, { early, acceptClock: options.flag('accept-clock'), acceptOlder: options.flag('accept-older') });
    say(provisioned.changed ? `${counted(provisioned.credentials, 'credential')} now in force` : 'nothing to do: the manifest is in force already');
    if (!early && systemIsRunning(root)) tellUnits(root, provisioned, !options.flag('no-restart'));
    return sayHeld(provisioned);
  });
}

/**
 * Runs what changes the store, from reading the manifest to the last drop-in, while nobody else does: a manifest that was read before another one
 * was put in force would undo it.
 * @throws Failure `refused` where somebody else could lead its folders elsewhere
 * @returns the exit status of `work`; 0 where another one is at work and `whenHeld` is to leave
 */
export async function oneAtATime(root: string, whenHeld: 'wait' | 'leave', work: () => Promise<number>): Promise<number> {
  const paths = pathsUnder(root);
  refuseForeign(root, [paths.store, dirname(paths.rendered), paths.credstore, dirname(paths.brokerDropIn)]);
  ensureFolder(paths.store, { mode: 0o750, group: groupId(root, brokerGroup) });
  const status = await withLock(paths.lock, () => {
    say(`another auxcred is at work, ${whenHeld === 'wait' ? 'waiting for it' : 'and puts the manifest in force'}`);
    return whenHeld;
  }, async () => {
    // Of one that was killed.
    removeLeftovers(paths.store);
    new FixedFolder(paths.fixed).sweep();
    removeStrayGenerations(paths);
    return await work();
  });
  return status ?? 0;
}

/** The manifest, all of it valid. @throws Failure `invalid-manifest` after printing every problem. */
export function usableManifest(root: string): Manifest {
  const manifest = withMachineProblems(root, readManifest(root));
  for (const problem of manifest.problems) print(problemText(problem));
  if (manifest.problems.some(({ severity }) => severity === 'error')) {
    throw new Failure('invalid-manifest', 'the manifest has errors, so nothing was changed', { hint: 'mend the lines above; auxcred check looks again' });
  }
  return manifest;
}

/** What was put in force, and why some of it does not lie where units read it. */
export interface InForce extends Provisioned {
  readonly failures: readonly string[];
  /** What units need that an earlier run did not come to. */
  readonly pending: readonly UnitStep[];
}

export interface ProvisionFlags {
  readonly early: boolean;
  readonly acceptClock: boolean;
  readonly acceptOlder: boolean;
}

/** Opens the seeds, installs the snapshot and ends a running broker, whose successor reads it. @throws Failure */
export async function provisionManifest(root: string, device: string | undefined, manifest: Manifest, flags: ProvisionFlags): Promise<InForce> {
  const paths = pathsUnder(root);
  const store = await openStore(paths, { ...meansOf(paths, device), patience: devicePatience });
  try {
    return await provisionWith(root, store, manifest, flags);
  } finally {
    wipeScopes(store.payload.scopes);
  }
}

/** The same with seeds that are open already, which the caller wipes. @throws Failure */
export async function provisionWith(root: string, { payload, counter }: OpenStore, manifest: Manifest, { early, acceptClock, acceptOlder }: ProvisionFlags): Promise<InForce> {
  const paths = pathsUnder(root);
  const host = hostScope(payload.scopes);
  refuseForeignCredentials(paths, manifest.declarations, host);
  const running = systemIsRunning(root);
  const pending = early || !running ? [] : pendingSteps(paths, host);
  const note = (changes: readonly ReleaseChange[]): void => { notePending(paths, host, mergedSteps(pending, stepsFor(changes))); };
  const recorded = snapshotInForce(paths, payload.scopes)?.tpmCounter;
  const remembered = acceptOlder && counter?.value !== undefined ? counter.value : refuseRewound(counter, recorded);
  settlePins(paths, payload.scopes);
  const tpmCounter = counter && remembered !== undefined ? await caughtUp(counter, remembered, recorded) : undefined;
  const provisioned = provision(root, paths, manifest.declarations, payload.scopes, { at: new Date(), counter: payload.counter, sealing: payload.sealing, tpmCounter, acceptEarlier: acceptClock, acceptOlder, beforehand: early || !running ? undefined : note, hook: early || !running ? 'later' : runHook });
  if (provisioned.changed) await raised(counter);
  if (provisioned.changed && running) stopRunning('auxcred.service');
  const { made, failures } = laysOut(paths, manifest) ? await layOut(root, paths, payload, early) : { made: [], failures: [] };
  if (made.some(({ unit }) => unit === anyUnit) && running && systemdVersion() < importingVersion) warn('this systemd imports no credentials by itself (254 is the first that does), so those without units go to nobody', 'units = ["web.service"]');
  const changes = withMade(provisioned.changes, made, manifest.declarations);
  if (changes.length > provisioned.changes.length && !early && running) note(changes);
  return { ...provisioned, failures, pending, changed: provisioned.changed || made.length > 0, changes };
}

/** Whether something is to lie, or still lies, where units read it without the broker. */
const laysOut = (paths: Paths, { declarations }: Manifest): boolean =>
  declarations.some(({ delivery }) => delivery === 'credstore' || delivery === 'file') || [paths.credstoreRecord, paths.fileLinks, paths.files].some((path) => existsSync(path));

/** The first systemd with ImportCredential= (systemd.exec(5)). */
const importingVersion = 254;

/**
 * Lays out what is in force but not asked for at run time; with `early`, as at boot, but for the files, which have a unit of their own then.
 * What can't be laid out keeps nothing else from it, and the next run tries again.
 * @returns the releases that were laid out anew
 */
export async function layOut(root: string, paths: Paths, { scopes, sealing }: Payload, early: boolean): Promise<{ made: Release[]; failures: string[] }> {
  const releases = snapshotInForce(paths, scopes)?.releases ?? [];
  const seedOf = seedsOf(scopes);
  const sources: Sources = { seedOf, fixedValue: fixedValues(seedOf, (recipe) => readFixedFile(paths, recipe)) };
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
  await attempt(async () => { made.push(...(await fillCredentialStore(root, paths, releases, sources, sealing, hostScope(scopes)))); });
  if (early || !systemIsRunning(root)) return { made, failures };
  await attempt(() => {
    const { written, failed } = writeFiles(paths, releases, sources, 'all');
    for (const release of written) recordRelease(release, release);
    made.push(...written);
    failures.push(...new Set([...failed].map(([{ credential }, reason]) => `the file ${credential} is not written: ${reason}`)));
  });
  return { made, failures };
}

/**
 * Lets the units that run see what changed, now or in a run that was cut short, and says so.
 * @param restart - whether they are not to be left alone
 * @returns what was done
 */
export function tellUnits(root: string, { changes, pending }: InForce, restart: boolean): readonly TakenStep[] {
  const taken = restart ? takeSteps(mergedSteps(pending, stepsFor(changes))) : [];
  forgetPending(pathsUnder(root));
  for (const { unit, declared, action } of taken) {
    const why = changes.filter((change) => change.unit === declared).map((change) => `${change.credential} (${change.why})`);
    say(`${action} ${unit}: ${why.length > 0 ? why.join(', ') : 'an earlier run was ended before it came to this'}`);
  }
  return taken;
}

/** Says which secrets stay what they are, which hooks did not run and what could not be laid out, and returns the exit status. */
export function sayHeld({ held, postponed, untold, failures }: InForce): number {
  for (const failure of failures) warn(failure, 'auxcred provision tries again');
  for (const name of untold) warn(`the hook of ${name} did not run: the seed that its old value came from is gone`, `tell the service its new value: auxcred get ${name}`);
  for (const name of postponed) say(`${name} stays what it is until its hook can run: auxcred provision, once the machine is up`);
  for (const [name, reason] of held) warn(`${name} stays what it is: ${reason}`, 'auxcred provision tries again');
  return failures.length > 0 ? exitStatus.system : held.size === 0 ? 0 : exitStatus.hook;
}
