/** X25519 (RFC 7748) by Node's own OpenSSL, on raw 32-byte keys. */
import { createPrivateKey, createPublicKey, diffieHellman } from 'node:crypto';

export const keyLength = 32;

/** What comes before the 32 bytes in PKCS #8 and in SubjectPublicKeyInfo for X25519 (RFC 8410). */
const privatePrefix = Buffer.from('302e020100300506032b656e04220420', 'hex');
const publicPrefix = Buffer.from('302a300506032b656e032100', 'hex');

/** The u coordinate 9. */
export const basePoint = Uint8Array.from({ length: keyLength }, (_, i) => (i === 0 ? 9 : 0));

/**
 * The scalar `secret` (clamped as RFC 7748 section 5 says) times the point `point`, 32 bytes each.
 * @returns undefined where the result is zero: a point of low order, which an attacker may choose
 */
export function x25519(secret: Uint8Array, point: Uint8Array): Uint8Array | undefined {
  const pkcs8 = Buffer.concat([privatePrefix, secret]);
  try {
    const privateKey = createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' });
    const publicKey = createPublicKey({ key: Buffer.concat([publicPrefix, point]), format: 'der', type: 'spki' });
    const shared = new Uint8Array(diffieHellman({ privateKey, publicKey }));
    return shared.every((byte) => byte === 0) ? undefined : shared;
  } catch {
    // OpenSSL itself refuses a zero result.
    return undefined;
  } finally {
    pkcs8.fill(0);
  }
}

const p = 2n ** 255n - 19n;

function power(base: bigint, exponent: bigint): bigint {
  let result = 1n;
  for (let square = base % p; exponent > 0n; exponent >>= 1n, square = (square * square) % p) {
    if (exponent & 1n) result = (result * square) % p;
  }
  return result;
}

/**
 * The X25519 public key of an Ed25519 public key (32 bytes): u = (1 + y) / (1 - y), RFC 7748 section 4.1.
 * Public keys only, so that the time it takes reveals nothing.
 */
export function montgomeryPoint(edwards: Uint8Array): Uint8Array {
  const littleEndian = Buffer.from(edwards).reverse();
  littleEndian[0] = (littleEndian[0] ?? 0) & 0x7f;
  const y = BigInt(`0x${littleEndian.toString('hex')}`);
  const u = ((1n + y) * power(((1n - y) % p) + p, p - 2n)) % p;
  return new Uint8Array(Buffer.from(u.toString(16).padStart(2 * keyLength, '0'), 'hex').reverse());
}
