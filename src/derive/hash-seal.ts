/**
 * Encrypts computed password hashes in the snapshot, so that somebody with the disk has nothing to guess passwords
 * against.
 * The key is derived from everything that the hash is computed from. It encrypts this one hash only, so the nonce may
 * be zero.
 */
import { hex } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { decrypt, encrypt, type Sealing } from '../system/chacha20.ts';
import type { Realm } from './realm.ts';
import { type Hashed, realmDigest } from './recipe.ts';
import { drawn } from './secret.ts';
import { leafKey } from './tree.ts';

type Unhashed = Omit<Hashed, 'sealed'>;

const zeroNonce = new Uint8Array(12);

function realmFor(type: 'crypt-salt' | 'crypt-hash', { name, method, rounds, of }: Unhashed): Realm {
  return {
    type,
    name,
    period: '',
    generation: 1,
    params: `method=${method}\nof=${hex(realmDigest(of))}\nrounds=${String(rounds)}\n`,
  };
}

/** The salt of a hash, 16 bytes: its own for each hash, and the same until the secret changes. */
export const saltOf = (scope: Uint8Array, recipe: Unhashed): Uint8Array =>
  drawn(scope, realmFor('crypt-salt', recipe), (stream) => stream.bytes(16));

function withKey<T>(scope: Uint8Array, recipe: Unhashed, work: (sealing: Sealing) => T): T {
  const key = leafKey(scope, realmFor('crypt-hash', recipe));
  try {
    return work({ key, nonce: zeroNonce });
  } finally {
    key.fill(0);
  }
}

/** Encrypts a hash. @returns base64, for {@link Hashed}'s `sealed` */
export const sealHash = (scope: Uint8Array, recipe: Unhashed, hash: Uint8Array): string =>
  withKey(scope, recipe, (sealing) => Buffer.from(encrypt(sealing, hash)).toString('base64'));

/**
 * Decrypts the hash of a recipe. The caller wipes it.
 * @throws Failure `malformed` if it was computed from something else
 */
export function openHash(scope: Uint8Array, recipe: Hashed): Uint8Array {
  const sealed = Buffer.from(recipe.sealed, 'base64');
  const hash = withKey(scope, recipe, (sealing) => decrypt(sealing, sealed));
  if (hash) return hash;
  throw new Failure('malformed', `the hash ${recipe.name} is not a hash of ${recipe.of.name}`, {
    hint: 'run auxcred provision',
  });
}
