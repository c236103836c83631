/**
 * The keys of the audit chain: ed25519, derived from the host's seed, and the TPM's own. Verifying needs public ones.
 */
import { createHash, createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { concat, utf8 } from '../bytes.ts';
import { auditKey } from '../derive/tree.ts';
import { Failure } from '../failure.ts';

/** What precedes the key in PKCS #8 (RFC 8410 section 7). */
const pkcs8Prefix = Buffer.from('302e020100300506032b657004220420', 'hex');

/** The words that begin the lines of {@link keyText}. */
const words = { chain: 'auxcred-audit', tpm: 'auxcred-audit-tpm' } as const;

/** Public keys by {@link keyId}. */
export interface AuditKeys {
  readonly chain: ReadonlyMap<string, KeyObject>;
  readonly tpm: ReadonlyMap<string, KeyObject>;
}

/** Signs positions of the chain. */
export interface Signer {
  readonly keyId: string;
  /** The signature (64 bytes) over a record's hash. */
  sign(hash: Uint8Array): Uint8Array;
}

/** The private key that follows from the seed of the host's own scope, 32 bytes. */
export function privateKeyOf(scope: Uint8Array): KeyObject {
  const seed = auditKey(scope);
  const der = concat(pkcs8Prefix, seed);
  try {
    return createPrivateKey({ key: Buffer.from(der.buffer), format: 'der', type: 'pkcs8' });
  } finally {
    seed.fill(0);
    der.fill(0);
  }
}

const spki = (key: KeyObject): Buffer => key.export({ format: 'der', type: 'spki' });

/** Names a public key: the first 8 bytes of the SHA-256 of its SubjectPublicKeyInfo, in hexadecimal. */
export const keyId = (key: KeyObject): string => createHash('sha256').update(spki(key)).digest('hex').slice(0, 16);

const signed = (hash: Uint8Array): Uint8Array => concat(utf8('auxcred/v1/audit\0'), hash);

/** A signer with a private key. */
export function signerWith(key: KeyObject): Signer {
  return { keyId: keyId(createPublicKey(key)), sign: (hash) => sign(null, signed(hash), key) };
}

/** Whether `signature` is the key's over a record's hash. */
export const isSigned = (hash: Uint8Array, signature: Uint8Array, key: KeyObject): boolean =>
  verify(null, signed(hash), key, signature);

/** Public keys as lines of text, for `auxcred audit --public-key=`. */
export const keyText = ({ chain, tpm }: AuditKeys): string =>
  [
    ...[...chain.values()].map((key) => `${words.chain} ${spki(key).toString('base64')}\n`),
    ...[...tpm.values()].map((key) => `${words.tpm} ${spki(key).toString('base64')}\n`),
  ].join('');

/** Public keys by their ids. */
export const auditKeys = (chain: readonly KeyObject[], tpm: readonly KeyObject[]): AuditKeys => ({
  chain: new Map(chain.map((key) => [keyId(key), key])),
  tpm: new Map(tpm.map((key) => [keyId(key), key])),
});

/**
 * Parses what {@link keyText} writes. Empty lines and those that begin with `#` do not count.
 * @param place - where the text is from, for the failure
 * @throws Failure `malformed`
 */
export function parseKeys(text: string, place: string): AuditKeys {
  const found: { readonly [Word in keyof typeof words]: KeyObject[] } = { chain: [], tpm: [] };
  for (const [i, line] of text.split('\n').entries()) {
    const [word, base64 = '', ...more] = line.trim().split(/\s+/);
    if (word === undefined || word === '' || word.startsWith('#')) continue;
    const key = more.length > 0 ? undefined : publicKey(base64);
    if (word === words.chain && key?.asymmetricKeyType === 'ed25519') found.chain.push(key);
    else if (word === words.tpm && key?.asymmetricKeyType === 'ec') found.tpm.push(key);
    else
      throw new Failure('malformed', `${place}, line ${String(i + 1)}, is not a public key of an audit chain`, {
        hint: 'auxcred audit --key prints them on the machine',
      });
  }
  if (found.chain.length === 0)
    throw new Failure('malformed', `${place} holds no public key of an audit chain`, {
      hint: 'auxcred audit --key prints it on the machine',
    });
  return auditKeys(found.chain, found.tpm);
}

function publicKey(base64: string): KeyObject | undefined {
  try {
    return createPublicKey({ key: Buffer.from(base64, 'base64'), format: 'der', type: 'spki' });
  } catch {
    return undefined;
  }
}
