/** Password hashes of crypt(5). They are slow on purpose, so they are computed once, when secrets become active. */

import { Failure } from '../failure.ts';
import { cryptHash } from '../system/crypt.ts';
import { type HashMethod, hashRounds, longestPhrase } from './hash-methods.ts';
import { saltOf, sealHash } from './hash-seal.ts';
import type { Hashed } from './recipe.ts';
import { recipeValue, type Sources } from './value.ts';

const cryptDigits = './0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const bcryptDigits = './ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';

/**
 * Writes the method, cost and salt as crypt(3) reads them (crypt(5)).
 * @param salt - 16 bytes, of which sha512-crypt takes 12
 */
export function hashSetting(method: HashMethod, rounds: number, salt: Uint8Array): string {
  switch (method) {
    case 'yescrypt': {
      // Flavour j, the logarithm of N less 1, and the block size: 8 for the two lowest costs, else 32, as in
      // crypt_gensalt(3).
      const [logN, blocks] = rounds <= 2 ? [rounds + 9, '5'] : [rounds + 7, 'T'];
      return `$y$j${cryptDigits[logN - 1] ?? ''}${blocks}$${cryptBase64(salt)}`;
    }
    case 'sha512-crypt': {
      const cost = rounds === hashRounds[method].usual ? '' : `rounds=${String(rounds)}$`;
      return `$6$${cost}${cryptBase64(salt.subarray(0, 12))}`;
    }
    case 'bcrypt':
      return `$2b$${String(rounds).padStart(2, '0')}$${bcryptBase64(salt)}`;
  }
}

/** Crypt's base64: six bits a character, the lowest first, in groups of three bytes. */
function cryptBase64(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < bytes.length; i += 3) {
    const group = bytes.subarray(i, i + 3);
    let value = group.reduceRight((sum, byte) => sum * 256 + byte, 0);
    for (let bits = 8 * group.length; bits > 0; bits -= 6, value = Math.floor(value / 64))
      text += cryptDigits[value % 64] ?? '';
  }
  return text;
}

/** Bcrypt's base64: the bit order of RFC 4648, with digits of its own and no padding. */
function bcryptBase64(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < bytes.length; i += 3) {
    const group = bytes.subarray(i, i + 3);
    const digits = Math.ceil((8 * group.length) / 6);
    let value = group.reduce((sum, byte) => sum * 256 + byte, 0) * 2 ** (6 * digits - 8 * group.length);
    let part = '';
    for (let digit = 0; digit < digits; digit++, value = Math.floor(value / 64))
      part = `${bcryptDigits[value % 64] ?? ''}${part}`;
    text += part;
  }
  return text;
}

/**
 * Computes a hash and encrypts it: {@link Hashed}'s `sealed`, in base64. Takes as long as its cost asks.
 * @throws Failure `system` if crypt(3) is missing or does not know the method, `malformed` for a fixed secret that
 * can't be hashed, or if the secret's seed or file is not available
 */
export function computeHash(sources: Sources, recipe: Omit<Hashed, 'sealed'>): string {
  const scope = sources.seedOf(recipe.of.scope, recipe.of.epoch);
  const phrase = hashable(sources, recipe);
  try {
    const hash = cryptHash(phrase, hashSetting(recipe.method, recipe.rounds, saltOf(scope, recipe)));
    try {
      return sealHash(scope, recipe, hash);
    } finally {
      hash.fill(0);
    }
  } finally {
    phrase.fill(0);
  }
}

/**
 * Checks that a secret can be hashed, without the time that hashing takes.
 * @throws Failure `malformed` for a fixed secret that can't be hashed, or if the secret's seed or file is not available
 */
export function checkHashable(sources: Sources, recipe: Omit<Hashed, 'sealed'>): void {
  hashable(sources, recipe).fill(0);
}

/** The secret to hash, which the caller wipes. */
function hashable(sources: Sources, recipe: Omit<Hashed, 'sealed'>): Uint8Array {
  const phrase = recipeValue(recipe.of, sources);
  const problem = unhashable(phrase, recipe.method);
  if (problem === undefined) return phrase;
  phrase.fill(0);
  throw new Failure('malformed', `${recipe.name}: ${recipe.of.name} ${problem}, so it can't be hashed`, {
    hint: `auxcred put ${recipe.of.scope}/${recipe.of.form === 'fixed' ? recipe.of.path : recipe.of.name} replaces it`,
  });
}

/** Why a phrase can't be hashed, as the end of a sentence; undefined if it can. */
function unhashable(phrase: Uint8Array, method: HashMethod): string | undefined {
  if (phrase.includes(0x0a)) return 'has more than one line';
  if (phrase.includes(0)) return 'holds a zero byte';
  const most = longestPhrase[method];
  return phrase.length > most ? `has more than the ${String(most)} bytes that ${method} reads` : undefined;
}
