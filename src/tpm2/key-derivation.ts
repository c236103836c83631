/** The key derivation functions of the TPM (TPM 2.0 part 1, section 11.4.10), with the name algorithm of a key. */
import { createHash, createHmac } from 'node:crypto';
import { concat, u32be, utf8 } from '../bytes.ts';

/** A name algorithm. */
export type NameHash = 'sha256' | 'sha384';
/** Bytes in the digests of a name algorithm. */
export const nameHashLengths: Readonly<Record<NameHash, number>> = { sha256: 32, sha384: 48 };

/** The two parties or contexts that go into a key beside the secret. Each may be empty. */
type Context = readonly [Uint8Array, Uint8Array];
const none = new Uint8Array(0);

/**
 * KDFa: SP 800-108 in counter mode with HMAC. The caller wipes the result.
 * @param label - without the zero byte that follows it
 * @param length - bytes of the result, at most those of one digest
 * @throws RangeError for a greater length
 */
export const kdfaWith =
  (hash: NameHash) =>
  (key: Uint8Array, label: string, [u, v]: Context, length: number): Uint8Array => {
    if (length > nameHashLengths[hash])
      throw new RangeError(`a key of ${String(length)} bytes takes more than one block`);
    return new Uint8Array(
      createHmac(hash, key)
        .update(concat(u32be(1), utf8(`${label}\0`), u, v, u32be(8 * length)))
        .digest()
        .subarray(0, length),
    );
  };

/** {@link kdfaWith} SHA-256. */
export const kdfa = kdfaWith('sha256');

/**
 * KDFe: the one-step derivation of SP 800-56A, from the x coordinate of a shared point, in the length of the curve.
 * @returns the bytes of one digest, which the caller wipes
 */
export const kdfeWith =
  (hash: NameHash) =>
  (z: Uint8Array, label: string, [u, v]: Context): Uint8Array =>
    new Uint8Array(
      createHash(hash)
        .update(u32be(1))
        .update(z)
        .update(utf8(`${label}\0`))
        .update(u)
        .update(v)
        .digest(),
    );

/** {@link kdfeWith} SHA-256, from 32 bytes. */
export const kdfe = kdfeWith('sha256');

/** Two empty contexts. */
export const noContext: Context = [none, none];
