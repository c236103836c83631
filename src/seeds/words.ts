import { entropyToMnemonic, mnemonicToEntropy } from '@scure/bip39';
import { wordlist } from '@scure/bip39/wordlists/english.js';
import { seedLength } from '../derive/tree.ts';
import { Failure } from '../failure.ts';

/**
 * A seed (32 bytes) as 24 words for paper: its bits are BIP-39's entropy, checksum included. BIP-39's own key
 * derivation is not used, so that the words give back the very same 32 bytes.
 */
export const wordsOf = (seed: Uint8Array): string => entropyToMnemonic(seed, wordlist);

/** The most bytes that a file of 24 words has, with much white space. */
export const mostWordBytes = 4096;

/** The seed (32 bytes) of 24 words. @throws Failure `usage`, without the words, if they are not a seed. */
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
    // Only the checksum is left to be wrong.
  }
  throw new Failure('usage', 'the checksum of the 24 words is wrong', {
    hint: 'a word is mistaken or two have changed places',
  });
}
