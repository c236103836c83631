/**
 * The keys of this machine that its seeds can be sealed to: the ssh host key, an age identity of its own or one under
 * systemd-creds, the TPM.
 */
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { parseOpensshKey } from '../age/openssh-key.ts';
import { utf8 } from '../bytes.ts';
import { Failure, resealHint } from '../failure.ts';
import { hostKeyCredentials } from '../seeds/open.ts';
import { credsLockOf, type Sealing } from '../seeds/payload.ts';
import { isWithinReach, policiesOf, policiesText } from '../seeds/policies.ts';
import type { SealingKeys } from '../seeds/seal.ts';
import { readIfPresent, replaceFile, textIfPresent } from '../system/files.ts';
import { isUnderHostSecret } from '../system/host-credential.ts';
import type { Paths } from '../system/paths.ts';
import { decryptCredential, encryptCredential } from '../system/systemd-creds.ts';
import { say, warn } from '../terminal/say.ts';
import { bindingPcrs, readPcrs, valueAdvice } from '../tpm2/pcr.ts';
import { readPcrSignatures } from '../tpm2/pcr-signature.ts';
import { leftOut, readPcrlock } from '../tpm2/pcrlock.ts';
import { addBranch, literalPcrs, type PcrValues, type SignedAuthority, type TpmPolicy } from '../tpm2/policy.ts';
import { seal } from '../tpm2/sealed-object.ts';
import type { RecordedSrk } from '../tpm2/srk.ts';
import { openTpm, type Tpm } from '../tpm2/tpm.ts';
import { tpmVendor } from '../tpm2/vendor.ts';
import { openersOf } from './openers.ts';

/**
 * The public half (32 bytes) of the key that opens at boot, whatever the .pub file says; undefined if there is none.
 * @throws Failure `no-recipient`
 */
export function sshHostKeyOf(paths: Paths): Uint8Array | undefined {
  const file = readIfPresent(paths.sshHostKey);
  if (!file) return undefined;
  try {
    const { publicKey, seed } = parseOpensshKey(file);
    seed.fill(0);
    return publicKey;
  } finally {
    file.fill(0);
  }
}

/** An age identity that only systemd-creds on this machine can decrypt. */
export interface SealedIdentity {
  readonly recipient: string;
  /** The encrypted identity. */
  readonly credential: Uint8Array;
  /** Decrypts it again; the caller wipes it. */
  readonly open: () => Promise<Uint8Array>;
}

/**
 * This machine's identity, or a new one, encrypted as `sealing` says. An existing identity is kept, so that its newly
 * encrypted file opens both the old and the new seeds.
 * @throws Failure `system`, and `no-tpm` if PCRs would not be bound
 */
export async function sealedIdentity(paths: Paths, sealing: Sealing): Promise<SealedIdentity> {
  const { sealed } = openersOf(paths, sealing.device).keys;
  const known = await sealed?.(sealing.device).catch((error: unknown) => {
    if (error instanceof Failure && error.code === 'system') return undefined;
    throw error;
  });
  const identity = known ?? utf8(`${await generateX25519Identity()}\n`);
  try {
    const lock = credsLockOf(sealing);
    const credential = await encryptCredential(paths.root, hostKeyCredentials.sealed, identity, lock);
    if (lock.pcrs.length > 0 && isUnderHostSecret(credential))
      throw new Failure('no-tpm', `systemd-creds finds no TPM, so it would not bind PCR ${lock.pcrs.join('+')}`, {
        hint:
          'systemd-analyze has-tpm2 says what it lacks; without --tpm2-pcrs=, for a sealed seed with --no-tpm2-pcrs, ' +
          "systemd's host key alone opens the seed",
      });
    const open = async (): Promise<Uint8Array> =>
      await decryptCredential(paths.root, hostKeyCredentials.sealed, credential, sealing.device);
    return { recipient: await identityToRecipient(new TextDecoder().decode(identity).trim()), credential, open };
  } finally {
    identity.fill(0);
  }
}

/** How the PCRs are bound. */
interface Binding {
  /** The literal PCR values that open the seeds, from those of this boot. */
  readonly branches: (current: PcrValues) => readonly PcrValues[];
  /** Whether PCRs that nothing was measured into may be all that is bound. */
  readonly acceptWeak: boolean;
}

/** The keys of the machine to seal to. */
export interface ChosenKeys {
  /** The identity under systemd-creds; undefined for the other keys. */
  readonly sealedKey: SealedIdentity | undefined;
  /**
   * The SRK of the TPM that opened the seeds: seeds are sealed to no other TPM. Undefined if something else opened
   * them.
   */
  readonly srk: RecordedSrk | undefined;
  /** By default the values of this boot alone. */
  readonly branches?: Binding['branches'] | undefined;
  /** By default not. */
  readonly acceptWeak?: Binding['acceptWeak'];
}

/**
 * Runs `work` with the keys that the machine is sealed to; closes the TPM afterwards.
 * @throws Failure, `other-tpm` for a TPM other than the one that opened the seeds
 */
export async function withSealingKeys<T>(
  paths: Paths,
  sealing: Sealing,
  { sealedKey, srk, branches = (current) => [current], acceptWeak = false }: ChosenKeys,
  work: (keys: SealingKeys) => Promise<T>,
): Promise<T> {
  if (sealedKey) return await work({ sshHostKey: undefined, ageHostKey: sealedKey.recipient, tpm: undefined });
  const sshHostKey = sshHostKeyOf(paths);
  if (sealing.withKey === 'host')
    return await work({
      sshHostKey,
      ageHostKey: sshHostKey ? undefined : await ageHostRecipient(paths),
      tpm: undefined,
    });
  const tpm = await openTpm(sealing.device);
  try {
    const { manufacturer, model, firmware } = await tpmVendor(tpm);
    say(`the TPM is ${manufacturer} ${model}, firmware ${firmware}`);
    const policies = await policiesFor(tpm, paths, sealing, { branches, acceptWeak });
    return await work({
      sshHostKey,
      ageHostKey: undefined,
      tpm: {
        policies,
        seal: async (secret, policy) =>
          await seal(tpm, secret, policy, { encrypted: true, srk }).catch((error: unknown) => {
            throw notTheOpener(error);
          }),
      },
    });
  } finally {
    await tpm.close();
  }
}

/** The policies of a sealing on this machine. Says what they miss. */
async function policiesFor(tpm: Tpm, paths: Paths, sealing: Sealing, binding: Binding): Promise<TpmPolicy[]> {
  const current = await readPcrs(tpm, sealing.pcrs);
  const machineId = machineIdOf(paths);
  for (const advice of valueAdvice(current, machineId)) warn(advice);
  const branches = current.size === 0 ? [] : binding.branches(current).reduce<PcrValues[]>(addBranch, []);
  const isLater = sealing.authorityAtFirstBoot === true;
  const pcrlock = isLater || sealing.pcrlock === undefined ? undefined : readPcrlock(sealing.pcrlock);
  const policies = policiesOf(sealing, { branches, pcrlock });
  if (pcrlock && leftOut(pcrlock).length > 0)
    warn(
      `systemd-pcrlock left out PCR ${leftOut(pcrlock).join('+')}: what is measured there may change unnoticed`,
      'systemd-pcrlock log shows why',
    );
  for (const policy of policies) await judgeBinding(tpm, policy, machineId, binding.acceptWeak);
  for (const { authority } of policies) if (authority?.kind === 'signed') warnOfPhases(authority);
  if (policies.some(isWithinReach))
    warn(
      'another system booted on this machine can bring PCR 11 to a signed value, and then open the seed',
      'add --tpm2-pcrs=7: then Secure Boot has to be as it is now, and to accept what boots by the same certificates',
    );
  if (policies.length > 1) warn(`any one of these opens the seed, so the weakest decides: ${policiesText(policies)}`);
  return policies;
}

/**
 * Judges a policy by what is in its PCRs now.
 * @throws Failure `refused` for one that has PCRs, and none that tells one boot from another, unless it is accepted
 */
async function judgeBinding(
  tpm: Tpm,
  policy: TpmPolicy,
  machineId: string | undefined,
  acceptWeak: boolean,
): Promise<void> {
  const pcrs = [...new Set([...literalPcrs(policy), ...(policy.authority?.pcrs ?? [])])];
  if (pcrs.length === 0 || bindingPcrs(await readPcrs(tpm, pcrs), machineId).length > 0) return;
  const same = pcrs.length === 1 ? 'it has this value' : 'they have these values';
  const message = `PCR ${pcrs.join('+')} would bind nothing: whatever boots, ${same}`;
  if (acceptWeak) {
    warn(message);
    return;
  }
  throw new Failure('refused', message, {
    hint: '--tpm2-pcrs=4+7 binds the boot loader; --accept-weak seals to them anyway',
  });
}

const machineIdOf = ({ machineId }: Paths): string | undefined => textIfPresent(machineId)?.trim();

/** The signed phases of PCR 11 in which units start: leave-initrd, sysinit and ready. */
const unitPhases = 3;

/** Warns if fewer values are signed than PCR 11 has while units start. */
function warnOfPhases(signed: SignedAuthority): void {
  const { signatures } = readPcrSignatures(signed);
  const { length } = signatures.filter(
    ({ fingerprint, pcrs }) => fingerprint === signed.key.fingerprint && pcrs.join() === signed.pcrs.join(),
  );
  if (length > 0 && length < unitPhases && signed.pcrs.includes(11))
    warn(
      `this key signed only ${String(length)} of the three boot phases in which units start: ` +
        'leave-initrd, sysinit, ready',
      'ukify build --pcr-private-key=FILE ' +
        '--phases=enter-initrd:leave-initrd,enter-initrd:leave-initrd:sysinit,enter-initrd:leave-initrd:sysinit:ready',
    );
}

const notTheOpener = (error: unknown): unknown =>
  error instanceof Failure && error.code === 'other-tpm'
    ? new Failure(
        'other-tpm',
        'the TPM that answers now is not the one that opened the seeds, so nothing is sealed to it',
        {
          hint: `find out what answers in place of its TPM; to accept another TPM: ${resealHint}`,
          cause: error,
        },
      )
    : error;

async function ageHostRecipient(paths: Paths): Promise<string> {
  const existing = readIfPresent(paths.ageHostKey);
  if (existing) return await identityToRecipient(new TextDecoder().decode(existing).trim());
  const identity = await generateX25519Identity();
  replaceFile(paths.ageHostKey, utf8(`${identity}\n`), { mode: 0o600 });
  warn(`this machine has no ssh host key, so an age identity was created at ${paths.ageHostKey}`);
  return await identityToRecipient(identity);
}
