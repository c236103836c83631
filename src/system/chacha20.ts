/**
 * ChaCha20 and its authenticated forms (RFC 8439, draft-irtf-cfrg-xchacha) by OpenSSL: the broker runs without a
 * compiler, where JavaScript is slow.
 */
import { type Cipher, createCipheriv, createDecipheriv } from 'node:crypto';

const tagLength = 16;
/** "expand 32-byte k", the first words of ChaCha20's state. */
const constants = [0x61707865, 0x3320646e, 0x79622d32, 0x6b206574] as const;

/**
 * The keystream of a key (32 bytes), from the block that `start` selects: 16 bytes, the counter in little endian and
 * the nonce. It is what comes out of the cipher when zeros go in; `final` wipes the key in it.
 */
export const chacha20 = (key: Uint8Array, start: Uint8Array): Cipher => createCipheriv('chacha20', key, start);

/** What is encrypted under a key (32 bytes), a nonce (12 bytes) and additional data, with its tag. */
export interface Sealing {
  readonly key: Uint8Array;
  readonly nonce: Uint8Array;
  readonly aad?: Uint8Array;
}

/** ChaCha20-Poly1305. @returns the ciphertext and its tag of 16 bytes */
export function encrypt({ key, nonce, aad }: Sealing, plaintext: Uint8Array): Uint8Array {
  const cipher = createCipheriv('chacha20-poly1305', key, nonce, { authTagLength: tagLength });
  if (aad) cipher.setAAD(aad, { plaintextLength: plaintext.length });
  return new Uint8Array(Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]));
}

/** Decrypts what {@link encrypt} returned. The caller wipes the plaintext. @returns undefined if the tag is wrong */
export function decrypt({ key, nonce, aad }: Sealing, sealed: Uint8Array): Uint8Array | undefined {
  const length = sealed.length - tagLength;
  if (length < 0) return undefined;
  const decipher = createDecipheriv('chacha20-poly1305', key, nonce, { authTagLength: tagLength });
  if (aad) decipher.setAAD(aad, { plaintextLength: length });
  decipher.setAuthTag(sealed.subarray(length));
  const plaintext = decipher.update(sealed.subarray(0, length));
  try {
    decipher.final();
    // Not a Buffer, whose slices share its memory.
    return new Uint8Array(plaintext.buffer, plaintext.byteOffset, plaintext.length);
  } catch {
    plaintext.fill(0);
    return undefined;
  }
}

/**
 * Does `work` with the key and nonce of ChaCha20-Poly1305 that a key and a nonce of 24 bytes stand for in
 * XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03 section 2.3), and wipes that key.
 */
export function extended<T>(key: Uint8Array, nonce: Uint8Array, work: (sealing: Sealing) => T): T {
  const subkey = hchacha20(key, nonce.subarray(0, 16));
  try {
    return work({ key: subkey, nonce: Buffer.concat([new Uint8Array(4), nonce.subarray(16)]) });
  } finally {
    subkey.fill(0);
  }
}

/**
 * HChaCha20 (section 2.2): the first and last words of the state after its rounds. ChaCha20 adds the state before them,
 * of which these words are known.
 */
function hchacha20(key: Uint8Array, nonce: Uint8Array): Buffer {
  const cipher = chacha20(key, nonce);
  const block = cipher.update(new Uint8Array(64));
  cipher.final();
  const start = Buffer.from(nonce);
  const subkey = Buffer.alloc(32);
  for (const [i, constant] of constants.entries()) {
    subkey.writeUInt32LE((block.readUInt32LE(4 * i) - constant) >>> 0, 4 * i);
    subkey.writeUInt32LE((block.readUInt32LE(48 + 4 * i) - start.readUInt32LE(4 * i)) >>> 0, 16 + 4 * i);
  }
  block.fill(0);
  return subkey;
}
