/**
 * The endorsement key (EK), which the maker of a TPM certifies, and the certificate that the TPM stores beside it (TCG
 * EK Credential Profile for TPM Family 2.0, annex B; TCG Registry of Reserved TPM 2.0 Handles, section 2.2.1.4).
 */

import { createPublicKey, type KeyObject, X509Certificate } from 'node:crypto';
import { sameBytes } from '../bytes.ts';
import { derValuesIn } from '../der.ts';
import { Failure } from '../failure.ts';
import type { NameHash } from './key-derivation.ts';
import { readNv } from './nv-data.ts';
import { TpmError } from './response.ts';
import { createPrimary, openPersistent, readPublic } from './srk.ts';
import { esysHandles, type Tpm } from './tpm.ts';
import {
  aes128Cfb,
  aes256Cfb,
  algorithms,
  contentOf,
  contentsIn,
  nistP256,
  nistP384,
  padded,
  sized,
  u16,
  u32,
} from './wire.ts';

/** A kind of EK, with the template of the profile. */
export interface EkKind {
  readonly name: 'RSA 2048' | 'ECC P-256' | 'ECC P-384';
  /** The NV index of its certificate. */
  readonly certificate: number;
  /** TPM2B_PUBLIC. */
  readonly template: Uint8Array;
  /** Bytes of the template that come before `unique` in the TPMT_PUBLIC. */
  readonly fixed: number;
  /** The name algorithm, which its credentials use too. */
  readonly hash: NameHash;
  /** Bytes of the AES key that its credentials are encrypted with. */
  readonly symmetricKey: 16 | 32;
  /** Whether it asks for a policy session; otherwise an empty password does. */
  readonly needsPolicy: boolean;
}

/** The public half of an EK. */
export interface EkPublic {
  readonly kind: EkKind;
  /** TPM2B_PUBLIC. */
  readonly public: Uint8Array;
  /** The modulus, or x and y. */
  readonly unique: readonly Uint8Array[];
  readonly key: KeyObject;
}

/** PolicySecret(TPM_RH_ENDORSEMENT) with SHA-256 (annex B.6.2), 32 bytes. */
const policyA = Buffer.from('837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa', 'hex');
/** PolicyB with SHA-384 (annex B.6.3): that, or what an NV index holds. 48 bytes. */
const policyB = Buffer.from(
  'b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12',
  'hex',
);
/** fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt (part 2, table 31). */
const lowRange = 0x000300b2;
/** With userWithAuth. */
const highRange = 0x000300f2;
const none = u16(algorithms.null);

const area = (type: number, hash: number, attributes: number, policy: Uint8Array): number[] => [
  ...u16(type),
  ...u16(hash),
  ...u32(attributes),
  ...sized(policy),
];
const kind = (parts: Pick<EkKind, 'name' | 'certificate' | 'hash'>, fixed: number[], unique: number[]): EkKind => ({
  ...parts,
  fixed: fixed.length,
  template: sized(Uint8Array.from([...fixed, ...unique])),
  symmetricKey: parts.hash === 'sha256' ? 16 : 32,
  needsPolicy: parts.hash === 'sha256',
});
const zeros = (length: number): number[] => [...sized(new Uint8Array(length))];

/** Templates L-2, H-3 and L-1 (annexes B.3.4, B.4.6 and B.3.3): the quickest to make first. */
export const ekKinds: readonly EkKind[] = [
  kind(
    { name: 'ECC P-256', certificate: 0x01c0000a, hash: 'sha256' },
    [...area(algorithms.ecc, algorithms.sha256, lowRange, policyA), ...aes128Cfb, ...none, ...u16(nistP256), ...none],
    [...zeros(32), ...zeros(32)],
  ),
  kind(
    { name: 'ECC P-384', certificate: 0x01c00016, hash: 'sha384' },
    [...area(algorithms.ecc, algorithms.sha384, highRange, policyB), ...aes256Cfb, ...none, ...u16(nistP384), ...none],
    [...zeros(0), ...zeros(0)],
  ),
  kind(
    { name: 'RSA 2048', certificate: 0x01c00002, hash: 'sha256' },
    [...area(algorithms.rsa, algorithms.sha256, lowRange, policyA), ...aes128Cfb, ...none, ...u16(2048), ...u32(0)],
    zeros(256),
  ),
];

/** Where makers and tools keep an EK (the same registry, section 2.3.2; swtpm_setup uses the last). */
const persistentHandles = [0x81010001, 0x81010002, 0x81010016];

/** Parses a TPM2B_PUBLIC; undefined unless it is a usable key with exactly the template of an EK. */
export function parseEkPublic(publicArea: Uint8Array): EkPublic | undefined {
  const content = contentOf(publicArea);
  if (!sameBytes(sized(content), publicArea)) return undefined;
  for (const candidate of ekKinds) {
    const fixed = contentOf(candidate.template).subarray(0, candidate.fixed);
    if (!sameBytes(content.subarray(0, fixed.length), fixed)) continue;
    const unique = contentsIn(content.subarray(fixed.length));
    const key = unique && keyIn(candidate, unique);
    if (key) return { kind: candidate, public: publicArea, unique, key };
  }
  return undefined;
}

/** Node checks that a point is on the curve. */
function keyIn({ name }: EkKind, [first, second, ...more]: readonly Uint8Array[]): KeyObject | undefined {
  if (!first || more.length > 0) return undefined;
  const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64url');
  try {
    if (name === 'RSA 2048') {
      const isModulus = !second && first.length === 256 && (first[0] ?? 0) >= 0x80 && (first[255] ?? 0) % 2 === 1;
      return isModulus ? createPublicKey({ format: 'jwk', key: { kty: 'RSA', n: text(first), e: 'AQAB' } }) : undefined;
    }
    if (!second) return undefined;
    const [crv, length] = name === 'ECC P-256' ? ['P-256', 32] : ['P-384', 48];
    const [x, y] = [padded(first, length), padded(second, length)];
    return createPublicKey({ format: 'jwk', key: { kty: 'EC', crv, x: text(x), y: text(y) } });
  } catch {
    return undefined;
  }
}

/** Whether two public keys are the same. */
export const sameKey = (one: KeyObject, other: KeyObject): boolean =>
  one.asymmetricKeyType === other.asymmetricKeyType &&
  sameBytes(one.export({ format: 'der', type: 'spki' }), other.export({ format: 'der', type: 'spki' }));

/** An EK in a TPM. */
export interface Ek {
  readonly handle: number;
  readonly public: EkPublic;
  /** Its certificate in DER; undefined if the TPM stores none. */
  readonly certificate: Uint8Array | undefined;
}

/**
 * Finds the EK that a certificate in this TPM is about, else one that is kept in it, else makes one.
 * @throws TpmError @throws Failure `tpm`
 */
export async function findEk(tpm: Tpm): Promise<Ek> {
  const kept = await keptEks(tpm);
  for (const ekKind of ekKinds) {
    const certificate = await certificateOf(tpm, ekKind);
    if (!certificate) continue;
    const { publicKey, raw } = certificate;
    const known = kept.find(({ public: { key } }) => sameKey(key, publicKey));
    const made = known ?? (await madeEk(tpm, ekKind));
    if (made && sameKey(made.public.key, publicKey)) return { ...made, certificate: new Uint8Array(raw) };
    if (made) await tpm.release(made.handle);
  }
  const ek = kept[0] ?? (await firstEk(tpm));
  return { ...ek, certificate: undefined };
}

type Found = Pick<Ek, 'handle' | 'public'>;

async function keptEks(tpm: Tpm): Promise<Found[]> {
  const found: Found[] = [];
  for (const at of persistentHandles) {
    const kept = await openPersistent(tpm, at);
    const parsed = kept && parseEkPublic(await readPublic(tpm, kept.handle));
    if (parsed) found.push({ handle: kept.handle, public: parsed });
  }
  return found;
}

async function firstEk(tpm: Tpm): Promise<Found> {
  for (const ekKind of ekKinds) {
    const made = await madeEk(tpm, ekKind);
    if (made) return made;
  }
  throw new Failure('tpm', 'this TPM can make none of the endorsement keys that are known here');
}

/** Undefined if this TPM does not support the kind. */
async function madeEk(tpm: Tpm, { template }: EkKind): Promise<Found | undefined> {
  try {
    const { handle } = await createPrimary(tpm, esysHandles.endorsement, template);
    const parsed = parseEkPublic(await readPublic(tpm, handle));
    if (parsed) return { handle, public: parsed };
    await tpm.release(handle);
    return undefined;
  } catch (error) {
    if (error instanceof TpmError && error.ofParameter) return undefined;
    throw error;
  }
}

/** The certificate that the TPM stores for a kind of EK; undefined for none, or for what is none. */
async function certificateOf(tpm: Tpm, { certificate: index }: EkKind): Promise<X509Certificate | undefined> {
  const stored = await readNv(tpm, index);
  if (!stored) return undefined;
  try {
    // Some makers fill the index up behind the certificate.
    return new X509Certificate(derValuesIn(stored)[0]?.whole ?? stored);
  } catch {
    return undefined;
  }
}
