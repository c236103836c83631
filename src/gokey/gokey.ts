/**
 * Makes gokey's passwords and keys, byte for byte as cloudflare/gokey 0.2.0 does, and without a seed file as every
 * version does.
 *
 * Before 0.2.0, gokey never used the secret part of a seed file: its output depended on public bytes only
 * (CVE-2025-13353). Those values are not computed here.
 */
import { createDecipheriv, hkdfSync, pbkdf2Sync } from 'node:crypto';
import { concat, utf8 } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { drawPassword } from './password.ts';
import { ecPrivateKey, ed25519PrivateKey, x25519PrivateKey } from './private-key.ts';
import { GokeyStream } from './stream.ts';

/** gokey's types of output. */
export const gokeyTypes = ['pass', 'raw', 'ed25519', 'x25519', 'ec256', 'ec384', 'ec521'] as const;
/** One of gokey's types of output. */
export type GokeyType = (typeof gokeyTypes)[number];

/** One call of gokey. */
export interface GokeyRequest {
  readonly masterPassword: Uint8Array;
  /** The purpose of the secret; not empty. */
  readonly realm: string;
  /** The bytes of the seed file, without those to skip. Without it, the master password alone decides. */
  readonly seed?: Uint8Array;
  readonly type: GokeyType;
  /** Characters of a password (default 10), or bytes of raw output (default 32). Keys have no length. */
  readonly length?: number;
  /** Whether keys and raw output may be derived from the master password alone. */
  readonly allowUnsafe: boolean;
}

/** The nonce at the beginning of a seed file, in bytes. */
export const nonceLength = 12;
const tagLength = 16;
/** PBKDF2 rounds, as in every version of gokey. */
const iterations = 4096;

/** What gokey adds to the realm for each type. */
const suffixes: Readonly<Record<GokeyType, string>> = {
  pass: '-pass',
  raw: '-raw',
  ed25519: '-key(ED25519)',
  x25519: '-key(X25519)',
  ec256: '-key(EC256)',
  ec384: '-key(EC384)',
  ec521: '-key(EC521)',
};

/**
 * Makes what gokey prints: a password without a newline, raw bytes, or a key in PEM. The caller wipes the result and
 * the request's secrets.
 * @throws Failure `usage` for what gokey refuses, `no-recipient` for a master password that does not open the seed file
 */
export function gokey({ masterPassword, realm, seed, type, length, allowUnsafe }: GokeyRequest): Uint8Array {
  if (realm === '') throw new Failure('usage', 'no realm provided');
  if (length !== undefined && type !== 'pass' && type !== 'raw')
    throw new Failure('usage', `key type ${type} does not support length parameter`);
  if (length !== undefined && (!Number.isInteger(length) || length < 1))
    throw new Failure('usage', 'invalid length parameter');
  if (!seed && type !== 'pass' && !allowUnsafe)
    throw new Failure('usage', 'generating keys without strong seed is not allowed', {
      hint: '-s SEEDFILE, or -u if the master password is strong enough',
    });
  const info = utf8(`${realm}${suffixes[type]}`);
  const key = seed ? seededKey(masterPassword, seed, info) : passwordKey(masterPassword, info);
  const stream = new GokeyStream(key);
  try {
    switch (type) {
      case 'pass':
        return drawPassword(stream, length ?? 10);
      case 'raw':
        return stream.bytes(length ?? 32);
      case 'ed25519':
        return ed25519PrivateKey(stream);
      case 'x25519':
        return x25519PrivateKey(stream);
      case 'ec256':
      case 'ec384':
      case 'ec521':
        return ecPrivateKey(stream, type);
    }
  } finally {
    key.fill(0);
    stream.wipe();
  }
}

/** PBKDF2-HMAC-SHA256 (RFC 8018 section 5.2), 32 bytes. The caller wipes them. */
export const passwordKey = (masterPassword: Uint8Array, salt: Uint8Array): Uint8Array =>
  pbkdf2Sync(masterPassword, salt, iterations, 32, 'sha256');

/** HKDF-SHA256 (RFC 5869) of nonce, decrypted body and tag, with nonce and tag as salt. */
function seededKey(masterPassword: Uint8Array, file: Uint8Array, info: Uint8Array): Uint8Array {
  if (file.length < nonceLength + tagLength)
    throw new Failure(
      'usage',
      `a seed file has at least ${String(nonceLength + tagLength)} bytes, not ${String(file.length)}`,
      { hint: 'auxcred gokey -t seed -o FILE makes one' },
    );
  const nonce = file.subarray(0, nonceLength);
  const tag = file.subarray(file.length - tagLength);
  const body = openSeed(masterPassword, nonce, file.subarray(nonceLength, file.length - tagLength), tag);
  const whole = concat(nonce, body, tag);
  try {
    return new Uint8Array(hkdfSync('sha256', whole, concat(nonce, tag), info, 32));
  } finally {
    body.fill(0);
    whole.fill(0);
  }
}

/** Decrypts AES-256-GCM with the master password's key for that nonce, without associated data. */
function openSeed(masterPassword: Uint8Array, nonce: Uint8Array, body: Uint8Array, tag: Uint8Array): Uint8Array {
  const key = passwordKey(masterPassword, nonce);
  const decipher = createDecipheriv('aes-256-gcm', key, nonce);
  decipher.setAuthTag(tag);
  const opened = decipher.update(body);
  try {
    decipher.final();
    return Uint8Array.from(opened);
  } catch {
    throw new Failure('no-recipient', 'the master password does not open the seed file', {
      hint: 'or the file is damaged, or -skip is wrong',
    });
  } finally {
    key.fill(0);
    opened.fill(0);
  }
}
