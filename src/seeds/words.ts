import { entropyToMnemonic, mnemonicToEntropy } from '@scure/bip39';
import { wordlist } from '@scure/bip39/wordlists/english.js';
import { seedLength } from '../derive/tree.ts';
import { Failure } from '../failure.ts';

/**
 * Writes a seed (32 bytes) as 24 words for paper: the seed is BIP-39's entropy, and the words include its checksum.
 * BIP-39's key derivation is not used, so the words give back the same 32 bytes.
 */
export const wordsOf = (seed: Uint8Array): string => entropyToMnemonic(seed, wordlist);

/** The most bytes of a file with 24 words, generous with white space. */
export const mostWordBytes = 4096;

/**
 * The seed (32 bytes) of 24 words. The caller wipes it.
 * @throws Failure `usage`, which does not quote the words, if they are not a seed
 */
export function seedOfWords(text: string): Uint8Array {
  const words = text.trim().toLowerCase().split(/\s+/);
  if (words.length !== 24) throw new Failure('usage', `a seed has 24 words, not ${String(words.length)}`);
  const unknown = words.findIndex((word) => !wordlist.includes(word));
  if (unknown !== -1)
    throw new Failure('usage', `word ${String(unknown + 1)} is not in the BIP-39 English list`, {
      hint: 'the first four letters of a word identify it',
    });
  try {
    const seed = mnemonicToEntropy(words.join(' '), wordlist);
    if (seed.length === seedLength) return seed;
  } catch {
    // Only the checksum can still be wrong.
  }
  throw new Failure('usage', 'the checksum of the 24 words is wrong', {
    hint: 'a word is wrong, or two are swapped',
  });
}
