/**
 * Seals to the TPM of another machine, given the public half of its SRK, in the form that TPM2_Import takes (TPM 2.0
 * part 1, section 23.3.2.3 "Outer Duplication Wrapper"; for the seed annexes B.10.3 and C.6.3). Needs no TPM and no
 * libtss2 here.
 */
import {
  constants,
  createCipheriv,
  createHash,
  createHmac,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  type KeyObject,
  type KeyPairKeyObjectResult,
  publicEncrypt,
  randomBytes,
} from 'node:crypto';
import { concat } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { kdfa, kdfe, noContext } from './key-derivation.ts';
import type { TpmPolicy } from './policy.ts';
import { type ImportableObject, refuseLong, sealedPublic } from './sealed-object.ts';
import { nameOfPublic, type SrkPublic } from './srk.ts';
import { algorithms, contentOf, padded, sized, u16 } from './wire.ts';

/**
 * noDA only: an imported object can't have fixedTPM or fixedParent. It still can't be duplicated, because that takes a
 * policy with TPM2_PolicyCommandCode(TPM_CC_Duplicate), which its policy lacks.
 */
const importedAttributes = 0x00000400;
const label = 'DUPLICATE';
const seedLength = 32;
const symmetricKeyLength = 16;
const coordinateLength = 32;
const modulusLength = 256;
const exponent = 65537;

/**
 * Seals `secret` (at most 64 bytes) to the TPM with this SRK, under `policy`.
 * @throws Failure `malformed` for an SRK that is not a usable key
 * @throws RangeError for a longer secret
 */
export function sealForImport(srk: SrkPublic, secret: Uint8Array, policy: TpmPolicy): ImportableObject {
  refuseLong(secret);
  // First: it fails for an SRK that is not usable, and then there is nothing to wipe.
  const { seed, encryptedSeed } = freshSeed(srk);
  const obfuscation = new Uint8Array(randomBytes(seedLength));
  const publicArea = sealedPublic(
    importedAttributes,
    policy,
    createHash('sha256').update(obfuscation).update(secret).digest(),
  );
  const sensitive = sensitiveArea(obfuscation, secret);
  try {
    return {
      srkName: srk.name,
      srkTemplate: srk.template,
      policy,
      public: publicArea,
      duplicate: wrapped(seed, nameOfPublic(contentOf(publicArea)), sensitive),
      encryptedSeed,
    };
  } finally {
    for (const bytes of [obfuscation, sensitive, seed]) bytes.fill(0);
  }
}

/**
 * TPM2B_SENSITIVE of a sealed object with an empty authorization value (part 2, tables 138 and 139), in a single
 * buffer, which the caller wipes.
 */
function sensitiveArea(obfuscation: Uint8Array, secret: Uint8Array): Uint8Array {
  const fields: readonly Uint8Array[] = [
    u16(algorithms.keyedHash),
    u16(0),
    u16(obfuscation.length),
    obfuscation,
    u16(secret.length),
    secret,
  ];
  const length = fields.reduce((sum, field) => sum + field.length, 0);
  return concat(u16(length), ...fields);
}

/** TPM2B_PRIVATE: an HMAC and the encrypted sensitive area. Both are bound to the Name of the object. */
function wrapped(seed: Uint8Array, name: Uint8Array, sensitive: Uint8Array): Uint8Array {
  const symmetricKey = kdfa(seed, 'STORAGE', [name, new Uint8Array(0)], symmetricKeyLength);
  const hmacKey = kdfa(seed, 'INTEGRITY', noContext, seedLength);
  try {
    // The specification sets the zero vector. It is sound because each seed encrypts one object.
    const cipher = createCipheriv('aes-128-cfb', symmetricKey, new Uint8Array(16));
    const encrypted = concat(cipher.update(sensitive), cipher.final());
    return sized(concat(sized(createHmac('sha256', hmacKey).update(encrypted).update(name).digest()), encrypted));
  } finally {
    symmetricKey.fill(0);
    hmacKey.fill(0);
  }
}

interface FreshSeed {
  /** 32 bytes. The caller wipes it. */
  readonly seed: Uint8Array;
  /** TPM2B_ENCRYPTED_SECRET, from which the TPM recovers the same seed. */
  readonly encryptedSeed: Uint8Array;
}

function freshSeed(srk: SrkPublic): FreshSeed {
  const publicKey = keyOf(srk);
  if (publicKey.asymmetricKeyType === 'ec')
    return agreedSeed(srk, publicKey, generateKeyPairSync('ec', { namedCurve: 'P-256' }));
  const seed = new Uint8Array(randomBytes(seedLength));
  try {
    return {
      seed,
      encryptedSeed: sized(
        publicEncrypt(
          {
            key: publicKey,
            padding: constants.RSA_PKCS1_OAEP_PADDING,
            oaepHash: 'sha256',
            oaepLabel: Buffer.from(`${label}\0`),
          },
          seed,
        ),
      ),
    };
  } catch (error) {
    seed.fill(0);
    throw unusable(error);
  }
}

/**
 * Agrees on a seed (32 bytes) between an SRK on P-256 and a key pair of ours (part 1, annex C.6.3). The caller wipes
 * it.
 */
export function agreedSeed(
  { unique: [x = new Uint8Array(0)] }: Pick<SrkPublic, 'unique'>,
  publicKey: KeyObject,
  ephemeral: KeyPairKeyObjectResult,
): FreshSeed {
  const shared = diffieHellman({ privateKey: ephemeral.privateKey, publicKey });
  const point = ephemeral.publicKey.export({ format: 'der', type: 'spki' }).subarray(-2 * coordinateLength);
  const [ownX, ownY] = [point.subarray(0, coordinateLength), point.subarray(coordinateLength)];
  try {
    return { seed: kdfe(shared, label, [ownX, x]), encryptedSeed: sized(concat(sized(ownX), sized(ownY))) };
  } finally {
    shared.fill(0);
  }
}

const unusable = (cause?: unknown): Failure =>
  new Failure('malformed', 'the SRK is not a usable key', { hint: 'run auxcred enroll on the machine again', cause });

/**
 * The public key of an SRK.
 * @throws Failure `malformed` for a point that is not on the curve, or a modulus that is even or does not have exactly
 * 2048 bits
 */
export function keyOf({ unique: [first = new Uint8Array(0), second] }: Pick<SrkPublic, 'unique'>): KeyObject {
  const base64url = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64url');
  const coordinate = (bytes: Uint8Array): string => base64url(padded(bytes, coordinateLength));
  const isModulus = first.length === modulusLength && (first[0] ?? 0) >= 0x80 && (first.at(-1) ?? 0) % 2 === 1;
  if (second ? first.length > coordinateLength || second.length > coordinateLength : !isModulus) throw unusable();
  try {
    return createPublicKey({
      format: 'jwk',
      key: second
        ? { kty: 'EC', crv: 'P-256', x: coordinate(first), y: coordinate(second) }
        : {
            kty: 'RSA',
            n: base64url(first),
            e: base64url(Uint8Array.of(exponent >> 16, (exponent >> 8) & 0xff, exponent & 0xff)),
          },
    });
  } catch (error) {
    throw unusable(error);
  }
}
