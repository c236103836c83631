/**
 * The ssh-ed25519 stanza of age: `-> ssh-ed25519 TAG SHARE`. The Ed25519 host key serves as an X25519 key, and the
 * shared secret is multiplied by a tweak that depends on the host key's public half (FiloSottile/age, doc/ssh.md and
 * agessh).
 */
import { createHash, hkdfSync, randomBytes } from 'node:crypto';
import { Failure } from '../failure.ts';
import { basePoint, keyLength, montgomeryPoint, x25519 } from './curve25519.ts';
import type { Unwrapper } from './file.ts';
import { unwrapFileKey, wrapFileKey } from './file-key.ts';
import { decodeBase64, encodeBase64, malformed, type Stanza } from './header.ts';
import { parseOpensshKey, type SshKeyPair } from './openssh-key.ts';

const type = 'ssh-ed25519';
const label = 'age-encryption.org/v1/ssh-ed25519';

/** The public key in ssh's wire form: its type, then its 32 bytes (RFC 8709 section 4). */
function wireKey(publicKey: Uint8Array): Buffer {
  const length = (bytes: number): Buffer => Buffer.from([0, 0, 0, bytes]);
  return Buffer.concat([length(type.length), Buffer.from(type), length(keyLength), publicKey]);
}

/** The tag of the stanzas for a host key: the first 4 bytes of the SHA-256 of its public half (32 bytes), in base64. */
export const hostKeyTag = (publicKey: Uint8Array): string =>
  encodeBase64(createHash('sha256').update(wireKey(publicKey)).digest().subarray(0, 4));

const tweakOf = (publicKey: Uint8Array): Uint8Array =>
  new Uint8Array(hkdfSync('sha256', new Uint8Array(0), wireKey(publicKey), label, 32));

/** The fingerprint of a public key (32 bytes) as `ssh-keygen -l` shows it. */
export const sshFingerprint = (publicKey: Uint8Array): string => wireFingerprint(wireKey(publicKey));

/** The same of a key of any type, as the line of its file has it in base64. */
export const wireFingerprint = (key: Uint8Array): string =>
  `SHA256:${encodeBase64(createHash('sha256').update(key).digest())}`;

/** Multiplies the shared secret by the tweak. Wipes `shared`. */
function tweaked(publicKey: Uint8Array, shared: Uint8Array): Uint8Array | undefined {
  const secret = x25519(tweakOf(publicKey), shared);
  shared.fill(0);
  return secret;
}

/** The X25519 secret of an Ed25519 seed (RFC 8032 section 5.1.5): the first half of its hash. The caller wipes it. */
function montgomerySecret(seed: Uint8Array): Uint8Array {
  const hash = createHash('sha512').update(seed).digest();
  hash.fill(0, keyLength);
  return hash.subarray(0, keyLength);
}

/** A fresh key agreement with a host key. */
interface Agreement {
  /** The {@link hostKeyTag} of the host key. */
  readonly tag: string;
  /** The ephemeral X25519 public key, 32 bytes in base64. */
  readonly share: string;
  /** 32 bytes. The caller wipes it. */
  readonly secret: Uint8Array;
}

/**
 * Agrees on a fresh secret with a host key (32 bytes).
 * @returns the arguments of a stanza and the secret behind them
 * @throws Failure `no-recipient` for a host key that is not on the curve, or of low order, so that anyone could open
 * the file
 */
export function sshEphemeralSecret(publicKey: Uint8Array): Agreement {
  const point = montgomeryPoint(publicKey);
  const ephemeral = randomBytes(keyLength);
  try {
    const shared = point && x25519(ephemeral, point);
    const secret = shared && tweaked(publicKey, shared);
    const share = x25519(ephemeral, basePoint);
    if (!secret || !share)
      throw new Failure('no-recipient', "the ssh host key's public half is not a usable ed25519 key", {
        hint: 'make a new host key with ssh-keygen -A',
      });
    return { tag: hostKeyTag(publicKey), share: encodeBase64(share), secret };
  } finally {
    ephemeral.fill(0);
  }
}

/**
 * The 32-byte secret of {@link sshEphemeralSecret}, computed from the host key's private half and a stanza
 * `TYPE TAG SHARE`; undefined if the stanza is for another key. The caller wipes it.
 * @throws Failure `malformed`
 */
export function sshSharedSecret({ seed, publicKey }: SshKeyPair, { args }: Stanza): Uint8Array | undefined {
  const [, tag = '', share = ''] = args;
  const point = decodeBase64(share);
  if (args.length !== 3 || decodeBase64(tag).length !== 4 || point.length !== keyLength)
    throw malformed('an ssh-ed25519 stanza without a tag or a share');
  if (tag !== hostKeyTag(publicKey)) return undefined;
  const own = montgomerySecret(seed);
  const shared = x25519(own, point);
  own.fill(0);
  const secret = shared && tweaked(publicKey, shared);
  if (!secret) throw malformed('an ssh-ed25519 share of low order');
  return secret;
}

/**
 * Wraps `fileKey` (16 bytes) for a host key (32 bytes).
 * @throws Failure `no-recipient` as {@link sshEphemeralSecret} does
 */
export function sshStanza(publicKey: Uint8Array, fileKey: Uint8Array): Stanza {
  const { tag, share, secret } = sshEphemeralSecret(publicKey);
  try {
    const salt = Buffer.concat([decodeBase64(share), montgomeryPoint(publicKey) ?? new Uint8Array(0)]);
    return { args: [type, tag, share], body: wrapFileKey(fileKey, { shared: secret, salt, label }) };
  } finally {
    secret.fill(0);
  }
}

/**
 * Opens with the machine's ssh host key, given the bytes of its file, which are parsed only if there is a stanza to
 * open. The caller wipes them. Unwrapping throws Failure `no-recipient` for a key file that is not usable, `malformed`
 * for a damaged stanza.
 */
export function sshUnwrapper(file: Uint8Array): Unwrapper {
  return {
    name: 'ssh host key',
    unwrap: async (stanzas) => {
      const mine = stanzas.filter(({ args }) => args[0] === type);
      if (mine.length === 0) return undefined;
      const pair = parseOpensshKey(file);
      try {
        const fileKey = unwrapWith(pair, mine);
        return fileKey && { fileKey };
      } finally {
        pair.seed.fill(0);
      }
    },
  };
}

function unwrapWith(pair: SshKeyPair, stanzas: readonly Stanza[]): Uint8Array | undefined {
  for (const stanza of stanzas) {
    const shared = sshSharedSecret(pair, stanza);
    if (!shared) continue;
    const secret = montgomerySecret(pair.seed);
    try {
      const own = x25519(secret, basePoint) ?? new Uint8Array(0);
      const fileKey = unwrapFileKey(stanza.body, {
        shared,
        salt: Buffer.concat([decodeBase64(stanza.args[2] ?? ''), own]),
        label,
      });
      if (!fileKey) throw malformed('an ssh-ed25519 stanza that its own key does not open');
      return fileKey;
    } finally {
      shared.fill(0);
      secret.fill(0);
    }
  }
  return undefined;
}
