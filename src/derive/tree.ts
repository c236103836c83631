/**
 * The seed tree: fleet seed -> host and group scopes -> one leaf key for each secret.
 * Every step is HKDF-SHA256 (RFC 5869) with a salt of its own, so that no key serves two purposes.
 * Frozen: `test/vectors/derivation.json` guards every byte.
 */
import { createHmac } from 'node:crypto';
import { concat, framed, u32be, utf8 } from '../bytes.ts';
import type { Realm } from './realm.ts';

/** Bytes in a fleet seed, a scope seed and a leaf. */
export const seedLength = 32;

/** Whose scope it is: one host's, or a group's. */
export type ScopeKind = 'host' | 'group';

/** Splits a scope such as `host/web1` into its kind and its name. */
export function scopeParts(scope: string): { readonly kind: ScopeKind; readonly name: string } {
  const slash = scope.indexOf('/');
  return { kind: scope.slice(0, slash) === 'group' ? 'group' : 'host', name: scope.slice(slash + 1) };
}

const empty = new Uint8Array(0);

const sha256Length = 32;

/**
 * HKDF-SHA256 (RFC 5869 sections 2.2 and 2.3) with an output of `length` bytes, at most 32: one block of the expansion.
 * Uses OpenSSL's HMAC, since JavaScript is slow in the broker, which has no JIT compiler. OpenSSL's HKDF takes at most
 * 1024 bytes of `info`.
 */
function derived(key: Uint8Array, purpose: string, info: Uint8Array, length: number): Uint8Array {
  if (key.length !== seedLength)
    throw new RangeError(`a seed has ${String(seedLength)} bytes, not ${String(key.length)}`);
  if (length > sha256Length) throw new RangeError(`${String(length)} bytes are more than a block`);
  const extracted = createHmac('sha256', utf8(`auxcred/v1/${purpose}`))
    .update(key)
    .digest();
  const block = createHmac('sha256', extracted).update(info).update(Uint8Array.of(1)).digest();
  const result = Uint8Array.from(block.subarray(0, length));
  for (const bytes of [extracted, block]) bytes.fill(0);
  return result;
}

/**
 * The seed (32 bytes) of a scope below `parent` (32 bytes). It reveals nothing about its parent or its siblings.
 * `epoch` counts from 1; a new epoch is a new seed, which is how a scope is revoked.
 */
export function scopeSeed(parent: Uint8Array, kind: ScopeKind, name: string, epoch: number): Uint8Array {
  return derived(parent, 'node', concat(framed(kind), framed(name), u32be(epoch)), seedLength);
}

/** The key (32 bytes) from which one secret's stream is drawn. */
export function leafKey(scope: Uint8Array, realm: Realm): Uint8Array {
  const info = concat(
    framed(realm.type),
    framed(realm.name),
    framed(realm.period),
    u32be(realm.generation),
    framed(realm.params),
  );
  return derived(scope, 'leaf', info, seedLength);
}

/** The public fingerprint of a scope's seed, 16 bytes. */
export const keyId = (scope: Uint8Array): Uint8Array => derived(scope, 'id', empty, 16);

/** The key (32 bytes) of one file of the fixed folder. `path` is the path inside the scope. */
export const fixedKey = (scope: Uint8Array, path: string): Uint8Array =>
  derived(scope, 'fixed', framed(path), seedLength);

/** The key (32 bytes) of a scope's fingerprints of fixed secrets, which tell whether two values are equal. */
export const fingerprintKey = (scope: Uint8Array): Uint8Array => derived(scope, 'fingerprint', empty, seedLength);

/** The key (32 bytes) of the fingerprints of releases. `scope` is the host's own. */
export const releaseFingerprintKey = (scope: Uint8Array): Uint8Array => derived(scope, 'release', empty, seedLength);

/** The key (32 bytes) that authenticates the files that a machine keeps beside its seeds, such as the snapshot. */
export const stateKey = (scope: Uint8Array): Uint8Array => derived(scope, 'state', empty, seedLength);

/** The seed (32 bytes) of the ed25519 key that signs the audit chain. `scope` is the host's own. */
export const auditKey = (scope: Uint8Array): Uint8Array => derived(scope, 'audit', empty, seedLength);
