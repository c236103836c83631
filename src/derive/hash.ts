/** Password hashes of crypt(5). They take time on purpose, so they are computed once, when secrets are put in force. */
import { cryptHash } from '../system/crypt.ts';
import { hashRounds } from './hash-rounds.ts';
import { sealHash, saltOf } from './hash-seal.ts';
import type { Hashed, HashMethod } from './recipe.ts';
import { deriveSecret } from './secret.ts';

const cryptDigits = './0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const bcryptDigits = './ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';

/**
 * Method, cost and salt as crypt(3) reads them (crypt(5)).
 * @param salt - 16 bytes, of which sha512-crypt takes 12
 */
export function hashSetting(method: HashMethod, rounds: number, salt: Uint8Array): string {
  switch (method) {
    case 'yescrypt': {
      // Flavour j, then the logarithm of N less 1, then the block size: 8 for the two lowest costs, else 32, as crypt_gensalt(3) chooses them.
      const [logN, blocks] = rounds <= 2 ? [rounds + 9, '5'] : [rounds + 7, 'T'];
      return `$y$j${cryptDigits[logN - 1] ?? ''}${blocks}$${littleEndian(salt)}`;
    }
    case 'sha512-crypt':
      return `$6$${rounds === hashRounds[method].usual ? '' : `rounds=${String(rounds)}$`}${littleEndian(salt.subarray(0, 12))}`;
    case 'bcrypt':
      return `$2b$${String(rounds).padStart(2, '0')}$${bigEndian(salt)}`;
  }
}

/** Six bits a character, the lowest first, in groups of three bytes. */
function littleEndian(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < bytes.length; i += 3) {
    const group = bytes.subarray(i, i + 3);
    let value = group.reduceRight((sum, byte) => sum * 256 + byte, 0);
    for (let bits = 8 * group.length; bits > 0; bits -= 6, value = Math.floor(value / 64)) text += cryptDigits[value % 64] ?? '';
  }
  return text;
}

/** The order of RFC 4648, with bcrypt's own digits and no padding. */
function bigEndian(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < bytes.length; i += 3) {
    const group = bytes.subarray(i, i + 3);
    const digits = Math.ceil((8 * group.length) / 6);
    let value = group.reduce((sum, byte) => sum * 256 + byte, 0) * 2 ** (6 * digits - 8 * group.length);
    let part = '';
    for (let digit = 0; digit < digits; digit++, value = Math.floor(value / 64)) part = `${bcryptDigits[value % 64] ?? ''}${part}`;
    text += part;
  }
  return text;
}

/**
 * The hash, encrypted, in base64, for {@link Hashed}'s `sealed`.
 * @param scope - the seed of the hashed secret's scope
 * @throws Failure `system` where crypt(3) is missing or does not know the method
 */
export function computeHash(scope: Uint8Array, recipe: Omit<Hashed, 'sealed'>): string {
  const phrase = deriveSecret(scope, recipe.of);
  const hash = cryptHash(phrase, hashSetting(recipe.method, recipe.rounds, saltOf(scope, recipe)));
  try {
    return sealHash(scope, recipe, hash);
  } finally {
    phrase.fill(0);
    hash.fill(0);
  }
}
