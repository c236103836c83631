/** The key derivation functions of the TPM, with SHA-256 (TPM 2.0 part 1, section 11.4.10). */
import { createHash, createHmac } from 'node:crypto';
import { concat, u32be, utf8 } from '../bytes.ts';

const digestLength = 32;

/** The two parties or contexts that go into a key beside the secret. Each may be empty. */
type Context = readonly [Uint8Array, Uint8Array];
const none = new Uint8Array(0);

/**
 * KDFa: SP 800-108 in counter mode with HMAC-SHA256. The caller wipes the result.
 * @param label - without the zero byte that follows it
 * @param length - bytes of the result, at most 32
 * @throws RangeError for a greater length
 */
export function kdfa(key: Uint8Array, label: string, [u, v]: Context, length: number): Uint8Array {
  if (length > digestLength) throw new RangeError(`a key of ${String(length)} bytes takes more than one block`);
  return new Uint8Array(
    createHmac('sha256', key)
      .update(concat(u32be(1), utf8(`${label}\0`), u, v, u32be(8 * length)))
      .digest()
      .subarray(0, length),
  );
}

/**
 * KDFe: the one-step derivation of SP 800-56A with SHA-256, from the x coordinate (32 bytes) of a shared point.
 * @returns 32 bytes, which the caller wipes
 */
export const kdfe = (z: Uint8Array, label: string, [u, v]: Context): Uint8Array =>
  new Uint8Array(
    createHash('sha256')
      .update(u32be(1))
      .update(z)
      .update(utf8(`${label}\0`))
      .update(u)
      .update(v)
      .digest(),
  );

/** Two empty contexts. */
export const noContext: Context = [none, none];
