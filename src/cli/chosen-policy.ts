/** The TPM policy that the options of `seal` and `reseal` ask for. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { Failure } from '../failure.ts';
import { type BoundPolicy, boundWhenRunning, type WantedPolicy } from '../machine/sealing.ts';
import type { Sealing } from '../seeds/payload.ts';
import type { Paths } from '../system/paths.ts';
import { warn } from '../terminal/say.ts';
import { parsePcrs, pcrAdvice } from '../tpm2/pcr.ts';
import { readSigningKey } from '../tpm2/signing-key.ts';
import type { Options } from './options.ts';

const authorityOptions = ['tpm2-public-key', 'tpm2-public-key-pcrs', 'tpm2-signature', 'tpm2-pcrlock'] as const;

/**
 * The policy to seal under: what the options name, else what `before` has. On a system that is being installed it is
 * bound at the first boot, since PCRs then differ from the installer's.
 * @param before - the present sealing; undefined for a first one
 * @throws Failure `usage`, `not-found`, `malformed`
 */
export function chosenPolicy(
  options: Options,
  key: Pick<Sealing, 'withKey' | 'credsKey'>,
  paths: Paths,
  before: WantedPolicy | undefined,
): BoundPolicy {
  const lock = key.withKey === 'systemd-creds' ? (key.credsKey ?? 'auto') : key.withKey;
  refuseMisplaced(options, key, lock);
  const pcrs = chosenPcrs(options, before?.pcrs ?? []);
  const isOwn = key.withKey === 'tpm2' || key.withKey === 'tpm2+host';
  const signed = isOwn ? chosenSigned(options, before?.signed) : undefined;
  const pcrlock = isOwn ? chosenPcrlock(options, before?.pcrlock) : undefined;
  if (lock === 'host') return boundWhenRunning({ pcrs: [] }, paths.root);
  // systemd's own choice may be a key without the TPM.
  if (pcrs.length === 0 && !signed && pcrlock === undefined && lock !== 'auto') warnUnbound(paths, isOwn);
  for (const advice of pcrAdvice(pcrs, signed !== undefined || pcrlock !== undefined)) warn(advice);
  return boundWhenRunning({ pcrs, ...(signed && { signed }), ...(pcrlock !== undefined && { pcrlock }) }, paths.root);
}

/** @throws Failure `usage` for options that the key has no use for */
function refuseMisplaced(options: Options, { withKey }: Pick<Sealing, 'withKey'>, lock: string): void {
  if (lock === 'host' && options.value('tpm2-pcrs') !== undefined)
    throw new Failure('usage', '--tpm2-pcrs needs a TPM', { hint: '--with-key=tpm2' });
  const misplaced = authorityOptions.find((name) => options.value(name) !== undefined);
  if (misplaced !== undefined && withKey !== 'tpm2' && withKey !== 'tpm2+host')
    throw new Failure('usage', `--${misplaced} needs a seed that is sealed to the TPM by auxcred itself`, {
      hint: '--with-key=tpm2 or --with-key=tpm2+host',
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
  if (file !== undefined && options.flag('no-tpm2-public-key'))
    throw new Failure('usage', '--no-tpm2-public-key and --tpm2-public-key exclude each other');
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

/** The path of pcrlock.json. @throws Failure `usage` */
function chosenPcrlock(options: Options, before: string | undefined): string | undefined {
  const file = options.value('tpm2-pcrlock');
  if (file !== undefined && options.flag('no-tpm2-pcrlock'))
    throw new Failure('usage', '--no-tpm2-pcrlock and --tpm2-pcrlock exclude each other');
  if (file !== undefined) return resolve(file);
  return options.flag('no-tpm2-pcrlock') ? undefined : before;
}

/** Proposes the signed policy if this machine booted an image that has one. */
function warnUnbound({ bootedImage, publicKey }: Paths, canBeSigned: boolean): void {
  const isSigned = canBeSigned && (existsSync(publicKey) || existsSync(bootedImage));
  const file = existsSync(publicKey) ? publicKey : 'FILE';
  warn(
    `no PCR is bound: anything that boots on this machine can open the seed${isSigned ? ', though it booted a measured image' : ''}`,
    isSigned ? `--tpm2-public-key=${file}, the public half of ukify's --pcr-private-key=` : '--tpm2-pcrs=4+7',
  );
}
