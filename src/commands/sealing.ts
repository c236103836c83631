/** Sealing this machine's seeds and putting them in the place of others: what `seal`, `reseal` and `receive` share. */
import { existsSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { parseOpensshKey } from '../age/openssh-key.ts';
import { brokerDropIn, mergedDropIn } from '../deliver/broker-drop-in.ts';
import { brokerGroup, snapshotInForce } from '../deliver/provision.ts';
import { scopeNamePattern } from '../derive/realm.ts';
import { ingredients } from '../derive/recipe.ts';
import { keyId } from '../derive/tree.ts';
import { utf8 } from '../derive/framing.ts';
import { Failure } from '../failure.ts';
import { hostKeyCredentials, openSeeds } from '../store/open.ts';
import { credsLockOf, type KeySource, keySources, type Payload, recipientPattern, type Sealing } from '../store/payload.ts';
import { encodePins, parsePins, type PinnedCounter, type Pins, pinsOf, samePins } from '../store/pins.ts';
import { type Locks, sealPayload } from '../store/seal.ts';
import { scopeName, wipeScopes } from '../store/scope.ts';
import { hostScope, installSnapshot, readFixedFile, type Snapshot } from '../store/snapshot.ts';
import { refuseRewound, type TpmCounter } from '../store/tpm-counter.ts';
import { type CredsKey, credsKeys } from '../system/creds-lock.ts';
import { ensureFolder, groupId, readIfPresent, removeLeftovers, replaceFile } from '../system/files.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import { stopRunning, systemctl, systemIsRunning } from '../system/systemctl.ts';
import { decryptCredential, encryptCredential } from '../system/systemd-creds.ts';
import { counterAt, counterText, incrementCounter, makeCounter } from '../tpm2/nv-counter.ts';
import { parsePcrs, pcrAdvice, type PcrPolicy, readPcrs, unmeasuredPcrs } from '../tpm2/pcr.ts';
import { seal } from '../tpm2/sealed-object.ts';
import { openTpm, type Tpm, tpmPresent } from '../tpm2/tpm.ts';
import { tpmVendor } from '../tpm2/vendor.ts';
import { meansOf } from './means.ts';
import { raised } from './provision.ts';
import { say, warn } from './say.ts';

/** What `--with-key=` names. @throws Failure `usage` */
export function chosenKey(text: string, device: string | undefined): KeySource {
  if (text === 'auto') {
    const withKey = tpmPresent(device) ? 'tpm2' : 'host';
    say(`--with-key=auto chose ${withKey}`);
    return withKey;
  }
  const withKey = keySources.find((known) => known === text);
  if (!withKey) throw new Failure('usage', `--with-key=${text} is not known`, { hint: `one of ${keySources.join(', ')}, auto` });
  return withKey;
}

/**
 * What `--creds-key=` names: what systemd-creds encrypts to.
 * @throws Failure `usage`
 */
export function chosenCredsKey(text: string | undefined, withKey: KeySource): CredsKey | undefined {
  if (text === undefined) return undefined;
  if (withKey !== 'systemd-creds') throw new Failure('usage', '--creds-key needs systemd-creds', { hint: '--with-key=systemd-creds' });
  const key = credsKeys.find((known) => known === text);
  if (!key) throw new Failure('usage', `--creds-key=${text} is not known`, { hint: `one of ${credsKeys.join(', ')}` });
  return key;
}

/**
 * The PCRs that `--tpm2-pcrs=` names: bound now on the running system, and at the first boot of one that is being installed, whose PCRs are not those of the installer.
 * @throws Failure `usage`
 */
export function chosenPcrs(text: string | undefined, { withKey, credsKey }: Pick<Sealing, 'withKey' | 'credsKey'>, root: string): Pick<Sealing, 'pcrs' | 'pcrsAtFirstBoot'> {
  const key = withKey === 'systemd-creds' ? (credsKey ?? 'auto') : withKey;
  if (text === undefined) {
    // What systemd chooses by itself may have no TPM in it.
    if (key !== 'host' && key !== 'auto') warn('no PCR is bound: whoever boots anything on this machine can open the seed', '--tpm2-pcrs=7+14');
    return { pcrs: [], pcrsAtFirstBoot: [] };
  }
  if (key === 'host') throw new Failure('usage', '--tpm2-pcrs needs a TPM', { hint: '--with-key=tpm2' });
  const pcrs = parsePcrs(text);
  for (const advice of pcrAdvice(pcrs)) warn(advice);
  return boundWhenRunning(pcrs, root);
}

/** PCRs to bind now, or at the first boot of a system that is being installed. */
export const boundWhenRunning = (pcrs: readonly number[], root: string): Pick<Sealing, 'pcrs' | 'pcrsAtFirstBoot'> => (systemIsRunning(root) ? { pcrs, pcrsAtFirstBoot: [] } : { pcrs: [], pcrsAtFirstBoot: pcrs });

/** All PCRs of a sealing, whether they are bound by now. */
export const pcrsOf = ({ pcrs, pcrsAtFirstBoot }: Sealing): number[] => [...new Set([...pcrs, ...pcrsAtFirstBoot])].sort((a, b) => a - b);

/** The scope's name is stored, so that a machine that gets another hostname later keeps its secrets. @throws Failure `usage` */
export function hostName(given: string | undefined, paths: Paths): string {
  const name = given ?? new TextDecoder().decode(readIfPresent(paths.hostname) ?? new Uint8Array(0)).trim().toLowerCase();
  if (name === '') throw new Failure('usage', `${paths.hostname} is missing or empty, so this machine has no name`, { hint: '--name=web1' });
  if (!scopeNamePattern.test(name)) throw new Failure('usage', `${name} is not usable as a scope name`, { hint: 'lower-case letters, digits and . _ @ + -, as in --name=web1' });
  return name;
}

/** @throws Failure `usage` */
export function checkedRecipient(text: string): string {
  if (!recipientPattern.test(text)) throw new Failure('usage', `${text.slice(0, 12)} is not an age recipient`, { hint: 'age1..., as age-keygen prints it' });
  return text;
}

/**
 * Seals `payload` as its sealing says, opens the result again with what this machine has, and only then puts it in the place of what was there.
 * Killed at any point it leaves the old seeds or the new ones, and they open. The caller holds the lock, and wipes the payload.
 * @throws Failure and leaves everything as it is, `older` for a snapshot that the TPM has seen replaced, unless `acceptOlder`
 */
export async function sealMachine(root: string, payload: Payload, acceptOlder = false): Promise<void> {
  const paths = pathsUnder(root);
  const { scopes, sealing } = payload;
  const before = pinsIn(paths);
  const sameSeeds = before !== undefined && samePins(before.scopes, pinsOf(scopes, undefined).scopes);
  const inForce = recordable(paths, snapshotInForce(paths, scopes));
  const sealedKey = sealing.withKey === 'systemd-creds' ? await sealedIdentity(paths, sealing) : undefined;
  const sealed = await withLocks(paths, sealing, sealedKey, async (locks) => await sealPayload(payload, locks));
  const means = meansOf(paths, sealing.device);
  const reopened = await openSeeds(sealed, sealedKey ? { ...means, keys: { ssh: undefined, age: undefined, sealed: sealedKey.open } } : means);
  wipeScopes(reopened.payload.scopes);

  const found = await counterOf(sealing, before?.counter);
  if (found && !found.isNew && before?.counter && sameSeeds && !acceptOlder) refuseRewound({ ...before.counter, ...found }, inForce?.tpmCounter);
  const counter = found && await caughtUp(found, inForce);
  const dropInChanged = install(root, paths, payload, sealed, {
    before, sealedKey, counter: counter && { index: counter.index, start: counter.value }, isCounterNew: counter?.isNew === true,
    record: () => { if (inForce) record(root, paths, payload, { ...inForce, tpmCounter: counter && counter.value + 1 }); },
  });
  if (inForce) await raised(counter);
  if (systemIsRunning(root)) {
    // Where a key is left over, an earlier run was killed before systemd heard of the drop-in that does without it.
    if (dropInChanged || (!sealedKey && existsSync(paths.sealedHostKey))) systemctl('daemon-reload');
    // With the same seeds a broker has the same answers, and one that is opening them with a TPM must not be stopped.
    if (!sameSeeds) stopRunning('auxcred.service', 'and starting');
  }
  // Not before systemd knows the drop-in that does without it.
  if (!sealedKey) rmSync(paths.sealedHostKey, { force: true });
  saySealed(payload);
  if (before?.counter && before.counter.index !== counter?.index) say(`the TPM's counter ${counterText(before.counter.index)} is no longer used; tpm2_nvundefine -C o ${counterText(before.counter.index)} removes it`);
}

/** What is in force, if it can be written again; else the next provision does that. */
function recordable(paths: Paths, snapshot: Snapshot | undefined): Snapshot | undefined {
  const gone = snapshot?.releases.flatMap(({ recipe }) => ingredients(recipe)).find((source) => source.form === 'fixed' && readFixedFile(paths, source) === undefined);
  if (!gone) return snapshot;
  warn(`the file of ${gone.scope}/${gone.form === 'fixed' ? gone.path : gone.name} that is in force is gone or damaged, so what is in force does not know of the new seal`, 'auxcred provision');
  return undefined;
}

function saySealed({ scopes, sealing: { withKey, credsKey, pcrs, pcrsAtFirstBoot } }: Payload): void {
  const key = withKey === 'systemd-creds' ? `${withKey} (${credsKey ?? 'auto'})` : withKey;
  const policy = pcrs.length > 0 ? ` with PCR ${pcrs.join('+')}` : pcrsAtFirstBoot.length > 0 ? `, without PCRs until the first boot binds ${pcrsAtFirstBoot.join('+')}` : '';
  for (const scope of scopes) say(`sealed ${scopeName(scope)}${scope.epoch === 1 ? '' : ` (epoch ${String(scope.epoch)})`} to ${key}${policy}; key id ${Buffer.from(keyId(scope.seed)).toString('hex')}`);
}

/** The counter of the TPM that is sealed to. */
interface FoundCounter extends Pick<TpmCounter, 'index' | 'increment'> {
  readonly value: number;
  /** Whether it was made just now. */
  readonly isNew: boolean;
}

/** The counter that is pinned, if this TPM has it, or a new one; undefined without a TPM, or where it makes none. @throws Failure */
async function counterOf({ withKey, device }: Sealing, pinned: PinnedCounter | undefined): Promise<FoundCounter | undefined> {
  if (withKey === 'host' || withKey === 'systemd-creds') return undefined;
  const tpm = await openTpm(device);
  try {
    const value = pinned && await counterAt(tpm, pinned.index);
    const found = pinned && value !== undefined ? { index: pinned.index, value, isNew: false } : await newCounter(tpm);
    return found && { ...found, increment: async () => { await increment(device, found.index); } };
  } finally {
    await tpm.close();
  }
}

async function newCounter(tpm: Tpm): Promise<Omit<FoundCounter, 'increment'> | undefined> {
  try {
    const made = await makeCounter(tpm);
    say(`the TPM's counter ${counterText(made.index)} remembers what is in force`);
    return { ...made, isNew: true };
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    warn(`the TPM keeps no counter for this machine, so an older store that is brought back as a whole goes unnoticed: ${error.message}`, error.hint);
    return undefined;
  }
}

async function increment(device: string | undefined, index: number): Promise<void> {
  const tpm = await openTpm(device);
  try {
    await incrementCounter(tpm, index, undefined);
  } finally {
    await tpm.close();
  }
}

/** Raised where the power went between the snapshot in force and the counter. @throws Failure */
async function caughtUp(counter: FoundCounter, inForce: Snapshot | undefined): Promise<FoundCounter> {
  if (inForce?.tpmCounter !== counter.value + 1) return counter;
  await counter.increment();
  return { ...counter, value: counter.value + 1 };
}

/** The pins of what is sealed; undefined where nothing is, or the file is damaged. */
export function pinsIn(paths: Paths): Pins | undefined {
  const file = readIfPresent(paths.pins);
  try {
    return file && parsePins(file, paths.pins);
  } catch (error) {
    if (error instanceof Failure && error.code === 'malformed') return undefined;
    throw error;
  }
}

/** What is in force with these seeds stays so, and remembers that it was with this store: the one before it is refused from now on. */
function record(root: string, paths: Paths, { scopes, counter, sealing }: Payload, inForce: Snapshot): void {
  installSnapshot(paths, inForce, { ...inForce, counter, sealing }, undefined, hostScope(scopes), groupId(root, brokerGroup), (recipe) => {
    const file = readFixedFile(paths, recipe);
    if (!file) throw new Failure('not-found', `the file of ${recipe.scope}/${recipe.path} that is in force is gone`, { hint: 'run auxcred provision' });
    return file;
  });
}

/** The public half (32 bytes) of the key that opens at boot, whatever is in the file beside it; undefined where there is none. @throws Failure `no-recipient` */
export function sshHostKeyOf(paths: Paths): Uint8Array | undefined {
  const file = readIfPresent(paths.sshHostKey);
  const pair = file && parseOpensshKey(file);
  pair?.seed.fill(0);
  file?.fill(0);
  return pair?.publicKey;
}

/** An age identity that only systemd-creds gives back on this machine. */
interface SealedIdentity {
  readonly recipient: string;
  /** The encrypted identity. */
  readonly credential: Uint8Array;
  /** Decrypts it again; the caller wipes it. */
  readonly open: () => Promise<Uint8Array>;
}

/**
 * The identity that this machine has, or a new one, encrypted as `sealing` says. It stays the same, so that the file that takes the other one's place
 * opens the old seeds and the new ones alike.
 * @throws Failure `system`
 */
async function sealedIdentity(paths: Paths, sealing: Sealing): Promise<SealedIdentity> {
  const { sealed } = meansOf(paths, sealing.device).keys;
  const known = await sealed?.(sealing.device).catch((error: unknown) => {
    if (error instanceof Failure && error.code === 'system') return undefined;
    throw error;
  });
  const identity = known ?? utf8(`${await generateX25519Identity()}\n`);
  try {
    const credential = await encryptCredential(paths.root, hostKeyCredentials.sealed, identity, credsLockOf(sealing));
    const open = async (): Promise<Uint8Array> => await decryptCredential(paths.root, hostKeyCredentials.sealed, credential, sealing.device);
    return { recipient: await identityToRecipient(new TextDecoder().decode(identity).trim()), credential, open };
  } finally {
    identity.fill(0);
  }
}

/** Runs `work` with what the machine is sealed to; the TPM is closed afterwards. */
async function withLocks<T>(paths: Paths, sealing: Sealing, sealedKey: SealedIdentity | undefined, work: (locks: Locks) => Promise<T>): Promise<T> {
  if (sealedKey) return await work({ sshHostKey: undefined, ageHostKey: sealedKey.recipient, sealToTpm: undefined });
  const sshHostKey = sshHostKeyOf(paths);
  if (sealing.withKey === 'host') return await work({ sshHostKey, ageHostKey: sshHostKey ? undefined : await ageHostRecipient(paths), sealToTpm: undefined });
  const tpm = await openTpm(sealing.device);
  try {
    const { manufacturer, model, firmware } = await tpmVendor(tpm);
    say(`the TPM is ${manufacturer} ${model}, firmware ${firmware}`);
    const policy: PcrPolicy = await readPcrs(tpm, sealing.pcrs);
    for (const pcr of unmeasuredPcrs(policy)) warn(`PCR ${String(pcr)} has never been extended: nothing that boots is measured into it`);
    return await work({ sshHostKey, ageHostKey: undefined, sealToTpm: async (secret) => await seal(tpm, secret, policy) });
  } finally {
    await tpm.close();
  }
}

async function ageHostRecipient(paths: Paths): Promise<string> {
  const existing = readIfPresent(paths.ageHostKey);
  if (existing) return await identityToRecipient(new TextDecoder().decode(existing).trim());
  const identity = await generateX25519Identity();
  replaceFile(paths.ageHostKey, utf8(`${identity}\n`), { mode: 0o600 });
  warn(`this machine has no ssh host key, so an age identity was made at ${paths.ageHostKey}`);
  return await identityToRecipient(identity);
}

interface Succession {
  readonly before: Pins | undefined;
  readonly sealedKey: SealedIdentity | undefined;
  readonly counter: PinnedCounter | undefined;
  readonly isCounterNew: boolean;
  /** Lets the snapshot know of the new seeds. */
  readonly record: () => void;
}

/**
 * What the pins and the broker's drop-in say fits the old seeds and the new ones until the new ones are there; a counter that only one of the two has is not asked for meanwhile.
 * @returns whether the broker's drop-in is another one
 */
function install(root: string, paths: Paths, { scopes, sealing }: Payload, sealed: Uint8Array, { before, sealedKey, counter, isCounterNew, record: recordIt }: Succession): boolean {
  for (const folder of [paths.pins, paths.brokerDropIn].map(dirname)) {
    ensureFolder(folder, { mode: 0o755 });
    removeLeftovers(folder);
  }
  const pins = pinsOf(scopes, sealing.device, counter);
  const dropIn = utf8(brokerDropIn(sealing, { sshHostKey: existsSync(paths.sshHostKey), tssGroup: groupId(root, 'tss') !== undefined }));
  const oldDropIn = readIfPresent(paths.brokerDropIn);
  const write = (file: string, bytes: Uint8Array): void => {
    if (Buffer.compare(readIfPresent(file) ?? new Uint8Array(0), bytes) !== 0 || !existsSync(file)) replaceFile(file, bytes, { mode: 0o644 });
  };
  // Seeds that nothing expects are refused, and no other ones are sealed over them: what expects them comes first.
  write(paths.pins, encodePins(before && existsSync(paths.seeds) ? pinsBetween(before, pins, isCounterNew ? undefined : counter) : pins));
  if (sealedKey) replaceFile(paths.sealedHostKey, sealedKey.credential, { mode: 0o600 });
  const merged = utf8(mergedDropIn(new TextDecoder().decode(oldDropIn), new TextDecoder().decode(dropIn)));
  write(paths.brokerDropIn, merged);
  // A broker that starts between here and the end has to have what either of the two needs.
  if (Buffer.compare(oldDropIn ?? new Uint8Array(0), merged) !== 0 && systemIsRunning(root)) systemctl('daemon-reload');
  if (sealing.pcrsAtFirstBoot.length > 0) write(paths.unbound, utf8(''));
  replaceFile(paths.seeds, sealed, { mode: 0o640, group: groupId(root, brokerGroup) });
  recordIt();
  write(paths.pins, encodePins(pins));
  write(paths.brokerDropIn, dropIn);
  if (sealing.pcrsAtFirstBoot.length === 0) rmSync(paths.unbound, { force: true });
  return Buffer.compare(oldDropIn ?? new Uint8Array(0), dropIn) !== 0;
}

/** Pins under which the old seeds open and the new ones do: where the old ones need no TPM, they are the same with one. */
function pinsBetween({ scopes, device }: Pins, next: Pins, counter: PinnedCounter | undefined): Pins {
  return { scopes, device: device ?? next.device, ...(samePins(scopes, next.scopes) ? {} : { next: next.scopes }), ...(counter === undefined ? {} : { counter }) };
}
