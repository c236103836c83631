import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { fillCredentialStore, refuseForeignCredentials } from '../provision/credential-store.ts';
import { writeFiles } from '../provision/file-folder.ts';
import { runHook } from '../provision/hook.ts';
import { brokerGroup, provision, type Provisioned, snapshotInForce } from '../provision/provision.ts';
import { recordRelease } from '../broker/journal-record.ts';
import { forgetPending, notePending, pendingSteps } from '../provision/pending.ts';
import { mergedSteps, nobody, stepsFor, takeSteps, type Told, type UnitStep } from '../provision/running-units.ts';
import type { ReleaseChange } from '../provision/plan.ts';
import { undelivered } from '../provision/undelivered.ts';
import { failuresOf, unfinishedService, type UnitFailure, unitsFailure } from '../provision/unit-jobs.ts';
import type { Sources } from '../derive/value.ts';
import { exitStatus, Failure } from '../failure.ts';
import { FixedFolder } from '../fixed/folder.ts';
import { fixedValues } from '../fixed/value.ts';
import { anyUnit, rotates } from '../manifest/declaration.ts';
import type { Manifest } from '../manifest/manifest.ts';
import { devicePatience, openStore, type OpenStore } from '../seeds/open.ts';
import type { Payload } from '../seeds/payload.ts';
import { settlePins } from '../seeds/pins.ts';
import { seedsOf, wipeScopes } from '../seeds/scope.ts';
import { hostScope, readFixedFile, type Release, releaseKey, removeStrayGenerations } from '../snapshot/snapshot.ts';
import { refuseRewound } from '../seeds/tpm-counter.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import { ensureFolder, groupId, removeLeftovers } from '../system/files.ts';
import { refuseForeign } from '../system/held-folder.ts';
import { withLock } from '../system/lock.ts';
import { stopRunning, systemdVersion, systemIsRunning } from '../system/systemctl.ts';
import { manifestOn, problemText } from './check.ts';
import { caughtUp, raised } from '../machine/counter.ts';
import { meansOf } from '../machine/openers.ts';
import { Options } from '../cli/options.ts';
import { cutShort, sayPostponed, showPlan } from './plan.ts';
import { counted, print, say, sayProgress, warn } from '../terminal/say.ts';

/** `auxcred provision`: puts the manifest's secrets in force for the broker, without touching the units' drop-ins. */
export async function provisionCommand(argv: readonly string[]): Promise<number> {
  const options = new Options('provision', argv);
  options.exactly();
  if (options.flag('dry-run')) return await showPlan(options, { dropIns: false });
  const root = options.value('root') ?? '/';
  const early = options.flag('early');
  let told = nobody;
  // A broker that starts while another one is at work, for a hook of it, must not wait for it.
  const status = await oneAtATime(root, early ? 'leave' : 'wait', async () => {
    const manifest = usableManifest(root);
    if (options.flag('due') && !manifest.declarations.some(({ content }) => rotates(content))) {
      say('no secret rotates');
      return 0;
    }
    const provisioned = await provisionManifest(root, options.value('tpm2-device'), manifest, { early, acceptClock: options.flag('accept-clock'), acceptOlder: options.flag('accept-older') });
    say(provisioned.changed ? `${counted(provisioned.credentials, 'credential')} now in force` : 'nothing to do: the manifest is in force already');
    if (!early && systemIsRunning(root)) told = tellUnits(root, provisioned, !options.flag('no-restart'));
    return sayHeld(provisioned);
  });
  return await unitsStatus(status, told, !options.flag('no-wait'));
}

/**
 * Runs what changes the store, from reading the manifest to the last drop-in, while nobody else does: a manifest that was read before another one
 * was put in force would undo it.
 * @throws Failure `refused` where somebody else could lead its folders elsewhere
 * @returns the exit status of `work`; 0 where another one is at work and `whenHeld` is to leave
 */
export async function oneAtATime(root: string, whenHeld: 'wait' | 'leave', work: () => Promise<number>): Promise<number> {
  const paths = pathsUnder(root);
  const folders = [paths.store, dirname(paths.rendered), dirname(paths.pins), paths.credstore, dirname(paths.brokerDropIn)];
  refuseForeign(root, folders);
  ensureFolder(paths.store, { mode: 0o750, group: groupId(root, brokerGroup) });
  const status = await withLock(paths.lock, () => {
    say(`another auxcred is at work, ${whenHeld === 'wait' ? 'waiting for it' : 'and puts the manifest in force'}`);
    return whenHeld;
  }, async () => {
    // Left behind by a killed run.
    for (const folder of folders) removeLeftovers(folder);
    new FixedFolder(paths.fixed).sweep();
    removeStrayGenerations(paths);
    return await work();
  });
  return status ?? 0;
}

/** The manifest, all of it valid. @throws Failure `invalid-manifest` after printing every problem. */
export function usableManifest(root: string): Manifest {
  const manifest = manifestOn(root);
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
  const astray: ReadonlySet<string> = laysOut(paths, manifest) ? await undelivered(root, paths, payload, early) : new Set();
  const note = (changes: readonly ReleaseChange[]): void => { notePending(paths, host, mergedSteps(pending, stepsFor(changes))); };
  const recorded = snapshotInForce(paths, payload.scopes)?.tpmCounter;
  const remembered = acceptOlder && counter?.value !== undefined ? counter.value : refuseRewound(counter, recorded);
  settlePins(paths, payload.scopes);
  const tpmCounter = counter && remembered !== undefined ? await caughtUp(counter, remembered, recorded) : undefined;
  const provisioned = provision(root, paths, manifest.declarations, payload.scopes, { at: new Date(), counter: payload.counter, sealing: payload.sealing, tpmCounter, undelivered: astray, acceptEarlier: acceptClock, acceptOlder, beforehand: early || !running ? undefined : note, hook: early || !running ? 'later' : runHook });
  if (provisioned.changed) await raised(counter);
  if (provisioned.changed && running) stopRunning('auxcred.service');
  if (!laysOut(paths, manifest)) return { ...provisioned, failures: [], pending };
  const { made, failures } = await layOut(root, paths, payload, astray, early);
  if (made.some(({ unit }) => unit === anyUnit) && running && systemdVersion() < importingVersion) warn('this systemd imports no credentials by itself (254 is the first that does), so those without units go to nobody', 'units = ["web.service"]');
  const changes = failures.length === 0 ? provisioned.changes : deliveredOf(provisioned.changes, await undelivered(root, paths, payload, early));
  return { ...provisioned, failures, pending, changed: provisioned.changed || made.length > 0, changes };
}

/** The changes of units that find all of theirs: one that does not stays as it is, and the next run, which tries again, tells it. */
function deliveredOf(changes: readonly ReleaseChange[], undeliveredNow: ReadonlySet<string>): ReleaseChange[] {
  const lacking = new Set(changes.filter((change) => undeliveredNow.has(releaseKey(change))).map(({ unit }) => unit));
  return changes.filter(({ unit }) => !lacking.has(unit));
}

/** Whether something is to lie, or still lies, where units read it without the broker. */
const laysOut = (paths: Paths, { declarations }: Manifest): boolean =>
  declarations.some(({ delivery }) => delivery === 'credstore' || delivery === 'file') || [paths.credstoreRecord, paths.fileLinks, paths.files].some((path) => existsSync(path));

/** The first systemd with ImportCredential= (systemd.exec(5)). */
const importingVersion = 254;

/**
 * Lays out what is in force but not asked for at run time; with `early`, as at boot, but for the files, which have a unit of their own then.
 * What can't be laid out keeps nothing else from it, and the next run tries again.
 * @param astray - what {@link undelivered} found before
 * @returns the releases that were laid out anew
 */
export async function layOut(root: string, paths: Paths, { scopes, sealing }: Payload, astray: ReadonlySet<string>, early: boolean): Promise<{ made: Release[]; failures: string[] }> {
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
  await attempt(async () => { made.push(...(await fillCredentialStore(root, paths, { releases, undelivered: astray, sources, sealing, host: hostScope(scopes) }))); });
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
 * @returns what is being done
 */
export function tellUnits(root: string, { changes, pending }: InForce, restart: boolean): Told {
  const told = restart ? takeSteps(mergedSteps(pending, stepsFor(changes))) : nobody;
  forgetPending(pathsUnder(root));
  for (const { unit, declared, action } of told.taken) {
    const why = changes.filter((change) => change.unit === declared).map((change) => `${change.credential} (${change.why})`);
    say(`${action} ${unit}: ${why.length > 0 ? why.join(', ') : cutShort}`);
  }
  return told;
}

/**
 * Waits for the units that were told, and says which do not run and why. Called without the lock, since a unit's own start may need it.
 * @param status - the exit status until here
 * @param wait - whether to wait, and not only say which units systemd refused to touch
 * @returns the exit status with that
 */
export async function unitsStatus(status: number, told: Told, wait: boolean): Promise<number> {
  const failures = await unitFailures(told, wait);
  for (const { unit, reason } of failures) say(`${unit} ${reason}`);
  if (failures.length > 0) say(`hint: ${unitsFailure(failures).hint ?? ''}`);
  else if (wait && told.taken.length > 0) say(`${counted(told.taken.length, 'unit')} ${told.taken.length === 1 ? 'runs' : 'run'} with what changed`);
  return status === 0 && failures.length > 0 ? exitStatus['unit-failed'] : status;
}

/** The units that were told and do not run. @param wait - whether to wait until that is known */
export async function unitFailures(told: Told, wait: boolean): Promise<readonly UnitFailure[]> {
  const own = wait && told.taken.length > 0 ? unfinishedService() : undefined;
  if (own !== undefined) say(`not waiting for units: ${own}, which this is part of, may be what they wait for`);
  if (!wait || own !== undefined) return [...told.refused].map(([unit, reason]) => ({ unit, reason }));
  const failures = await failuresOf(told, (waiting) => { sayProgress(waiting.length === 0 ? '' : `waiting for ${waiting.join(', ')}`); });
  sayProgress('');
  return failures;
}

/** Says which secrets stay what they are, which hooks did not run and what could not be laid out, and returns the exit status. */
export function sayHeld({ held, postponed, untold, failures }: InForce): number {
  for (const failure of failures) warn(failure, 'auxcred provision tries again');
  for (const name of untold) warn(`the hook of ${name} did not run: the seed that its old value came from is gone`, `tell the service its new value: auxcred get ${name}`);
  for (const name of postponed) sayPostponed(name);
  for (const [name, reason] of held) warn(`${name} stays what it is: ${reason}`, 'auxcred provision tries again');
  return failures.length > 0 ? exitStatus.system : held.size === 0 ? 0 : exitStatus.hook;
}
