import { createHash, createPublicKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readPcrs } from '../../src/tpm2/pcr.ts';
import { afterPcrs, type PcrValues, type SignedAuthority, startDigest, type TpmPolicy } from '../../src/tpm2/policy.ts';
import { parseSigningKey } from '../../src/tpm2/signing-key.ts';
import type { Swtpm } from '../swtpm.ts';
import { hex, withTpm } from './sealing.ts';

/** A key pair that signs PCR values. */
export interface Signer {
  readonly privateKey: KeyObject;
  readonly pem: string;
}

export function makeSigner(): Signer {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { privateKey, pem: createPublicKey(privateKey).export({ format: 'pem', type: 'spki' }).toString() };
}

export const fingerprintOf = ({ pem }: Signer): string =>
  createHash('sha256')
    .update(createPublicKey(pem).export({ format: 'der', type: 'pkcs1' }))
    .digest('hex');

/** PCR 11 after the words of boot phases, as systemd-pcrextend measures them. */
export function phaseValue(image: string, ...phases: readonly string[]): Uint8Array {
  const extend = (value: Uint8Array, digest: Uint8Array): Uint8Array =>
    new Uint8Array(createHash('sha256').update(value).update(digest).digest());
  return phases.reduce(
    (value, phase) => extend(value, new Uint8Array(createHash('sha256').update(phase).digest())),
    extend(startDigest, new Uint8Array(Buffer.from(image, 'hex'))),
  );
}

/** An entry of systemd's tpm2-pcr-signature.json. */
export const entry = (signer: Signer, values: PcrValues): unknown => {
  const policy = afterPcrs(startDigest, values);
  return {
    pcrs: [...values.keys()],
    pkfp: fingerprintOf(signer),
    pol: hex(policy),
    sig: sign('sha256', policy, signer.privateKey).toString('base64'),
  };
};

/** Writes a signature file. @returns its path */
export function writeSignatures(folder: string, entries: readonly unknown[], name = 'signature.json'): string {
  const file = join(folder, name);
  writeFileSync(file, JSON.stringify({ sha256: entries }));
  return file;
}

export const signedBy = (
  signer: Signer,
  signature: string,
  branches: readonly PcrValues[] = [],
  pcrs: readonly number[] = [11],
): TpmPolicy & { authority: SignedAuthority } => ({
  bank: 'sha256',
  authority: {
    kind: 'signed',
    key: parseSigningKey(new Uint8Array(Buffer.from(signer.pem)), 'key.pem'),
    pcrs,
    signature,
  },
  branches,
});

/** The present values of PCRs. */
export const valuesAt = async ({ device }: Swtpm, pcrs: readonly number[]): Promise<PcrValues> =>
  await withTpm(device, async (tpm) => await readPcrs(tpm, pcrs));

/** Measures the word of a boot phase into PCR 11. */
export function enterPhase(swtpm: Swtpm, phase: string): void {
  swtpm.tool('tpm2_pcrextend', `11:sha256=${createHash('sha256').update(phase).digest('hex')}`);
}
