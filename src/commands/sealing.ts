/** Sealing this machine's seeds and putting them in the place of others: what `seal`, `reseal` and `receive` share. */
import { existsSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { parseOpensshKey } from '../age/openssh-key.ts';
import { brokerDropIn, mergedDropIn } from '../deliver/broker-drop-in.ts';
import { brokerGroup, snapshotInForce } from '../deliver/provision.ts';
import { keyId } from '../derive/tree.ts';
import { utf8 } from '../derive/framing.ts';
import { Failure } from '../failure.ts';
import { hostKeyCredentials, openSeeds } from '../store/open.ts';
import { credsLockOf, type KeySource, keySources, type Payload, type Sealing } from '../store/payload.ts';
import { encodePins, parsePins, type Pins, pinsOf, samePins } from '../store/pins.ts';
import { type Locks, sealPayload } from '../store/seal.ts';
import { scopeName, wipeScopes } from '../store/scope.ts';
import { hostScope, installSnapshot, readFixedFile } from '../store/snapshot.ts';
import { type CredsKey, credsKeys } from '../system/creds-lock.ts';
import { ensureFolder, groupId, readIfPresent, replaceFile } from '../system/files.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import { stopRunning, systemctl, systemIsRunning } from '../system/systemctl.ts';
import { decryptCredential, encryptCredential } from '../system/systemd-creds.ts';
import { parsePcrs, pcrAdvice, type PcrPolicy, readPcrs, unmeasuredPcrs } from '../tpm2/pcr.ts';
import { openTpm, tpmPresent } from '../tpm2/tpm.ts';
import { tpmVendor } from '../tpm2/vendor.ts';
import { meansOf } from './means.ts';
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
  return systemIsRunning(root) ? { pcrs, pcrsAtFirstBoot: [] } : { pcrs: [], pcrsAtFirstBoot: pcrs };
}

/** @throws Failure `usage` */
export function checkedRecipient(text: string): string {
  if (!/^age1[a-z0-9]+$/.test(text)) throw new Failure('usage', `${text.slice(0, 12)} is not an age recipient`, { hint: 'age1..., as age-keygen prints it' });
  return text;
}

/**
 * Seals `payload` as its sealing says, opens the result again with what this machine has, and only then puts it in the place of what was there.
 * Killed at any point it leaves the old seeds or the new ones, and they open. The caller holds the lock, and wipes the payload.
 * @throws Failure and leaves everything as it is
 */
export async function sealMachine(root: string, payload: Payload): Promise<void> {
  const paths = pathsUnder(root);
  const sealedKey = payload.sealing.withKey === 'systemd-creds' ? await sealedIdentity(paths, payload.sealing) : undefined;
  const sealed = await withLocks(paths, payload.sealing, sealedKey, async (locks) => await sealPayload(payload, locks));
  const means = meansOf(paths, payload.sealing.device);
  const reopened = await openSeeds(sealed, sealedKey ? { ...means, keys: { ssh: undefined, age: undefined, sealed: sealedKey.open } } : means);
  wipeScopes(reopened.payload.scopes);
  install(root, paths, payload, sealed, sealedKey);
  recordCounter(root, paths, payload);
  if (systemIsRunning(root)) {
    systemctl('daemon-reload');
    stopRunning('auxcred.service');
  }
  // Not before systemd knows the drop-in that does without it.
  if (!sealedKey) rmSync(paths.sealedHostKey, { force: true });
  const { withKey, pcrs, pcrsAtFirstBoot } = payload.sealing;
  const key = withKey === 'systemd-creds' ? `${withKey} (${payload.sealing.credsKey ?? 'auto'})` : withKey;
  const policy = pcrs.length > 0 ? ` with PCR ${pcrs.join('+')}` : pcrsAtFirstBoot.length > 0 ? `, without PCRs until the first boot binds ${pcrsAtFirstBoot.join('+')}` : '';
  for (const scope of payload.scopes) say(`sealed ${scopeName(scope)}${scope.epoch === 1 ? '' : ` (epoch ${String(scope.epoch)})`} to ${key}${policy}; key id ${Buffer.from(keyId(scope.seed)).toString('hex')}`);
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
function recordCounter(root: string, paths: Paths, { scopes, counter }: Payload): void {
  const snapshot = snapshotInForce(paths, scopes);
  if (!snapshot) return;
  installSnapshot(paths, { ...snapshot, counter }, hostScope(scopes), groupId(root, brokerGroup), (recipe) => {
    const file = readFixedFile(paths, recipe);
    if (!file) throw new Failure('not-found', `the file of ${recipe.scope}/${recipe.path} that is in force is gone`, { hint: 'run auxcred provision' });
    return file;
  });
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
  if (sealedKey) return await work({ sshHostKey: undefined, ageHostKey: sealedKey.recipient, tpm: undefined });
  const sshKey = readIfPresent(paths.sshHostKey);
  const pair = sshKey && parseOpensshKey(sshKey);
  const sshHostKey = pair?.publicKey;
  pair?.seed.fill(0);
  sshKey?.fill(0);
  if (sealing.withKey === 'host') return await work({ sshHostKey, ageHostKey: sshHostKey ? undefined : await ageHostRecipient(paths), tpm: undefined });
  const tpm = await openTpm(sealing.device);
  try {
    const { manufacturer, model, firmware } = await tpmVendor(tpm);
    say(`the TPM is ${manufacturer} ${model}, firmware ${firmware}`);
    const policy: PcrPolicy = await readPcrs(tpm, sealing.pcrs);
    for (const pcr of unmeasuredPcrs(policy)) warn(`PCR ${String(pcr)} has never been extended: nothing that boots is measured into it`);
    return await work({ sshHostKey, ageHostKey: undefined, tpm: { tpm, policy } });
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

/** What the pins and the broker's drop-in say fits the old seeds and the new ones until the new ones are there. */
function install(root: string, paths: Paths, { scopes, sealing }: Payload, sealed: Uint8Array, sealedKey: SealedIdentity | undefined): void {
  for (const file of [paths.pins, paths.brokerDropIn]) ensureFolder(dirname(file), { mode: 0o755 });
  const before = pinsIn(paths);
  const pins = pinsOf(scopes, sealing.device);
  const dropIn = brokerDropIn(sealing, { sshHostKey: existsSync(paths.sshHostKey), tssGroup: groupId(root, 'tss') !== undefined });
  const oldDropIn = new TextDecoder().decode(readIfPresent(paths.brokerDropIn));
  const write = (file: string, bytes: Uint8Array): void => { replaceFile(file, bytes, { mode: 0o644 }); };
  if (before && existsSync(paths.seeds) && !samePins(before.scopes, pins.scopes)) write(paths.pins, encodePins({ ...before, next: pins.scopes }));
  if (sealedKey) replaceFile(paths.sealedHostKey, sealedKey.credential, { mode: 0o600 });
  const merged = mergedDropIn(oldDropIn, dropIn);
  write(paths.brokerDropIn, utf8(merged));
  // A broker that starts between here and the end has to have what either of the two needs.
  if (merged !== oldDropIn && systemIsRunning(root)) systemctl('daemon-reload');
  if (sealing.pcrsAtFirstBoot.length > 0) write(paths.unbound, utf8(''));
  replaceFile(paths.seeds, sealed, { mode: 0o640, group: groupId(root, brokerGroup) });
  write(paths.pins, encodePins(pins));
  write(paths.brokerDropIn, utf8(dropIn));
  if (sealing.pcrsAtFirstBoot.length === 0) rmSync(paths.unbound, { force: true });
}
