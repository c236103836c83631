/** Seals this machine's seeds and replaces the old ones, for `seal`, `reseal` and `receive`. */
import { existsSync, rmSync, symlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { parseHeader } from '../age/header.ts';
import { sameBytes, utf8 } from '../bytes.ts';
import type { Fixed } from '../derive/recipe.ts';
import { ingredients } from '../derive/recipe.ts';
import { dropInFor, lackingAccess } from '../drop-ins/broker-access.ts';
import { mergedDropIn } from '../drop-ins/broker-drop-in.ts';
import { Failure, messageOf } from '../failure.ts';
import { readLog } from '../measured/measured-log.ts';
import { encodeSummary, summaryOf } from '../measured/summary.ts';
import { activeSnapshot } from '../provision/preparing.ts';
import { brokerGroup } from '../provision/provision.ts';
import { closedAlternatives, type OpenedSeeds, type Openers, openSeeds } from '../seeds/open.ts';
import { isBoundLater, type KeySource, type Payload, type Sealing, usesTpm } from '../seeds/payload.ts';
import {
  establishedPins,
  type PinnedCounter,
  type Pins,
  pinsOf,
  refuseUnpinned,
  samePins,
  usablePins,
  writePins,
} from '../seeds/pins.ts';
import { policyText, tpmObjects } from '../seeds/policies.ts';
import { hostScope, wipeScopes } from '../seeds/scope.ts';
import { sealPayload } from '../seeds/seal.ts';
import { refuseRewound, type TpmCounter } from '../seeds/tpm-counter.ts';
import { installSnapshot, readFixedFile, type Snapshot } from '../snapshot/snapshot.ts';
import { configurationOf, moduleOptions } from '../system/configuration.ts';
import {
  ensureFolder,
  groupId,
  readIfPresent,
  removeLeftovers,
  replaceFile,
  replaceIfChanged,
} from '../system/files.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import { stopRunning, systemctl, systemIsRunning } from '../system/systemctl.ts';
import { say, warn } from '../terminal/say.ts';
import type { PcrValues } from '../tpm2/policy.ts';
import type { RecordedSrk } from '../tpm2/srk.ts';
import { indexText } from '../tpm2/wire.ts';
import { caughtUp, counterOf, hasCounter, raised } from './counter.ts';
import { type SealedIdentity, sealedIdentity, withSealingKeys } from './keys.ts';
import { openersOf } from './openers.ts';
import { saySealed, sayUnconfigured } from './sealing-report.ts';

/** How seeds are sealed. */
export interface SealWishes {
  /** Whether to accept a snapshot that is older than the TPM's counter. */
  readonly acceptOlder: boolean;
  /**
   * The SRK of the TPM that opened the seeds, the only TPM to seal to; undefined if something else opened them, or they
   * are new.
   */
  readonly srk: RecordedSrk | undefined;
  /** Whether the broker may have refused the present seeds: one that did keeps refusing for some seconds. */
  readonly wasClosed: boolean;
  /** Whether PCRs that nothing was measured into may be all that is bound. */
  readonly acceptWeak?: boolean;
  /** The literal PCR values that open the seeds, from those of this boot; by default these alone. */
  readonly branches?: (current: PcrValues) => readonly PcrValues[];
  /** The TPM as the machine will find it, if that is not how it is reached now: an installer may have another way. */
  readonly installed?: { readonly device: string | undefined } | undefined;
  /** Called once the seeds are sealed and were opened again, right before they replace the old ones. */
  readonly beforehand?: () => void;
}

/**
 * Seals `payload` as its sealing says, opens the result with this machine's own keys, and only then replaces the old
 * seeds. If killed at any point, it leaves either the old seeds or the new ones, and they open. The caller holds the
 * lock, and wipes the payload.
 * @returns the counter of the TPM that they are sealed to; undefined if it has none
 * @throws Failure and leaves everything unchanged: `older` for a snapshot that is older than the TPM's counter,
 * `other-tpm` for a TPM that did not open the seeds; where a configuration renders them, `not-pinned` if its pins, and
 * `refused` if its unit files do not fit
 */
export async function sealMachine(
  root: string,
  given: Payload,
  { acceptOlder, wasClosed, acceptWeak = false, srk, branches, beforehand, installed }: SealWishes,
): Promise<TpmCounter | undefined> {
  const paths = pathsUnder(root);
  const { scopes, sealing: reached } = given;
  const sealing = installed && reached.device !== undefined ? { ...reached, ...installed } : reached;
  const payload = { ...given, sealing };
  refuseUnpinned(paths, pinsOf(scopes, sealing.device));
  const snapshot = activeSnapshot(paths, scopes);
  refuseUnfit(root, paths, sealing, snapshot?.sealing.withKey);
  const before = usablePins(paths);
  const sameSeeds = before !== undefined && samePins(before.scopes, pinsOf(scopes, undefined).scopes);
  const active = snapshot ? recordable(paths, snapshot) : firstSnapshot(paths, payload);
  const sealedKey = sealing.withKey === 'systemd-creds' ? await sealedIdentity(paths, reached) : undefined;
  const sealed = await withSealingKeys(
    paths,
    reached,
    { sealedKey, srk, branches, acceptWeak },
    async (keys) => await sealPayload(payload, keys),
  );
  const openers = openersOf(paths, reached.device);
  const reopened = await testOpened(
    sealed,
    sealedKey ? { ...openers, keys: { ssh: undefined, age: undefined, sealed: sealedKey.open } } : openers,
  );

  const found = await counterOf(reached, before?.counter, reopened.srk);
  if (found && !found.isNew && before?.counter && sameSeeds && !acceptOlder)
    refuseRewound({ ...before.counter, ...found }, active?.tpmCounter);
  const counter = found && { ...found, value: await caughtUp(found, found.value, active?.tpmCounter) };
  beforehand?.();
  const dropInChanged = install(root, paths, payload, sealed, {
    sealedKey,
    counter: counter && { index: counter.index, start: counter.value },
    isCounterNew: counter?.isNew === true,
    record: () => {
      if (active) record(root, paths, payload, { ...active, tpmCounter: counter && counter.value + 1 });
    },
  });
  recordBoot(paths, sealing);
  const raise = active ? await raised(counter) : 0;
  if (systemIsRunning(root)) {
    // A key that is left over: an earlier run was killed before systemd loaded the drop-in that no longer needs it.
    if (dropInChanged || (!sealedKey && existsSync(paths.sealedHostKey))) systemctl('daemon-reload');
    // With the same seeds a broker gives the same answers, and one that is opening them with a TPM must not be stopped.
    if (!sameSeeds || wasClosed) stopRunning('auxcred.service', 'and starting');
  }
  // Only after systemd has loaded the drop-in that no longer needs it.
  if (!sealedKey) rmSync(paths.sealedHostKey, { force: true });
  saySealed(paths, payload);
  sayUnconfigured(paths, pinsOf(scopes, sealing.device, counter && { index: counter.index, start: counter.value }));
  if (before?.counter && before.counter.index !== counter?.index) await sayUnused(before.counter.index, before.device);
  return counter && { ...counter, start: counter.value, value: counter.value + raise };
}

/** Says how to remove a counter, unless it was in a TPM that is no longer here. */
async function sayUnused(index: number, device: string | undefined): Promise<void> {
  if (await hasCounter(device, index))
    say(`the TPM's counter ${indexText(index)} is no longer used; tpm2_nvundefine -C o ${indexText(index)} removes it`);
}

/**
 * Opens seeds that were just sealed, under each of their policies that the TPM accepts now. Says which it does not.
 * @returns the SRK of the TPM that they are sealed to; undefined without one
 * @throws Failure if nothing opens them, unless a lock alone keeps them closed until the next boot
 */
async function testOpened(sealed: Uint8Array, openers: Openers): Promise<Pick<OpenedSeeds, 'srk'>> {
  const [first, ...more] = tpmObjects(parseHeader(sealed).stanzas);
  try {
    const { payload, srk } = await openSeeds(sealed, openers);
    wipeScopes(payload.scopes);
    for (const { policy, failure } of more.length > 0 ? await closedAlternatives(sealed, openers) : [])
      warn(`${policyText(policy)} could not be tried, since it does not open now: ${failure.message}`, failure.hint);
    return { srk };
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== 'until-boot' || !first) throw error;
    warn(
      'the new file could not be test-opened, because its lock opens only at the next boot. Until then, keep the key ' +
        'or words that opened the seed now; if the broker ends before, no unit with secrets starts',
    );
    return { srk: { srkName: first.srkName, srkTemplate: first.srkTemplate } };
  }
}

/** Keeps what this boot measured, so that `doctor` can say later what changed. Nothing depends on it. */
function recordBoot(paths: Paths, { withKey, pcrs }: Sealing): void {
  const isBound = usesTpm(withKey) && pcrs.length > 0;
  try {
    const log = isBound ? readLog({ firmware: paths.firmwareLog, userspace: paths.userspaceLog }) : undefined;
    if (log) replaceFile(paths.measured, encodeSummary(summaryOf(log)), { mode: 0o600 });
    else rmSync(paths.measured, { force: true });
  } catch (error) {
    rmSync(paths.measured, { force: true });
    warn(`what this boot measured can't be kept, so auxcred doctor won't explain a change: ${messageOf(error)}`);
  }
}

/** The active snapshot, if all its files are there to write it again; else the next provision does that. */
function recordable(paths: Paths, snapshot: Snapshot): Snapshot | undefined {
  const gone = snapshot.releases
    .flatMap(({ recipe }) => ingredients(recipe))
    .find((source) => source.form === 'fixed' && readFixedFile(paths, source) === undefined);
  if (!gone) return snapshot;
  warn(
    `the file of ${gone.scope}/${gone.form === 'fixed' ? gone.path : gone.name} is gone or damaged, so the ` +
      'active snapshot still records the old sealing',
    'auxcred provision',
  );
  return undefined;
}

/**
 * What is recorded if nothing was ever activated: a configuration's pins name the TPM's counter without a start, so
 * every store needs a number.
 */
const firstSnapshot = (paths: Paths, { sealing }: Payload): Snapshot | undefined =>
  configurationOf(paths) !== undefined && usesTpm(sealing.withKey)
    ? {
        counter: 0,
        sealing,
        releases: [],
        history: new Map(),
        fingerprints: new Map(),
        fingerprintLabel: 'release',
      }
    : undefined;

/** The lines that auxcred.service needs for this sealing. */
const dropInOf = (root: string, paths: Paths, sealing: Sealing): string =>
  dropInFor(root, sealing, existsSync(paths.sshHostKey));

/**
 * Refuses a sealing that the configuration's unit files do not fit.
 * @param present - the key of the present seal, which the broker needs until the new one is there
 * @throws Failure `refused` if the configuration's unit files keep the broker from opening seeds that are so sealed
 */
function refuseUnfit(root: string, paths: Paths, sealing: Sealing, present: KeySource | undefined): void {
  const configuration = configurationOf(paths);
  if (configuration === undefined) return;
  const lacking = lackingAccess(paths, dropInOf(root, paths, sealing));
  if (lacking.length === 0) return;
  const device = sealing.device === undefined ? '' : `, ${moduleOptions.device} = "${sealing.device}"`;
  const also =
    present === undefined || present === sealing.withKey ? '' : `, ${moduleOptions.alsoWithKey} = [ "${present}" ]`;
  const hostKey =
    sealing.withKey === 'host' ? `, ${moduleOptions.sshHostKey} = ${String(existsSync(paths.sshHostKey))}` : '';
  throw new Failure(
    'refused',
    `the configuration does not give auxcred.service what --with-key=${sealing.withKey} needs: ${lacking.join(', ')}`,
    {
      hint:
        `${moduleOptions.withKey} = "${sealing.withKey}"${also}${hostKey}${device}; then ${configuration.switch}, ` +
        'and seal again',
    },
  );
}

/** Keeps what is active with these seeds, and ties it to this store: the previous store is refused from now on. */
function record(root: string, paths: Paths, { scopes, counter, sealing }: Payload, active: Snapshot): void {
  const fileOf = (recipe: Fixed): Uint8Array => {
    const file = readFixedFile(paths, recipe);
    if (file) return file;
    throw new Failure('not-found', `the active file of ${recipe.scope}/${recipe.path} is gone`, {
      hint: 'run auxcred provision',
    });
  };
  const snapshot = { ...active, counter, sealing };
  const group = groupId(root, brokerGroup);
  installSnapshot(paths, { before: active, snapshot, host: hostScope(scopes), group, fileOf });
}

/** What comes with new seeds. */
interface Succession {
  readonly sealedKey: SealedIdentity | undefined;
  readonly counter: PinnedCounter | undefined;
  readonly isCounterNew: boolean;
  /** Records the new seeds in the snapshot. */
  readonly record: () => void;
}

/**
 * Makes the pins and the broker's drop-in fit both the old and the new seeds until the new ones are in place; meanwhile
 * a counter that only one of them has is not required.
 * @returns whether the broker's drop-in changed
 */
function install(
  root: string,
  paths: Paths,
  { scopes, sealing }: Payload,
  sealed: Uint8Array,
  { sealedKey, counter, isCounterNew, record: recordIt }: Succession,
): boolean {
  const isRendered = configurationOf(paths) !== undefined;
  for (const folder of isRendered ? [] : [paths.pins, paths.brokerDropIn].map(dirname)) {
    ensureFolder(folder, { mode: 0o755 });
    removeLeftovers(folder);
  }
  const pins = pinsOf(scopes, sealing.device, counter);
  const dropIn = utf8(dropInOf(root, paths, sealing));
  const oldDropIn = readIfPresent(paths.brokerDropIn);
  const write = (file: string, bytes: Uint8Array): void => {
    replaceIfChanged(file, bytes, { mode: 0o644 });
  };
  // Seeds without pins are refused, and can't be sealed over: the pins are written first.
  const established = establishedPins(paths);
  writePins(
    paths,
    established === undefined || established === 'damaged'
      ? { ...pins, next: pins.scopes }
      : pinsBetween(established, pins, isCounterNew ? undefined : counter),
  );
  if (sealedKey) replaceFile(paths.sealedHostKey, sealedKey.credential, { mode: 0o600 });
  const merged = utf8(mergedDropIn(new TextDecoder().decode(oldDropIn), new TextDecoder().decode(dropIn)));
  if (!isRendered) write(paths.brokerDropIn, merged);
  // A broker that starts before the end needs access to whatever either of the two needs.
  if (!isRendered && !sameBytes(oldDropIn, merged) && systemIsRunning(root)) systemctl('daemon-reload');
  if (isBoundLater(sealing)) write(paths.unbound, utf8(''));
  replaceFile(paths.seeds, sealed, { mode: 0o640, group: groupId(root, brokerGroup) });
  recordIt();
  writePins(paths, pins);
  if (!isRendered) {
    write(paths.brokerDropIn, dropIn);
    startAtBoot(paths, sealing.lock !== undefined);
  }
  if (!isBoundLater(sealing)) rmSync(paths.unbound, { force: true });
  return !isRendered && !sameBytes(oldDropIn, dropIn);
}

/** A broker that locks the seeds starts at each boot, whether or not a unit asks for it. */
function startAtBoot({ brokerAtBoot }: Paths, isWanted: boolean): void {
  rmSync(brokerAtBoot, { force: true });
  if (!isWanted) return;
  ensureFolder(dirname(brokerAtBoot), { mode: 0o755 });
  symlinkSync('/usr/lib/systemd/system/auxcred.service', brokerAtBoot);
}

/** Pins under which both the old and the new seeds open: old seeds that need no TPM also open with a TPM pinned. */
function pinsBetween({ scopes, device }: Pins, next: Pins, counter: PinnedCounter | undefined): Pins {
  return {
    scopes,
    device: device ?? next.device,
    ...(samePins(scopes, next.scopes) ? {} : { next: next.scopes }),
    ...(counter === undefined ? {} : { counter }),
  };
}

/** The parts of a sealing that a TPM policy is made of. */
export type WantedPolicy = Pick<Sealing, 'pcrs' | 'signed' | 'pcrlock' | 'lock'>;
/** The same, bound now or later. */
export type BoundPolicy = WantedPolicy & Pick<Sealing, 'pcrsAtFirstBoot' | 'authorityAtFirstBoot'>;

/** A policy to bind now, or at the first boot of a system that is being installed. */
export function boundWhenRunning({ pcrs, signed, pcrlock, lock }: WantedPolicy, root: string): BoundPolicy {
  const authority = {
    ...(signed && { signed }),
    ...(pcrlock !== undefined && { pcrlock }),
    ...(lock !== undefined && { lock }),
  };
  if (systemIsRunning(root)) return { pcrs, pcrsAtFirstBoot: [], ...authority };
  const isLater = Object.keys(authority).length > 0;
  return { pcrs: [], pcrsAtFirstBoot: pcrs, ...authority, ...(isLater && { authorityAtFirstBoot: true }) };
}

/** The policy of a sealing, bound or not yet. */
export const wantedPolicy = ({ pcrs, pcrsAtFirstBoot, signed, pcrlock, lock }: Sealing): WantedPolicy => ({
  pcrs: [...new Set([...pcrs, ...pcrsAtFirstBoot])].sort((a, b) => a - b),
  signed,
  pcrlock,
  lock,
});

/** A sealing with another policy. */
export function withPolicy(sealing: Omit<Sealing, keyof BoundPolicy>, policy: BoundPolicy): Sealing {
  const { withKey, credsKey, recovery, device } = sealing;
  return { withKey, ...(credsKey && { credsKey }), recovery, device, ...policy };
}
