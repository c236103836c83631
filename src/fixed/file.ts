/**
 * One file of the fixed folder: a secret that somebody chose, encrypted under a key of its scope and its path.
 *
 *     header:     "auxfixed" || version (1 byte) || keyId (16) || u64be sequence || nonce (24)
 *     plaintext:  value || 0x80 || zero bytes up to a multiple of 64 (ISO/IEC 7816-4), so that the length says little
 *     file:       header || XChaCha20-Poly1305(fixedKey(scope, path), nonce, AAD = header || LP(path), plaintext)
 *
 * Frozen: `test/vectors/fixed.json` guards every byte.
 */
import { createHash, createHmac, randomBytes } from 'node:crypto';
import { concat, framed, sameBytes, u32be, utf8 } from '../bytes.ts';
import { fingerprintKey, fixedKey, keyId } from '../derive/tree.ts';
import { Failure } from '../failure.ts';
import { decrypt, encrypt, extended } from '../system/chacha20.ts';
import { type FixedName, nameText } from './name.ts';

const magic = utf8('auxfixed');
const version = 1;
const keyIdLength = 16;
const nonceLength = 24;
const tagLength = 16;
const blockLength = 64;
const headerLength = magic.length + 1 + keyIdLength + 8 + nonceLength;

/** The most bytes of a fixed secret: one write to the credentials socket delivers them whole. */
export const largestValue = 128 * 1024;
/** The most bytes of a file: the largest value with its padding, header and tag. */
export const largestFile = headerLength + largestValue + blockLength + tagLength;

/** The part of a file that can be read without its key. */
export interface FixedHeader {
  /** The key id of the scope's seed that it is encrypted under, 16 bytes. */
  readonly keyId: Uint8Array;
  /** Grows with every change of the secret; milliseconds since 1970 where the clock allows. */
  readonly sequence: number;
}

const shortestFile = headerLength + blockLength + tagLength;
/** The hint for a file that is damaged. */
export const restoreHint = 'restore it from a backup, or put it again';

/**
 * Reads the header, which takes no key, and refuses files of an impossible length.
 * @throws Failure `malformed`, with its own message for another kind of file, another version, a wrong length, and a
 * sequence that is not below 2^53
 */
export function readHeader(name: FixedName, bytes: Uint8Array): FixedHeader {
  const malformed = (problem: string, hint = restoreHint): Failure =>
    new Failure('malformed', `${nameText(name)} ${problem}`, { hint });
  const start = bytes.subarray(0, magic.length);
  if (!sameBytes(start, magic.subarray(0, start.length))) {
    throw malformed(
      'is not a file of a fixed folder',
      'auxcred put makes one; auxcred import takes what other programs have',
    );
  }
  if (bytes.length > magic.length && bytes[magic.length] !== version) {
    throw malformed('was written by another version of auxcred', 'install that version, or a newer one');
  }
  if (bytes.length < shortestFile) throw malformed('is empty or cut off');
  if (bytes.length > largestFile) throw malformed('is longer than the largest secret');
  if ((bytes.length - shortestFile) % blockLength !== 0) throw malformed('is cut off, or has too many bytes');
  const at = magic.length + 1;
  const sequence = Number(Buffer.from(bytes.subarray(at + keyIdLength, at + keyIdLength + 8)).readBigUInt64BE());
  if (!Number.isSafeInteger(sequence)) throw malformed('has a sequence number out of range');
  return { keyId: bytes.slice(at, at + keyIdLength), sequence };
}

/**
 * Encrypts a value. The caller wipes it. @returns the file
 * @param seed - the scope's, 32 bytes
 * @param sequence - above the one of the file that this one replaces, and below 2^53
 * @param nonce - 24 random bytes, given by tests only
 * @throws Failure `usage` for an empty value or one of more than {@link largestValue} bytes, `malformed` for a sequence
 * out of range
 */
export function encodeFixed(
  seed: Uint8Array,
  path: string,
  sequence: number,
  value: Uint8Array,
  nonce: Uint8Array = new Uint8Array(randomBytes(nonceLength)),
): Uint8Array {
  if (value.length === 0) throw new Failure('usage', 'the secret is empty');
  if (value.length > largestValue)
    throw new Failure(
      'usage',
      `the secret has ${String(value.length)} bytes, and at most ${String(largestValue)} can be delivered`,
    );
  if (!Number.isSafeInteger(sequence) || sequence < 0) {
    throw new Failure(
      'malformed',
      `${path} can't be numbered ${String(sequence)}: the file that it replaces has the last number`,
      { hint: 'auxcred rm removes that file, and auxcred put makes another one' },
    );
  }
  const header = concat(
    magic,
    Uint8Array.of(version),
    keyId(seed),
    concat(u32be(Math.floor(sequence / 2 ** 32)), u32be(sequence % 2 ** 32)),
    nonce,
  );
  const plaintext = new Uint8Array(Math.ceil((value.length + 1) / blockLength) * blockLength);
  plaintext.set(value);
  plaintext[value.length] = 0x80;
  const key = fixedKey(seed, path);
  try {
    const aad = concat(header, framed(path));
    return concat(
      header,
      extended(key, nonce, (sealing) => encrypt({ ...sealing, aad }, plaintext)),
    );
  } finally {
    key.fill(0);
    plaintext.fill(0);
  }
}

/**
 * Decrypts a file whose header has been read. The caller wipes the value.
 * @returns undefined if it does not open under that name
 * @throws Failure `malformed` if it opens but does not hold 1 to {@link largestValue} bytes with padding of 1 to 64
 * bytes, as no version of auxcred writes it
 */
export function decodeFixed(seed: Uint8Array, path: string, bytes: Uint8Array): Uint8Array | undefined {
  const plaintext = decryptedWith(seed, path, bytes);
  if (!plaintext) return undefined;
  try {
    const end = plaintext.lastIndexOf(0x80);
    const problem =
      end === -1 || plaintext.length - end > blockLength || plaintext.subarray(end + 1).some((byte) => byte !== 0)
        ? 'has other padding than a fixed file'
        : end === 0
          ? 'holds an empty value'
          : end > largestValue
            ? `holds more than ${String(largestValue)} bytes`
            : undefined;
    if (problem !== undefined)
      throw new Failure('malformed', `${path} ${problem}`, {
        hint: 'it was written by another program than auxcred: put it again',
      });
    return plaintext.slice(0, end);
  } finally {
    plaintext.fill(0);
  }
}

/** The plaintext of a file, with its padding; undefined if the tag does not match. */
function decryptedWith(seed: Uint8Array, path: string, bytes: Uint8Array): Uint8Array | undefined {
  const header = bytes.subarray(0, headerLength);
  const nonce = header.subarray(headerLength - nonceLength);
  const key = fixedKey(seed, path);
  try {
    const aad = concat(header, framed(path));
    return extended(key, nonce, (sealing) => decrypt({ ...sealing, aad }, bytes.subarray(headerLength)));
  } finally {
    key.fill(0);
  }
}

/** The digest by which a recipe names a file: its SHA-256, in hexadecimal. */
export const digestOf = (file: Uint8Array): string => createHash('sha256').update(file).digest('hex');

/**
 * The fingerprint of a value, in hexadecimal: HMAC-SHA256 over `LP(path) || u32be(length) || value` under the scope's
 * fingerprint key. Two files of one path with the same value have the same.
 */
export function fingerprintOf(seed: Uint8Array, path: string, value: Uint8Array): string {
  const key = fingerprintKey(seed);
  try {
    return createHmac('sha256', key)
      .update(concat(framed(path), u32be(value.length)))
      .update(value)
      .digest('hex');
  } finally {
    key.fill(0);
  }
}
