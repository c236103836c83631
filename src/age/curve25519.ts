/** X25519 (RFC 7748) and its conversions from Ed25519 (RFC 8032), on raw 32-byte keys, with Node's own OpenSSL. */
import { createPrivateKey, createPublicKey, diffieHellman, type KeyObject } from 'node:crypto';

/** Bytes in a private and in a public key. */
export const keyLength = 32;

/** The DER in front of the 32 bytes, in PKCS #8 and in SubjectPublicKeyInfo (RFC 8410). */
const privatePrefix = {
  x25519: Buffer.from('302e020100300506032b656e04220420', 'hex'),
  ed25519: Buffer.from('302e020100300506032b657004220420', 'hex'),
};
const x25519PublicPrefix = Buffer.from('302a300506032b656e032100', 'hex');

/** The base point of X25519: the u coordinate 9 (RFC 7748 section 4.1). */
export const basePoint = Uint8Array.from({ length: keyLength }, (_, i) => (i === 0 ? 9 : 0));

function privateKeyOf(curve: keyof typeof privatePrefix, secret: Uint8Array): KeyObject {
  const key = Buffer.concat([privatePrefix[curve], secret]);
  try {
    return createPrivateKey({ key, format: 'der', type: 'pkcs8' });
  } finally {
    key.fill(0);
  }
}

/**
 * Multiplies `point` by the scalar `secret` (clamped as in RFC 7748 section 5), 32 bytes each. The caller wipes the
 * result.
 * @returns undefined if the result is zero, as it is for the points of low order that an attacker may choose
 */
export function x25519(secret: Uint8Array, point: Uint8Array): Uint8Array | undefined {
  const privateKey = privateKeyOf('x25519', secret);
  // The point may itself be secret: the ssh-ed25519 stanza multiplies a shared secret by a tweak.
  const key = Buffer.concat([x25519PublicPrefix, point]);
  const publicKey = createPublicKey({ key, format: 'der', type: 'spki' });
  key.fill(0);
  try {
    const shared = diffieHellman({ privateKey, publicKey });
    return shared.every((byte) => byte === 0) ? undefined : shared;
  } catch {
    // OpenSSL refuses a zero result.
    return undefined;
  }
}

/** The X25519 public key (32 bytes) of a 32-byte secret, clamped or not. */
export const x25519PublicKey = (secret: Uint8Array): Uint8Array =>
  createPublicKey(privateKeyOf('x25519', secret)).export({ format: 'der', type: 'spki' }).subarray(-keyLength);

/** The Ed25519 public key (32 bytes) of a 32-byte seed. */
export const ed25519PublicKey = (seed: Uint8Array): Uint8Array =>
  createPublicKey(privateKeyOf('ed25519', seed)).export({ format: 'der', type: 'spki' }).subarray(-keyLength);

const p = 2n ** 255n - 19n;
const modulo = (n: bigint): bigint => ((n % p) + p) % p;

function power(base: bigint, exponent: bigint): bigint {
  let result = 1n;
  for (let square = modulo(base); exponent > 0n; exponent >>= 1n, square = (square * square) % p) {
    if (exponent & 1n) result = (result * square) % p;
  }
  return result;
}

const inverse = (n: bigint): bigint => power(n, p - 2n);

/** The constant d of the curve -x² + y² = 1 + d x² y² (RFC 8032 section 5.1). */
const d = 37095705934669439343138083508754565189542113879843219016388785533085940283555n;

/**
 * Converts an Ed25519 public key (32 bytes) to the X25519 one: u = (1 + y) / (1 - y), RFC 7748 section 4.1.
 * Its running time depends on the key, so it is for public keys only.
 * @returns undefined if the bytes are not a canonical point of the curve. {@link x25519} detects points of low order
 */
export function montgomeryPoint(edwards: Uint8Array): Uint8Array | undefined {
  if (edwards.length !== keyLength) return undefined;
  const bigEndian = Buffer.from(edwards).reverse();
  bigEndian[0] = (bigEndian[0] ?? 0) & 0x7f;
  const y = BigInt(`0x${bigEndian.toString('hex')}`);
  // x² = (y² - 1) / (d y² + 1) has a root if numerator times denominator is a square: Euler's criterion.
  const square = modulo((y * y - 1n) * (d * y * y + 1n));
  if (y >= p || power(square, (p - 1n) / 2n) === p - 1n) return undefined;
  const u = modulo((1n + y) * inverse(1n - y));
  return Buffer.from(u.toString(16).padStart(2 * keyLength, '0'), 'hex').reverse();
}
