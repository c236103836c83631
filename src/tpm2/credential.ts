/**
 * Makes a credential that only the TPM with a given EK decrypts, and only if a key with a given Name is loaded in that
 * same TPM: TPM2_MakeCredential computed here, without a TPM (part 1, section 24 "Credential Protection"; for the seed
 * annexes B.10.4 and C.6.4). TPM2_ActivateCredential is the other half.
 */
import {
  constants,
  createCipheriv,
  createHmac,
  diffieHellman,
  generateKeyPairSync,
  publicEncrypt,
  randomBytes,
} from 'node:crypto';
import { concat } from '../bytes.ts';
import type { EkPublic } from './endorsement-key.ts';
import { kdfaWith, kdfeWith, nameHashLengths, noContext } from './key-derivation.ts';
import { padded, sized } from './wire.ts';

/** A credential, as TPM2_ActivateCredential takes it. */
export interface Credential {
  /** TPM2B_ID_OBJECT: an HMAC and the encrypted secret, both bound to the Name. */
  readonly blob: Uint8Array;
  /** TPM2B_ENCRYPTED_SECRET: the seed of that, encrypted to the EK. */
  readonly encryptedSeed: Uint8Array;
}

const label = 'IDENTITY';

/**
 * Encrypts `secret` to the TPM with this EK.
 * @param secret - at most as long as a digest of the EK's name algorithm
 * @param name - the Name of the key that must be loaded there
 */
export function makeCredential(ek: EkPublic, secret: Uint8Array, name: Uint8Array): Credential {
  const { hash, symmetricKey: keyLength } = ek.kind;
  const kdfa = kdfaWith(hash);
  const { seed, encryptedSeed } = ek.key.asymmetricKeyType === 'ec' ? agreedSeed(ek) : transportedSeed(ek);
  const symmetricKey = kdfa(seed, 'STORAGE', [name, new Uint8Array(0)], keyLength);
  const hmacKey = kdfa(seed, 'INTEGRITY', noContext, nameHashLengths[hash]);
  try {
    // The specification sets the zero vector. It is sound because each seed encrypts one secret.
    const cipher = createCipheriv(keyLength === 16 ? 'aes-128-cfb' : 'aes-256-cfb', symmetricKey, new Uint8Array(16));
    const encrypted = concat(cipher.update(sized(secret)), cipher.final());
    const integrity = createHmac(hash, hmacKey).update(encrypted).update(name).digest();
    return { blob: sized(concat(sized(integrity), encrypted)), encryptedSeed };
  } finally {
    for (const bytes of [seed, symmetricKey, hmacKey]) bytes.fill(0);
  }
}

interface Seed {
  readonly seed: Uint8Array;
  readonly encryptedSeed: Uint8Array;
}

function transportedSeed({ key, kind: { hash } }: EkPublic): Seed {
  const seed = new Uint8Array(randomBytes(nameHashLengths[hash]));
  const encrypted = publicEncrypt(
    { key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: hash, oaepLabel: Buffer.from(`${label}\0`) },
    seed,
  );
  return { seed, encryptedSeed: sized(encrypted) };
}

function agreedSeed({ key, unique: [x = new Uint8Array(0)], kind: { name, hash } }: EkPublic): Seed {
  const length = name === 'ECC P-256' ? 32 : 48;
  const ephemeral = generateKeyPairSync('ec', { namedCurve: name === 'ECC P-256' ? 'P-256' : 'P-384' });
  const shared = diffieHellman({ privateKey: ephemeral.privateKey, publicKey: key });
  const point = ephemeral.publicKey.export({ format: 'der', type: 'spki' }).subarray(-2 * length);
  const [ownX, ownY] = [point.subarray(0, length), point.subarray(length)];
  try {
    return {
      seed: kdfeWith(hash)(shared, label, [ownX, padded(x, length)]),
      encryptedSeed: sized(concat(sized(ownX), sized(ownY))),
    };
  } finally {
    shared.fill(0);
  }
}
