/** The public key whose owner signs PCR policies, as ukify and systemd-measure use it. */
import { createHash, createPublicKey, type KeyObject } from 'node:crypto';
import { Failure } from '../failure.ts';
import { readFileWithin } from '../system/files.ts';
import { nameOfPublic } from './srk.ts';
import { algorithms, contentOf, sized, u16, u32 } from './wire.ts';

/** An RSA key that signs PCR policies. */
export interface SigningKey {
  /** SubjectPublicKeyInfo in DER. */
  readonly spki: Uint8Array;
  /** SHA-256 of the key as PKCS #1 in DER, 64 hexadecimal digits: `pkfp` in systemd's signature file. */
  readonly fingerprint: string;
  /** TPM2B_PUBLIC, as TPM2_LoadExternal takes it. */
  readonly public: Uint8Array;
  /** The Name of that, 34 bytes. */
  readonly name: Uint8Array;
}

/** userWithAuth, decrypt and sign (part 2, table 31): systemd loads the key with these. */
const attributes = 0x00060040;
const defaultExponent = 65537n;
const lengths = [2048, 3072, 4096];
const hint = 'the public half of an RSA key with 2048 bits, as openssl rsa -pubout writes it';

/**
 * Parses a public key in PEM or as SubjectPublicKeyInfo in DER.
 * @throws Failure `malformed` for anything but an RSA key of 2048, 3072 or 4096 bits with the exponent 65537
 */
export function parseSigningKey(bytes: Uint8Array, file: string): SigningKey {
  const key = publicKeyIn(bytes);
  const { modulusLength, publicExponent } = key?.asymmetricKeyDetails ?? {};
  if (
    key?.asymmetricKeyType !== 'rsa' ||
    modulusLength === undefined ||
    !lengths.includes(modulusLength) ||
    publicExponent !== defaultExponent
  )
    throw new Failure('malformed', `${file} is not a public key that a TPM can check signatures with`, { hint });
  const modulus = new Uint8Array(Buffer.from(key.export({ format: 'jwk' }).n ?? '', 'base64url'));
  // An exponent of 0 means 65537 (part 2, table 211).
  const publicArea = sized(
    Uint8Array.from([
      ...u16(algorithms.rsa),
      ...u16(algorithms.sha256),
      ...u32(attributes),
      ...u16(0),
      ...u16(algorithms.null),
      ...u16(algorithms.null),
      ...u16(modulusLength),
      ...u32(0),
      ...sized(modulus),
    ]),
  );
  return {
    spki: new Uint8Array(key.export({ format: 'der', type: 'spki' })),
    fingerprint: createHash('sha256')
      .update(key.export({ format: 'der', type: 'pkcs1' }))
      .digest('hex'),
    public: publicArea,
    name: nameOfPublic(contentOf(publicArea)),
  };
}

/** Never parses a private key: what was given by mistake must not be stored as if it were public. */
function publicKeyIn(bytes: Uint8Array): KeyObject | undefined {
  const text = Buffer.from(bytes);
  const isPem = text.includes('-----BEGIN ');
  if (isPem && text.includes('PRIVATE KEY')) return undefined;
  try {
    return createPublicKey(isPem ? { key: text, format: 'pem' } : { key: text, format: 'der', type: 'spki' });
  } catch {
    return undefined;
  }
}

/** Bytes of a public key in PEM, generously. */
const longestKey = 1 << 16;

/** Reads a public key. @throws Failure `not-found`, `malformed` */
export function readSigningKey(file: string): SigningKey {
  const bytes = readFileWithin(file, longestKey);
  if (!bytes)
    throw new Failure('not-found', `there is no ${file}`, {
      hint: 'the public half of the key that ukify --pcr-private-key= signs with',
    });
  return parseSigningKey(bytes, file);
}
