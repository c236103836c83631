import { createECDH } from 'node:crypto';
import { pem } from '../derive/encoding.ts';
import { concat } from '../derive/framing.ts';
import type { GokeyStream } from './stream.ts';

const bytesOf = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, 'hex'));

/** A PKCS#8 key of RFC 8410 section 7 up to its 32 bytes; the last arc of the algorithm is 110 for X25519 and 112 for Ed25519. */
const pkcs8 = (arc: '6e' | '70'): Uint8Array => bytesOf(`302e020100300506032b65${arc}04220420`);

/** PEM of an Ed25519 seed (RFC 8032). */
export const ed25519PrivateKey = (stream: GokeyStream): Uint8Array => encoded('PRIVATE KEY', concat(pkcs8('70'), stream.bytes(32)));

/** PEM of an X25519 key, clamped (RFC 7748 section 5) before it is written. */
export function x25519PrivateKey(stream: GokeyStream): Uint8Array {
  const key = stream.bytes(32);
  key[0] = (key[0] ?? 0) & 0xf8;
  key[31] = ((key[31] ?? 0) & 0x7f) | 0x40;
  return encoded('PRIVATE KEY', concat(pkcs8('6e'), key));
}

interface Curve {
  /** OpenSSL's name. */
  readonly name: string;
  /** The group's order less one, in hexadecimal. */
  readonly most: string;
  /** Bytes of a scalar. */
  readonly size: number;
  /** Bytes that are drawn: 64 bits more than the curve's (FIPS 186-4 appendix B.4.1), rounded down. */
  readonly drawn: number;
  /** DER of the curve's object identifier. */
  readonly oid: string;
}

const curves: Readonly<Record<'ec256' | 'ec384' | 'ec521', Curve>> = {
  ec256: { name: 'prime256v1', most: 'ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632550', size: 32, drawn: 40, oid: '06082a8648ce3d030107' },
  ec384: { name: 'secp384r1', most: 'ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52972', size: 48, drawn: 56, oid: '06052b81040022' },
  ec521: { name: 'secp521r1', most: '01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386408', size: 66, drawn: 73, oid: '06052b81040023' },
};

/** PEM of an ECPrivateKey with its curve and its public key (RFC 5915 section 3). */
export function ecPrivateKey(stream: GokeyStream, type: 'ec256' | 'ec384' | 'ec521'): Uint8Array {
  const { name, most, size, drawn, oid } = curves[type];
  const scalar = (BigInt(`0x${Buffer.from(stream.bytes(drawn)).toString('hex')}`) % BigInt(`0x${most}`)) + 1n;
  const key = bytesOf(scalar.toString(16).padStart(2 * size, '0'));
  const pair = createECDH(name);
  pair.setPrivateKey(key);
  const point = concat(Uint8Array.of(0), new Uint8Array(pair.getPublicKey()));
  return encoded('EC PRIVATE KEY', der(0x30, concat(bytesOf('020101'), der(0x04, key), der(0xa0, bytesOf(oid)), der(0xa1, der(0x03, point)))));
}

/** A DER element of up to 65535 bytes (X.690 section 8.1). */
function der(tag: number, content: Uint8Array): Uint8Array {
  const { length } = content;
  const header = length < 0x80 ? [tag, length] : length < 0x100 ? [tag, 0x81, length] : [tag, 0x82, length >> 8, length & 0xff];
  return concat(Uint8Array.from(header), content);
}

/** Takes the DER over and wipes it. */
function encoded(label: string, content: Uint8Array): Uint8Array {
  const text = pem(label, content, 64);
  content.fill(0);
  return text;
}
