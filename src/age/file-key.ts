/** Wraps and unwraps the file key of an age file (C2SP age.md) for the X25519, ssh-ed25519 and scrypt stanzas. */
import { hkdfSync } from 'node:crypto';
import { decrypt, encrypt } from '../system/chacha20.ts';
import { malformed } from './header.ts';

/** Bytes in a file key. */
export const fileKeyLength = 16;

const tagLength = 16;
/** Sound because every wrap key comes from a fresh share and wraps one file key. */
const zeroNonce = new Uint8Array(12);

/** The inputs of a stanza's wrap key: HKDF-SHA256(shared, salt, label, 32). */
export interface Wrapping {
  /** The shared secret, 32 bytes. */
  readonly shared: Uint8Array;
  readonly salt: Uint8Array;
  readonly label: string;
}

const wrapKey = ({ shared, salt, label }: Wrapping): Uint8Array =>
  new Uint8Array(hkdfSync('sha256', shared, salt, label, 32));

/** Encrypts a file key (16 bytes). @returns the 32 bytes of a stanza's body */
export function wrapFileKey(fileKey: Uint8Array, wrapping: Wrapping): Uint8Array {
  const key = wrapKey(wrapping);
  try {
    return sealFileKey(fileKey, key);
  } finally {
    key.fill(0);
  }
}

/** As {@link wrapFileKey}, with the wrap key itself (32 bytes), which the caller wipes and uses once. */
export function sealFileKey(fileKey: Uint8Array, key: Uint8Array): Uint8Array {
  return encrypt({ key, nonce: zeroNonce }, fileKey);
}

/**
 * Decrypts the file key (16 bytes) in a stanza's body. The caller wipes it.
 * @returns undefined if the body is not for this wrap key
 * @throws Failure `malformed` if the body does not have 32 bytes: longer ciphertexts can be made to open under many
 * keys
 */
export function unwrapFileKey(body: Uint8Array, wrapping: Wrapping): Uint8Array | undefined {
  const key = wrapKey(wrapping);
  try {
    return openFileKey(body, key);
  } finally {
    key.fill(0);
  }
}

/**
 * As {@link unwrapFileKey}, with the wrap key itself (32 bytes), which the caller wipes.
 * @throws Failure `malformed`
 */
export function openFileKey(body: Uint8Array, key: Uint8Array): Uint8Array | undefined {
  if (body.length !== fileKeyLength + tagLength) throw malformed('a wrapped file key of another length');
  return decrypt({ key, nonce: zeroNonce }, body);
}
