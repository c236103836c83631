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
import { xchacha20poly1305 } from '@noble/ciphers/chacha.js';
import { concat, framed, u32be, utf8 } from '../derive/framing.ts';
import { fingerprintKey, fixedKey, keyId } from '../derive/tree.ts';
import { Failure } from '../failure.ts';
import { type FixedName, nameText } from './name.ts';

const magic = utf8('auxfixed');
const version = 1;
const keyIdLength = 16;
const nonceLength = 24;
const tagLength = 16;
const blockLength = 64;
const headerLength = magic.length + 1 + keyIdLength + 8 + nonceLength;

/** The most bytes that a fixed secret has: what one write to the credentials socket delivers whole. */
export const largestValue = 128 * 1024;
/** The most bytes of a file: the largest value with its padding. */
export const largestFile = headerLength + largestValue + blockLength + tagLength;

/** What can be read of a file without its key. */
export interface FixedHeader {
  /** Of the scope's seed that it was encrypted under, 16 bytes. */
  readonly keyId: Uint8Array;
  /** Grows with every change of the secret; milliseconds since 1970 where the clock allows. */
  readonly sequence: number;
}

/** @throws Failure `malformed`, with a message of its own for a file of another kind, of a newer version, and one that is cut off */
export function readHeader(name: FixedName, bytes: Uint8Array): FixedHeader {
  const text = nameText(name);
  if (Buffer.compare(bytes.subarray(0, magic.length), magic) !== 0) throw new Failure('malformed', `${text} is no file of a fixed folder`, { hint: 'auxcred put makes one; auxcred import takes what other programs have' });
  if (bytes[magic.length] !== version) throw new Failure('malformed', `${text} was written by another version of auxcred`, { hint: 'install that version, or a newer one' });
  const sealed = bytes.length - headerLength - tagLength;
  if (sealed < blockLength || sealed % blockLength !== 0) throw new Failure('malformed', `${text} is cut off`, { hint: 'restore it from a backup, or put it again' });
  const at = magic.length + 1;
  const sequence = Number(Buffer.from(bytes.subarray(at + keyIdLength, at + keyIdLength + 8)).readBigUInt64BE());
  if (!Number.isSafeInteger(sequence)) throw new Failure('malformed', `${text} has a sequence number out of range`, { hint: 'restore it from a backup, or put it again' });
  return { keyId: bytes.slice(at, at + keyIdLength), sequence };
}

/**
 * The file of a value. The caller wipes the value.
 * @param seed - the scope's, 32 bytes
 * @param sequence - over that of the file that this one replaces
 * @param nonce - 24 random bytes, given by tests only
 * @throws Failure `usage` for an empty value or one of more than {@link largestValue} bytes
 */
export function encodeFixed(seed: Uint8Array, path: string, sequence: number, value: Uint8Array, nonce: Uint8Array = new Uint8Array(randomBytes(nonceLength))): Uint8Array {
  if (value.length === 0) throw new Failure('usage', 'the secret is empty');
  if (value.length > largestValue) throw new Failure('usage', `the secret has ${String(value.length)} bytes, and ${String(largestValue)} are the most that can be delivered`);
  const header = concat(magic, Uint8Array.of(version), keyId(seed), concat(u32be(Math.floor(sequence / 2 ** 32)), u32be(sequence % 2 ** 32)), nonce);
  const plaintext = new Uint8Array(Math.ceil((value.length + 1) / blockLength) * blockLength);
  plaintext.set(value);
  plaintext[value.length] = 0x80;
  const key = fixedKey(seed, path);
  try {
    return concat(header, xchacha20poly1305(key, nonce, concat(header, framed(path))).encrypt(plaintext));
  } finally {
    key.fill(0);
    plaintext.fill(0);
  }
}

/** The file's value, which the caller wipes, or undefined where it does not open under that name. The header has been read. */
export function decodeFixed(seed: Uint8Array, path: string, bytes: Uint8Array): Uint8Array | undefined {
  const header = bytes.subarray(0, headerLength);
  const nonce = header.subarray(headerLength - nonceLength);
  const key = fixedKey(seed, path);
  let plaintext: Uint8Array | undefined;
  try {
    plaintext = xchacha20poly1305(key, nonce, concat(header, framed(path))).decrypt(bytes.subarray(headerLength));
    const end = plaintext.lastIndexOf(0x80);
    return end < 1 || plaintext.subarray(end + 1).some((byte) => byte !== 0) ? undefined : plaintext.slice(0, end);
  } catch {
    return undefined;
  } finally {
    key.fill(0);
    plaintext?.fill(0);
  }
}

/** What a recipe names a file by: its SHA-256, in hexadecimal. */
export const digestOf = (file: Uint8Array): string => createHash('sha256').update(file).digest('hex');

/** HMAC-SHA256 over `LP(path) || u32be(length) || value` under the scope's fingerprint key, in hexadecimal: two files with one value have one. */
export function fingerprintOf(seed: Uint8Array, path: string, value: Uint8Array): string {
  const key = fingerprintKey(seed);
  try {
    return createHmac('sha256', key).update(concat(framed(path), u32be(value.length))).update(value).digest('hex');
  } finally {
    key.fill(0);
  }
}
