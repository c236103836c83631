/** A seed on paper, as BIP-39 writes its entropy. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { wordlist } from '@scure/bip39/wordlists/english.js';
import { seedOfWords, wordsOf } from '../../src/seeds/words.ts';
import { isFailure } from '../age/expect.ts';
import { bytes, hex, wordVectors } from './vectors.ts';

test("the list is BIP-39's English one, as it is published", () => {
  const { words, sha256 } = wordVectors.lists.find(({ list }) => list === 'bip39') ?? assert.fail();
  const file = wordlist.map((word) => `${word}\n`).join('');
  assert.deepEqual([wordlist.length, createHash('sha256').update(file).digest('hex')], [words, sha256]);
});

test('seeds and words are those of the published vectors', () => {
  assert.ok(wordVectors.seeds.length > 10);
  for (const { seed, words } of wordVectors.seeds) {
    assert.equal(wordsOf(bytes(seed)), words);
    assert.equal(hex(seedOfWords(` ${words.toUpperCase().replaceAll(' ', '\n\t ')}\n`)), seed);
  }
});

test('invalid words of the published vectors are refused, and not quoted', () => {
  for (const { what, words, says } of wordVectors.invalid) {
    assert.throws(
      () => seedOfWords(words),
      (error) => isFailure('usage', new RegExp(says))(error) && (words === '' || !String(error).includes('abandon')),
      what,
    );
  }
});
