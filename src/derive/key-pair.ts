/** Key pairs: draws 32 bytes, and writes the private and public half of each kind. */
import { createECDH } from 'node:crypto';
import { encodeBech32 } from '../age/bech32.ts';
import { ed25519PublicKey, x25519PublicKey } from '../age/curve25519.ts';
import { concat, u32be, utf8 } from '../bytes.ts';
import { base64, pem } from './encoding.ts';
import type { KeyKind } from './kind.ts';
import type { KeyStream } from './stream.ts';

/** RFC 7468 section 3. */
const pemWidth = 64;
/** As ssh-keygen writes it. */
const opensshWidth = 70;

/** The order of P-256 (SP 800-186 section 3.2.1.3). */
const p256Order = Buffer.from('ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551', 'hex');

/**
 * DER around the keys: RFC 8410 section 7 for the first two, RFC 5915 section 3 inside RFC 5208 section 5 for the last.
 */
const privateDer = {
  ed25519: ['302e020100300506032b657004220420'],
  x25519: ['302e020100300506032b656e04220420'],
  'ec-p256': ['308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420', 'a144034200'],
} as const;
const publicDer = {
  ed25519: '302a300506032b6570032100',
  x25519: '302a300506032b656e032100',
  'ec-p256': '3059301306072a8648ce3d020106082a8648ce3d030107034200',
} as const;

const fromHex = (text: string): Uint8Array => Buffer.from(text, 'hex');

/**
 * Draws a private key, 32 bytes. WireGuard's and X25519's are clamped (RFC 7748 section 5). P-256's is a number from 1
 * to the order less 1, big-endian: draws are repeated until one fits. The caller wipes it.
 */
export function drawKey(stream: KeyStream, kind: KeyKind): Uint8Array {
  const key = stream.bytes(32);
  if (kind === 'wireguard' || kind === 'x25519') {
    key[0] = (key[0] ?? 0) & 0xf8;
    key[31] = ((key[31] ?? 0) & 0x7f) | 0x40;
  } else if (kind === 'ec-p256') {
    while (key.every((byte) => byte === 0) || Buffer.compare(key, p256Order) >= 0) key.set(stream.bytes(32));
  }
  return key;
}

/** The public half of a key that {@link drawKey} made: 32 bytes, or 65 (uncompressed) for P-256. */
function publicKey(kind: KeyKind, key: Uint8Array): Uint8Array {
  switch (kind) {
    case 'ssh-ed25519':
    case 'ed25519':
      return ed25519PublicKey(key);
    case 'wireguard':
    case 'age':
    case 'x25519':
      return x25519PublicKey(key);
    case 'ec-p256': {
      const pair = createECDH('prime256v1');
      pair.setPrivateKey(key);
      return pair.getPublicKey();
    }
  }
}

/**
 * Writes the private half in the format that its programs read. The caller wipes the result.
 * @param check - 4 bytes that stand twice in an OpenSSH key, so that ssh notices a wrong passphrase
 * @param comment - of an OpenSSH key
 */
export function encodePrivate(kind: KeyKind, key: Uint8Array, check: Uint8Array, comment: string): Uint8Array {
  switch (kind) {
    case 'wireguard':
      return base64(key);
    case 'age':
      return encodeBech32('AGE-SECRET-KEY-', key);
    case 'ssh-ed25519':
      return opensshPrivate(key, check, comment);
    case 'ed25519':
    case 'x25519':
      return wipedAfter(concat(fromHex(privateDer[kind][0]), key), (der) => pem('PRIVATE KEY', der, pemWidth));
    case 'ec-p256':
      return wipedAfter(
        concat(fromHex(privateDer[kind][0]), key, fromHex(privateDer[kind][1]), publicKey(kind, key)),
        (der) => pem('PRIVATE KEY', der, pemWidth),
      );
  }
}

/** Writes the public half in the format that its programs read: a line without a newline at its end, or PEM. */
export function encodePublic(kind: KeyKind, key: Uint8Array, comment: string): Uint8Array {
  const bytes = publicKey(kind, key);
  switch (kind) {
    case 'wireguard':
      return base64(bytes);
    case 'age':
      return encodeBech32('age', bytes);
    case 'ssh-ed25519':
      return concat(
        utf8('ssh-ed25519 '),
        base64(concat(sshString('ssh-ed25519'), sshString(bytes))),
        utf8(comment === '' ? '' : ` ${comment}`),
      );
    default:
      return pem('PUBLIC KEY', concat(fromHex(publicDer[kind]), bytes), pemWidth);
  }
}

function wipedAfter(bytes: Uint8Array, encode: (bytes: Uint8Array) => Uint8Array): Uint8Array {
  const encoded = encode(bytes);
  bytes.fill(0);
  return encoded;
}

/** A string of RFC 4251 section 5. */
function sshString(content: string | Uint8Array): Uint8Array {
  const bytes = typeof content === 'string' ? utf8(content) : content;
  return concat(u32be(bytes.length), bytes);
}

/**
 * OpenSSH's PROTOCOL.key: no cipher, no KDF, one key, the private part padded with 1, 2, 3... to a multiple of 8 bytes.
 */
function opensshPrivate(seed: Uint8Array, check: Uint8Array, comment: string): Uint8Array {
  const point = ed25519PublicKey(seed);
  const pair = concat(seed, point);
  const pairField = sshString(pair);
  const fields = concat(check, check, sshString('ssh-ed25519'), sshString(point), pairField, sshString(comment));
  const padding = Uint8Array.from({ length: (8 - (fields.length % 8)) % 8 }, (_, i) => i + 1);
  const secret = concat(u32be(fields.length + padding.length), fields, padding);
  const content = concat(
    utf8('openssh-key-v1\0'),
    sshString('none'),
    sshString('none'),
    sshString(''),
    u32be(1),
    sshString(concat(sshString('ssh-ed25519'), sshString(point))),
    secret,
  );
  const text = pem('OPENSSH PRIVATE KEY', content, opensshWidth);
  for (const bytes of [pair, pairField, fields, secret, content]) bytes.fill(0);
  return text;
}
