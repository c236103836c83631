/**
 * The ssh-ed25519 stanza of age: `-> ssh-ed25519 TAG SHARE`. The Ed25519 host key serves as an X25519 key, and the shared
 * secret is multiplied by a tweak that depends on the host key's public half.
 */
import { createCipheriv, createHash, hkdfSync, randomBytes } from 'node:crypto';
import { basePoint, keyLength, montgomeryPoint, x25519 } from './curve25519.ts';
import type { Unwrapper } from './file.ts';
import { decodeBase64, encodeBase64, malformed, type Stanza } from './header.ts';
import type { SshKeyPair } from './openssh-key.ts';
import { unwrapFileKey } from './x25519.ts';

const type = 'ssh-ed25519';
const label = 'age-encryption.org/v1/ssh-ed25519';

/** The public key as ssh writes it: its type, then its 32 bytes (RFC 8709 section 4). */
function wireKey(publicKey: Uint8Array): Buffer {
  const length = (bytes: number): Buffer => Buffer.from([0, 0, 0, bytes]);
  return Buffer.concat([length(type.length), Buffer.from(type), length(keyLength), publicKey]);
}

const tagOf = (publicKey: Uint8Array): string => encodeBase64(createHash('sha256').update(wireKey(publicKey)).digest().subarray(0, 4));

const tweakOf = (publicKey: Uint8Array): Uint8Array => new Uint8Array(hkdfSync('sha256', new Uint8Array(0), wireKey(publicKey), label, 32));

function tweaked(publicKey: Uint8Array, shared: Uint8Array | undefined): Uint8Array {
  const secret = shared && x25519(tweakOf(publicKey), shared);
  shared?.fill(0);
  if (!secret) throw malformed('an ssh-ed25519 share of low order');
  return secret;
}

/** The X25519 secret of an Ed25519 key (RFC 8032 section 5.1.5): half of the hash of its seed. The caller wipes it. */
function montgomerySecret({ seed }: SshKeyPair): Uint8Array {
  const hash = createHash('sha512').update(seed).digest();
  const secret = Uint8Array.from(hash.subarray(0, keyLength));
  hash.fill(0);
  return secret;
}

/** One fresh agreement with a host key: what goes into a stanza's arguments, and the 32-byte secret behind it. */
export function sshEphemeralSecret(publicKey: Uint8Array): { tag: string; share: string; secret: Uint8Array } {
  const ephemeral = new Uint8Array(randomBytes(keyLength));
  const share = x25519(ephemeral, basePoint);
  const secret = tweaked(publicKey, x25519(ephemeral, montgomeryPoint(publicKey)));
  ephemeral.fill(0);
  if (!share) throw malformed('an ssh-ed25519 share of low order');
  return { tag: tagOf(publicKey), share: encodeBase64(share), secret };
}

/**
 * The 32-byte secret of {@link sshEphemeralSecret}, from the host key's private half and a stanza's tag and share;
 * undefined where the stanza is for another key. @throws Failure `malformed`
 */
export function sshSharedSecret(pair: SshKeyPair, { args }: Stanza): Uint8Array | undefined {
  const [, tag = '', share = ''] = args;
  const point = decodeBase64(share);
  if (args.length !== 3 || decodeBase64(tag).length !== 4 || point.length !== keyLength) throw malformed('an ssh-ed25519 stanza without a tag or a share');
  if (tag !== tagOf(pair.publicKey)) return undefined;
  const secret = montgomerySecret(pair);
  const shared = x25519(secret, point);
  secret.fill(0);
  return tweaked(pair.publicKey, shared);
}

/** The stanza that wraps `fileKey` (16 bytes) for a host key (32 bytes). */
export function sshStanza(publicKey: Uint8Array, fileKey: Uint8Array): Stanza {
  const { tag, share, secret } = sshEphemeralSecret(publicKey);
  const key = Buffer.from(hkdfSync('sha256', secret, Buffer.concat([decodeBase64(share), montgomeryPoint(publicKey)]), label, 32));
  const cipher = createCipheriv('chacha20-poly1305', key, Buffer.alloc(12), { authTagLength: 16 });
  const body = Buffer.concat([cipher.update(fileKey), cipher.final(), cipher.getAuthTag()]);
  secret.fill(0);
  key.fill(0);
  return { args: [type, tag, share], body: new Uint8Array(body) };
}

/** Opens with the machine's ssh host key. */
export function sshUnwrapper(pair: SshKeyPair): Unwrapper {
  const unwrap = (stanza: Stanza): Uint8Array | undefined => {
    const shared = sshSharedSecret(pair, stanza);
    const secret = montgomerySecret(pair);
    const own = x25519(secret, basePoint);
    secret.fill(0);
    if (!shared || !own) return undefined;
    const fileKey = unwrapFileKey(shared, Buffer.concat([decodeBase64(stanza.args[2] ?? ''), own]), label, stanza.body);
    if (!fileKey) throw malformed('an ssh-ed25519 stanza that its own key does not open');
    return fileKey;
  };
  return {
    name: 'ssh host key',
    unwrap: (stanzas) => Promise.resolve(stanzas.filter(({ args }) => args[0] === type).map(unwrap).find((fileKey) => fileKey !== undefined)),
  };
}
