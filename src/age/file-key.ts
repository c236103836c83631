/** The file key of an age file (C2SP age.md), as the X25519 and ssh-ed25519 stanzas wrap it. */
import { createCipheriv, createDecipheriv, hkdfSync } from 'node:crypto';
import { malformed } from './header.ts';

/** Bytes. */
export const fileKeyLength = 16;

const tagLength = 16;
/** A wrap key comes from a fresh share, and wraps one file key. */
const zeroNonce = new Uint8Array(12);

/** How a stanza makes its wrap key: HKDF-SHA256(shared, salt, label, 32). */
export interface Wrapping {
  /** The shared secret, 32 bytes. */
  readonly shared: Uint8Array;
  readonly salt: Uint8Array;
  readonly label: string;
}

const wrapKey = ({ shared, salt, label }: Wrapping): Uint8Array =>
  new Uint8Array(hkdfSync('sha256', shared, salt, label, 32));

/** The 32 bytes of a stanza's body. */
export function wrapFileKey(fileKey: Uint8Array, wrapping: Wrapping): Uint8Array {
  const key = wrapKey(wrapping);
  try {
    const cipher = createCipheriv('chacha20-poly1305', key, zeroNonce, { authTagLength: tagLength });
    return Buffer.concat([cipher.update(fileKey), cipher.final(), cipher.getAuthTag()]);
  } finally {
    key.fill(0);
  }
}

/**
 * The file key (16 bytes) in a stanza's body, which the caller wipes; undefined if the body is not for this wrap key.
 * @throws Failure `malformed` for a body of another length: who may choose it can make one ciphertext open under many keys
 */
export function unwrapFileKey(body: Uint8Array, wrapping: Wrapping): Uint8Array | undefined {
  const key = wrapKey(wrapping);
  try {
    return openFileKey(body, key);
  } finally {
    key.fill(0);
  }
}

/** The same with the wrap key itself (32 bytes), which the caller wipes. @throws Failure `malformed` */
export function openFileKey(body: Uint8Array, key: Uint8Array): Uint8Array | undefined {
  if (body.length !== fileKeyLength + tagLength) throw malformed('a wrapped file key of another length');
  let fileKey: Uint8Array | undefined;
  try {
    const decipher = createDecipheriv('chacha20-poly1305', key, zeroNonce, { authTagLength: tagLength });
    decipher.setAuthTag(body.subarray(fileKeyLength));
    fileKey = decipher.update(body.subarray(0, fileKeyLength));
    decipher.final();
    return fileKey;
  } catch {
    fileKey?.fill(0);
    return undefined;
  }
}
