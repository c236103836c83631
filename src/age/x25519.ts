/** The X25519 stanza of age (C2SP age.md): `-> X25519 SHARE`, a file key wrapped under the shared secret. */
import { Failure } from '../failure.ts';
import { decodeBech32 } from './bech32.ts';
import { basePoint, keyLength, x25519 } from './curve25519.ts';
import type { Unwrapper } from './file.ts';
import { unwrapFileKey } from './file-key.ts';
import { decodeBase64, malformed, type Stanza } from './header.ts';

const type = 'X25519';
const label = 'age-encryption.org/v1/X25519';

/**
 * Opens with the one `AGE-SECRET-KEY-1...` identity in a file of age-keygen's. Empty lines and lines that begin with #
 * are skipped.
 * The file is parsed only if there is a stanza to open, and never copied whole. The caller wipes it.
 * Unwrapping throws Failure `no-recipient` for a damaged identity, `malformed` for a damaged stanza.
 */
export function x25519Unwrapper(identityFile: Uint8Array | string): Unwrapper {
  const bytes = typeof identityFile === 'string' ? Buffer.from(identityFile) : identityFile;
  return {
    name: 'age host key',
    unwrap: async (stanzas) => {
      const mine = stanzas.filter(({ args }) => args[0] === type);
      if (mine.length === 0) return undefined;
      const secret = parseIdentity(bytes);
      try {
        for (const stanza of mine) {
          const fileKey = unwrapWith(secret, stanza);
          if (fileKey) return { fileKey };
        }
        return undefined;
      } finally {
        secret.fill(0);
      }
    },
  };
}

function parseIdentity(file: Uint8Array): Uint8Array {
  const lines = identityLines(file);
  const [identity] = lines;
  const secret = identity && lines.length === 1 ? decodeBech32('AGE-SECRET-KEY-', identity) : undefined;
  if (secret?.length === keyLength) return secret;
  secret?.fill(0);
  throw new Failure('no-recipient', 'the age identity of this machine is damaged', {
    hint: 'restore host.key, or seal again',
  });
}

function identityLines(file: Uint8Array): Uint8Array[] {
  const lines: Uint8Array[] = [];
  for (let start = 0; start < file.length; ) {
    const newline = file.indexOf(0x0a, start);
    const end = newline === -1 ? file.length : newline;
    const line = file.subarray(start, file[end - 1] === 0x0d ? end - 1 : end);
    if (line.length > 0 && line[0] !== 0x23) lines.push(line);
    start = end + 1;
  }
  return lines;
}

function unwrapWith(secret: Uint8Array, { args, body }: Stanza): Uint8Array | undefined {
  const share = decodeBase64(args[1] ?? '');
  if (args.length !== 2 || share.length !== keyLength) throw malformed('an X25519 stanza without a share');
  const shared = x25519(secret, share);
  const own = x25519(secret, basePoint);
  if (!shared || !own) throw malformed('an X25519 share of low order');
  try {
    return unwrapFileKey(body, { shared, salt: Buffer.concat([share, own]), label });
  } finally {
    shared.fill(0);
  }
}
