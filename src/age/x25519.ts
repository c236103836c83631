/** The X25519 stanza of age (C2SP age.md): `-> X25519 SHARE` and a file key wrapped under the shared secret. */
import { createDecipheriv, hkdfSync } from 'node:crypto';
import { Failure } from '../failure.ts';
import { decodeBech32 } from './bech32.ts';
import { basePoint, keyLength, x25519 } from './curve25519.ts';
import type { Unwrapper } from './file.ts';
import { decodeBase64, malformed, type Stanza } from './header.ts';

const type = 'X25519';
const label = 'age-encryption.org/v1/X25519';
const fileKeyLength = 16;
const tagLength = 16;

/** Opens with an `AGE-SECRET-KEY-1...` identity; lines that are empty or begin with # are skipped. @throws Failure `no-recipient` */
export function x25519Unwrapper(identityFile: string): Unwrapper {
  const identity = identityFile.split('\n').map((line) => line.trim()).find((line) => line !== '' && !line.startsWith('#')) ?? '';
  const secret = decodeBech32('AGE-SECRET-KEY-', identity);
  if (secret?.length !== keyLength) throw new Failure('no-recipient', 'the age identity of this machine is damaged', { hint: 'restore host.key, or seal again' });
  return {
    name: 'age host key',
    unwrap: (stanzas) => Promise.resolve(stanzas.filter(({ args }) => args[0] === type).map((stanza) => unwrapWith(secret, stanza)).find((fileKey) => fileKey !== undefined)),
  };
}

function unwrapWith(secret: Uint8Array, { args, body }: Stanza): Uint8Array | undefined {
  const share = decodeBase64(args[1] ?? '');
  if (args.length !== 2 || share.length !== keyLength) throw malformed('an X25519 stanza without a share');
  const shared = x25519(secret, share);
  const own = x25519(secret, basePoint);
  if (!shared || !own) throw malformed('an X25519 stanza with a share of low order');
  return unwrapFileKey(shared, Buffer.concat([share, own]), label, body);
}

/** The wrapped file key of an age stanza opened under HKDF(shared, salt, label); undefined where it is not for this key. Wipes `shared`. */
export function unwrapFileKey(shared: Uint8Array, salt: Uint8Array, info: string, body: Uint8Array): Uint8Array | undefined {
  // An attacker who may choose the length could make one ciphertext open under many keys (age's partitioning oracle).
  if (body.length !== fileKeyLength + tagLength) throw malformed('a wrapped file key of another length');
  const key = Buffer.from(hkdfSync('sha256', shared, salt, info, 32));
  shared.fill(0);
  try {
    const decipher = createDecipheriv('chacha20-poly1305', key, Buffer.alloc(12), { authTagLength: tagLength });
    decipher.setAuthTag(body.subarray(fileKeyLength));
    const fileKey = decipher.update(body.subarray(0, fileKeyLength));
    decipher.final();
    return new Uint8Array(fileKey);
  } catch {
    return undefined;
  } finally {
    key.fill(0);
  }
}
