/**
 * A computed password hash waits for the broker in the snapshot, encrypted: an attacker with the disk has nothing to guess against.
 * Its key is derived from everything that the hash is computed from, so it encrypts this one hash and no other, and the nonce may be zero.
 */
import { chacha20poly1305 } from '@noble/ciphers/chacha.js';
import { Failure } from '../failure.ts';
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
    params: `method=${method}\nof=${Buffer.from(realmDigest(of)).toString('hex')}\nrounds=${String(rounds)}\n`,
  };
}

/** 16 bytes: the same secret hashed in two places has two salts, and each keeps its salt for as long as the secret is the same. */
export const saltOf = (scope: Uint8Array, recipe: Unhashed): Uint8Array =>
  drawn(scope, realmFor('crypt-salt', recipe), (stream) => stream.bytes(16));

function withKey<T>(scope: Uint8Array, recipe: Unhashed, work: (cipher: ReturnType<typeof chacha20poly1305>) => T): T {
  const key = leafKey(scope, realmFor('crypt-hash', recipe));
  try {
    return work(chacha20poly1305(key, zeroNonce));
  } finally {
    key.fill(0);
  }
}

export const sealHash = (scope: Uint8Array, recipe: Unhashed, hash: Uint8Array): string =>
  withKey(scope, recipe, (cipher) => Buffer.from(cipher.encrypt(hash)).toString('base64'));

/** The hash's bytes. The caller wipes them. @throws Failure `malformed` if it was computed from something else. */
export function openHash(scope: Uint8Array, recipe: Hashed): Uint8Array {
  try {
    return withKey(scope, recipe, (cipher) => cipher.decrypt(new Uint8Array(Buffer.from(recipe.sealed, 'base64'))));
  } catch (error) {
    throw new Failure('malformed', `the hash ${recipe.name} is not the one of ${recipe.of.name}`, {
      hint: 'run auxcred provision',
      cause: error,
    });
  }
}
