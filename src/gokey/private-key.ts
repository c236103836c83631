import { createECDH } from 'node:crypto';
import { concat } from '../bytes.ts';
import { pem } from '../derive/encoding.ts';
import type { GokeyStream } from './stream.ts';

const bytesOf = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, 'hex'));

/**
 * A PKCS#8 key of RFC 8410 section 7 up to its 32 bytes; the last arc of the algorithm is 110 for X25519 and 112 for
 * Ed25519.
 */
const pkcs8 = (arc: '6e' | '70'): Uint8Array => bytesOf(`302e020100300506032b65${arc}04220420`);

/** Draws an Ed25519 seed (RFC 8032) and writes it as PEM. The caller wipes it. */
export const ed25519PrivateKey = (stream: GokeyStream): Uint8Array => pkcs8Pem('70', stream.bytes(32));

/** Draws an X25519 key, clamps it (RFC 7748 section 5), and writes it as PEM. The caller wipes it. */
export function x25519PrivateKey(stream: GokeyStream): Uint8Array {
  const key = stream.bytes(32);
  key[0] = (key[0] ?? 0) & 0xf8;
  key[31] = ((key[31] ?? 0) & 0x7f) | 0x40;
  return pkcs8Pem('6e', key);
}

/** Takes ownership of the key and wipes it. */
function pkcs8Pem(arc: '6e' | '70', key: Uint8Array): Uint8Array {
  const content = concat(pkcs8(arc), key);
  key.fill(0);
  return encoded('PRIVATE KEY', content);
}

interface Curve {
  /** OpenSSL's name. */
  readonly name: string;
  /** The order of the group less 1, in hexadecimal. */
  readonly most: string;
  /** Bytes of a scalar. */
  readonly size: number;
  /** Bytes to draw: the curve's bits and 64 more (FIPS 186-4 appendix B.4.1), rounded down. */
  readonly drawn: number;
  /** DER of the curve's object identifier. */
  readonly oid: string;
}

const curves: Readonly<Record<'ec256' | 'ec384' | 'ec521', Curve>> = {
  ec256: {
    name: 'prime256v1',
    most: 'ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632550',
    size: 32,
    drawn: 40,
    oid: '06082a8648ce3d030107',
  },
  ec384: {
    name: 'secp384r1',
    most: 'ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52972',
    size: 48,
    drawn: 56,
    oid: '06052b81040022',
  },
  ec521: {
    name: 'secp521r1',
    most: '01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386408',
    size: 66,
    drawn: 73,
    oid: '06052b81040023',
  },
};

/**
 * Draws a key of a NIST curve and writes it as PEM of an ECPrivateKey with its curve and public key (RFC 5915 section
 * 3). The caller wipes it. The number passes through a BigInt, which can't be wiped.
 */
export function ecPrivateKey(stream: GokeyStream, type: 'ec256' | 'ec384' | 'ec521'): Uint8Array {
  const { name, most, size, drawn, oid } = curves[type];
  const bytes = stream.bytes(drawn);
  let rest = (bytes.reduce((number, byte) => (number << 8n) | BigInt(byte), 0n) % BigInt(`0x${most}`)) + 1n;
  bytes.fill(0);
  const key = new Uint8Array(size);
  for (let i = size - 1; i >= 0; i--, rest >>= 8n) key[i] = Number(rest & 0xffn);
  const pair = createECDH(name);
  pair.setPrivateKey(key);
  return encoded(
    'EC PRIVATE KEY',
    der(
      0x30,
      bytesOf('020101'),
      der(0x04, key),
      der(0xa0, bytesOf(oid)),
      der(0xa1, der(0x03, Uint8Array.of(0), pair.getPublicKey())),
    ),
  );
}

/** A DER element of up to 65535 bytes (X.690 section 8.1). Takes ownership of its parts and wipes them. */
function der(tag: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const header =
    length < 0x80 ? [tag, length] : length < 0x100 ? [tag, 0x81, length] : [tag, 0x82, length >> 8, length & 0xff];
  const element = concat(Uint8Array.from(header), ...parts);
  for (const part of parts) part.fill(0);
  return element;
}

/** Takes ownership of the DER and wipes it. */
function encoded(label: string, content: Uint8Array): Uint8Array {
  const text = pem(label, content, 64);
  content.fill(0);
  return text;
}
