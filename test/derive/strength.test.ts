import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import { type CharacterClass, characterClasses, classOf, keyKinds } from '../../src/derive/kind.ts';
import { acceptance, strengthOf } from '../../src/derive/strength.ts';
import { wordAt, wordCount } from '../../src/derive/words.ts';
import { alnum, printable } from './arbitraries.ts';

const words = Array.from({ length: wordCount }, (_, i) => wordAt(i));

describe('the word list', () => {
  test("is the EFF's large one, in the order of its dice", () => {
    const dice = (index: number): string =>
      [1296, 216, 36, 6, 1].map((place) => String(1 + (Math.floor(index / place) % 6))).join('');
    const file = words.map((word, i) => `${dice(i)}\t${word}\n`).join('');
    assert.equal(
      createHash('sha256').update(file).digest('hex'),
      'addd35536511597a02fa0a9ff1e5284677b8883b83e986e43f15a3db996b903e',
    );
  });

  test('has 7776 different words of lower-case letters and hyphens, and no more', () => {
    assert.equal(new Set(words).size, 7776);
    for (const word of words) assert.match(word, /^[a-z](?:[a-z-]*[a-z])?$/);
    for (const index of [-1, 7776, 0.5, NaN]) assert.throws(() => wordAt(index), RangeError);
  });

  test('has no word that begins with another one: phrases differ however they are joined', () => {
    const all = new Set(words);
    for (const word of words)
      for (let length = 1; length < word.length; length++) assert.ok(!all.has(word.slice(0, length)), word);
  });
});

const subsets: readonly (readonly CharacterClass[])[] = Array.from({ length: 16 }, (_, subset) =>
  characterClasses.filter((_class, i) => (subset >> i) & 1),
);

/** How many strings of this length have every required class, counted one by one. */
function counted(alphabet: string, length: number, require: readonly CharacterClass[]): number {
  const bit = (wanted: CharacterClass): number => 1 << characterClasses.indexOf(wanted);
  const needed = require.reduce((mask, wanted) => mask | bit(wanted), 0);
  const masks = [...alphabet].map((character) => bit(classOf(character.charCodeAt(0))));
  const walk = (left: number, mask: number): number =>
    left === 0 ? Number((mask & needed) === needed) : masks.reduce((sum, next) => sum + walk(left - 1, mask | next), 0);
  return walk(length, 0);
}

test('the strength of a password is the logarithm of how many there are, counted one by one', () => {
  for (const alphabet of ['ab', 'a1', 'aB1', '!1Aa', '!1Aab', 'abcd1', '01A']) {
    for (let length = 1; length <= 5; length++) {
      for (const require of subsets) {
        const options = { kind: 'password', length, alphabet, require } as const;
        const count = counted(alphabet, length, require);
        const what = `${alphabet} ${String(length)} ${require.join()}`;
        assert.ok(Math.abs(acceptance(options) - count / alphabet.length ** length) < 1e-12, what);
        assert.ok(
          Math.abs(strengthOf(options) - Math.log2(Math.max(1, count))) < 1e-9,
          `${what}: ${String(strengthOf(options))} for ${String(count)}`,
        );
      }
    }
  }
});

test("a password that can't be has no strength, with any alphabet", () => {
  for (const alphabet of [alnum, printable, `!1A${alnum.slice(36)}`]) {
    for (const require of subsets.filter((subset) => subset.length > 1)) {
      for (let length = 1; length < require.length; length++)
        assert.equal(strengthOf({ kind: 'password', length, alphabet, require }), 0);
    }
  }
});

test('required classes cost no more strength than what they exclude', () => {
  for (const length of [4, 8, 12, 32, 200]) {
    for (const require of subsets) {
      const share = acceptance({ kind: 'password', length, alphabet: printable, require });
      assert.ok(share > 0 && share <= 1 + 1e-12);
      assert.ok(require.length > 0 || share === 1);
    }
  }
});

test("the strength of the other kinds is that of what is drawn, and never more than the seed's", () => {
  assert.equal(strengthOf({ kind: 'passphrase', words: 6, separator: '-', capitalize: true }).toFixed(3), '77.549');
  assert.equal(strengthOf({ kind: 'hex', bytes: 16 }), 128);
  assert.equal(strengthOf({ kind: 'uuid' }), 122);
  assert.equal(strengthOf({ kind: 'wireguard-psk' }), 256);
  for (const kind of keyKinds) assert.equal(strengthOf(kind === 'ssh-ed25519' ? { kind, comment: '' } : { kind }), 128);
  for (const kind of ['hex', 'base64', 'bytes'] as const) assert.equal(strengthOf({ kind, bytes: 64 }), 256);
  assert.equal(strengthOf({ kind: 'password', length: 64, alphabet: printable, require: ['digit'] }), 256);
  assert.equal(strengthOf({ kind: 'passphrase', words: 1024, separator: '', capitalize: false }), 256);
});
