/** The TPM policy that the options of `seal` and `reseal` ask for. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { Failure } from '../failure.ts';
import { type BoundPolicy, boundWhenRunning, type WantedPolicy } from '../machine/sealing.ts';
import { devicePatience } from '../seeds/open.ts';
import { type Sealing, usesTpm } from '../seeds/payload.ts';
import type { Paths } from '../system/paths.ts';
import { systemIsRunning } from '../system/systemctl.ts';
import { warn } from '../terminal/say.ts';
import { chooseLockPcr, freeLockPcr } from '../tpm2/boot-lock.ts';
import { parsePcrs, pcrAdvice } from '../tpm2/pcr.ts';
import { readSigningKey } from '../tpm2/signing-key.ts';
import { openTpm } from '../tpm2/tpm.ts';
import type { Options } from './options.ts';

const ownOptions = ['tpm2-signature', 'tpm2-pcrlock', 'tpm2-public-key', 'tpm2-public-key-pcrs'] as const;
const givenOwn = (options: Options): string | undefined =>
  options.flag('lock-after-unseal')
    ? 'lock-after-unseal'
    : ownOptions.find((name) => options.value(name) !== undefined);

/**
 * The policy to seal under: what the options name, else what `before` has. On a system that is being installed it is
 * bound at the first boot, since PCRs then differ from the installer's.
 * @param before - the present sealing; undefined for a first one
 * @throws Failure `usage`, `not-found`, `malformed`
 */
export async function chosenPolicy(
  options: Options,
  key: Pick<Sealing, 'withKey' | 'credsKey' | 'device'>,
  paths: Paths,
  before: WantedPolicy | undefined,
): Promise<BoundPolicy> {
  const sealedTo = key.withKey === 'systemd-creds' ? (key.credsKey ?? 'auto') : key.withKey;
  refuseMisplaced(options, key, sealedTo);
  const pcrs = chosenPcrs(options, before?.pcrs ?? []);
  const isOwn = usesTpm(key.withKey);
  const signed = isOwn || isSignable(sealedTo) ? chosenSigned(options, before?.signed) : undefined;
  const pcrlock = isOwn ? chosenPcrlock(options, before?.pcrlock) : undefined;
  if (sealedTo === 'host') return boundWhenRunning({ pcrs: [] }, paths.root);
  // systemd's own choice may be a key without the TPM.
  if (pcrs.length === 0 && !signed && pcrlock === undefined && sealedTo !== 'auto') warnUnbound(paths, isOwn);
  for (const advice of pcrAdvice(pcrs, signed !== undefined || pcrlock !== undefined)) warn(advice);
  const policy = { pcrs, ...(signed && { signed }), ...(pcrlock !== undefined && { pcrlock }) };
  const lock = isOwn ? await chosenLock(options, key, paths, { ...policy, lock: before?.lock }) : undefined;
  return boundWhenRunning({ ...policy, ...(lock !== undefined && { lock }) }, paths.root);
}

/**
 * The PCR that locks the seeds until the next boot: the one that they have, unless something else uses it by now.
 * @param policy - the rest of the policy, and the lock that the seeds have
 * @throws Failure `usage`, or `refused` if no PCR is left
 */
async function chosenLock(
  options: Options,
  { device }: Pick<Sealing, 'device'>,
  { root }: Paths,
  { lock, pcrs, signed }: WantedPolicy,
): Promise<number | undefined> {
  if (options.flag('no-lock-after-unseal') || (lock === undefined && !options.flag('lock-after-unseal')))
    return undefined;
  const taken = [...pcrs, ...(signed?.pcrs ?? [])];
  // The installer's values say nothing about the installed system, which chooses at its first boot.
  if (!systemIsRunning(root)) return lock ?? freeLockPcr(undefined, taken);
  const tpm = await openTpm(device, devicePatience);
  try {
    return await chooseLockPcr(tpm, { known: lock, taken });
  } finally {
    await tpm.close();
  }
}

/** Whether systemd-creds encrypts to signed PCR values: not by its own choice of a key. */
const isSignable = (sealedTo: string): boolean => sealedTo === 'host+tpm2' || sealedTo === 'tpm2';

/** @throws Failure `usage` for options that the key has no use for */
function refuseMisplaced(options: Options, { withKey }: Pick<Sealing, 'withKey'>, sealedTo: string): void {
  if (sealedTo === 'host' && options.value('tpm2-pcrs') !== undefined)
    throw new Failure('usage', '--tpm2-pcrs needs a TPM', { hint: '--with-key=tpm2' });
  const misplaced = givenOwn(options);
  // systemd itself reads the signatures there, from its own folders.
  if (isSignable(sealedTo) && (misplaced === 'tpm2-public-key' || misplaced === 'tpm2-public-key-pcrs')) return;
  if (misplaced !== undefined && !usesTpm(withKey))
    throw new Failure('usage', `--${misplaced} needs a seed that is sealed to the TPM by auxcred itself`, {
      hint: '--with-key=tpm2 or --with-key=tpm2+host; systemd-creds takes --tpm2-public-key= with --creds-key=tpm2',
    });
}

/** The literal PCRs. @throws Failure `usage` */
function chosenPcrs(options: Options, before: readonly number[]): readonly number[] {
  const text = options.value('tpm2-pcrs');
  if (text !== undefined) return parsePcrs(text);
  return options.flag('no-tpm2-pcrs') ? [] : before;
}

/** The key that signs PCR values. @throws Failure `usage`, `not-found`, `malformed` */
function chosenSigned(options: Options, before: Sealing['signed']): Sealing['signed'] {
  const [file, pcrs, signature] = [
    options.value('tpm2-public-key'),
    options.value('tpm2-public-key-pcrs'),
    options.value('tpm2-signature'),
  ];
  const known = options.flag('no-tpm2-public-key') ? undefined : before;
  const publicKey = file === undefined ? known?.publicKey : readSigningKey(file).spki;
  if (!publicKey) {
    if (pcrs === undefined && signature === undefined) return undefined;
    throw new Failure('usage', `--tpm2-${pcrs === undefined ? 'signature' : 'public-key-pcrs'} needs a public key`, {
      hint: '--tpm2-public-key=FILE',
    });
  }
  const signedPcrs = pcrs === undefined ? (known?.pcrs ?? [11]) : parsePcrs(pcrs);
  if (signedPcrs.length === 0) throw new Failure('usage', '--tpm2-public-key-pcrs names no PCR', { hint: '11' });
  return { publicKey, pcrs: signedPcrs, signature: signature === undefined ? known?.signature : resolve(signature) };
}

/** The path of pcrlock.json. */
function chosenPcrlock(options: Options, before: string | undefined): string | undefined {
  const file = options.value('tpm2-pcrlock');
  if (file !== undefined) return resolve(file);
  return options.flag('no-tpm2-pcrlock') ? undefined : before;
}

/** Proposes the signed policy if this machine booted an image that has one. */
function warnUnbound({ bootedImage, publicKey }: Paths, canBeSigned: boolean): void {
  const isSigned = canBeSigned && (existsSync(publicKey) || existsSync(bootedImage));
  const file = existsSync(publicKey) ? publicKey : 'FILE';
  warn(
    `no PCR is bound: anything that boots on this machine can open the seed` +
      (isSigned ? ', though it booted a measured image' : ''),
    isSigned ? `--tpm2-public-key=${file}, the public half of ukify's --pcr-private-key=` : '--tpm2-pcrs=4+7',
  );
}
