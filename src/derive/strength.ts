import { classOf, type KindOptions } from './kind.ts';
import { wordCount } from './words.ts';

/**
 * The probability that a drawn password holds all its required classes, by inclusion-exclusion over the missing
 * classes.
 */
export function acceptance({ length, alphabet, require }: Extract<KindOptions, { kind: 'password' }>): number {
  const sizes = require.map(
    (wanted) => [...alphabet].filter((character) => classOf(character.charCodeAt(0)) === wanted).length,
  );
  const subsets = Array.from({ length: 2 ** sizes.length }, (_, subset) =>
    sizes.filter((_size, i) => (subset >> i) & 1),
  );
  const sum = subsets.reduce(
    (total, missing) =>
      total + (-1) ** missing.length * (1 - missing.reduce((a, b) => a + b, 0) / alphabet.length) ** length,
    0,
  );
  // An impossible combination comes out a rounding error away from 0, on either side.
  return length < require.length ? 0 : Math.max(0, sum);
}

/**
 * The strength of a derived secret in bits: the binary logarithm of the number of secrets, all equally likely. At most
 * the seed's 256.
 */
export function strengthOf(options: KindOptions): number {
  switch (options.kind) {
    case 'password':
      return Math.min(
        256,
        Math.max(0, options.length * Math.log2(options.alphabet.length) + Math.log2(acceptance(options))),
      );
    case 'passphrase':
      return Math.min(256, options.words * Math.log2(wordCount));
    case 'hex':
    case 'base64':
    case 'bytes':
      return Math.min(256, 8 * options.bytes);
    case 'uuid':
      return 122;
    case 'wireguard-psk':
      return 256;
    default:
      // Computing a private key of a 256-bit curve from the public one takes 2^128 steps.
      return 128;
  }
}
