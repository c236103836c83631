import assert from 'node:assert/strict';
import { createCipheriv } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { deriveSecret } from '../../src/derive/secret.ts';
import { KeyStream } from '../../src/derive/stream.ts';
import { wordAt, wordCount } from '../../src/derive/words.ts';
import { alnum, printable, seeds } from './arbitraries.ts';
import { bytes, hex, text } from './vectors.ts';

const seed = bytes(`${'00'.repeat(31)}2a`);

/**
 * Asserts that counts of equally likely outcomes differ no more than in 9999 of 10000 cases (Wilson and Hilferty's
 * approximation).
 */
function assertFlat(counts: readonly number[]): void {
  const expected = counts.reduce((a, b) => a + b, 0) / counts.length;
  const chiSquare = counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
  const freedom = counts.length - 1;
  const limit = freedom * (1 - 2 / (9 * freedom) + 3.719 * Math.sqrt(2 / (9 * freedom))) ** 3;
  assert.ok(
    chiSquare < limit,
    `chi square ${chiSquare.toFixed(1)} of ${String(freedom)} degrees of freedom is beyond ${limit.toFixed(1)}`,
  );
}

function countsOf(draws: Iterable<number>, outcomes: number): number[] {
  const counts = new Array<number>(outcomes).fill(0);
  for (const draw of draws) counts[draw] = (counts[draw] ?? 0) + 1;
  assert.equal(counts.length, outcomes, 'a draw is at or above its bound');
  return counts;
}

test('the stream is the ChaCha20 keystream as OpenSSL computes it, however it is read', () => {
  fc.assert(
    fc.property(seeds, fc.array(fc.integer({ min: 0, max: 1500 }), { minLength: 1, maxLength: 6 }), (key, lengths) => {
      const stream = new KeyStream(Uint8Array.from(key));
      const read = Buffer.concat(lengths.map((length) => stream.bytes(length)));
      assert.equal(
        hex(read),
        hex(createCipheriv('chacha20', key, new Uint8Array(16)).update(new Uint8Array(read.length))),
      );
    }),
    { numRuns: 50 },
  );
});

test('a wiped stream has wiped the key it took over', () => {
  const key = new Uint8Array(32).fill(7);
  const stream = new KeyStream(key);
  stream.bytes(1);
  stream.wipe();
  assert.deepEqual(key, new Uint8Array(32));
});

test('every number below a bound is equally likely', () => {
  for (const [bound, each] of [
    [2, 5000],
    [3, 5000],
    [94, 1000],
    [200, 1000],
    [256, 1000],
    [257, 1000],
    [7776, 40],
    [40000, 20],
  ] as const) {
    const stream = new KeyStream(Uint8Array.from(seed));
    assertFlat(
      countsOf(
        Array.from({ length: bound * each }, () => stream.below(bound)),
        bound,
      ),
    );
  }
});

test('numbers up to 256 take one byte, higher ones two with the higher first, and those that would favour low numbers are thrown away', () => {
  fc.assert(
    fc.property(seeds, fc.integer({ min: 1, max: 65536 }), (key, bound) => {
      const source = createCipheriv('chacha20', key, new Uint8Array(16)).update(new Uint8Array(4096));
      const width = bound > 256 ? 2 : 1;
      const values = Array.from({ length: 4096 / width }, (_, i) => source.readUIntBE(i * width, width)).filter(
        (value) => value < 256 ** width - (256 ** width % bound),
      );
      const stream = new KeyStream(Uint8Array.from(key));
      for (const value of values.slice(0, 500)) assert.equal(stream.below(bound), value % bound);
    }),
    { numRuns: 200 },
  );
});

test("a bound that two bytes can't reach is refused", () => {
  for (const bound of [0, -1, 65537, 1.5, NaN, Infinity])
    assert.throws(() => new KeyStream(Uint8Array.from(seed)).below(bound), RangeError);
});

test('every character of an alphabet is equally likely', () => {
  for (const alphabet of [alnum, printable, 'abc']) {
    const value = deriveSecret(seed, {
      name: 'flat',
      options: { kind: 'password', length: alphabet.length * 2000, alphabet, require: [] },
      period: '',
      generation: 1,
    });
    assertFlat(
      countsOf(
        [...text(value)].map((character) => alphabet.indexOf(character)),
        alphabet.length,
      ),
    );
  }
});

test('every password that has its classes is equally likely', () => {
  const alphabet = '01ab';
  const allowed = Array.from({ length: 64 }, (_, i) =>
    [i >> 4, (i >> 2) & 3, i & 3].map((at) => alphabet[at]).join(''),
  ).filter((word) => /\d/.test(word) && /[ab]/.test(word));
  const draws = Array.from({ length: 4800 }, (_, i) =>
    text(
      deriveSecret(seed, {
        name: `n${String(i)}`,
        options: { kind: 'password', length: 3, alphabet, require: ['digit', 'lower'] },
        period: '',
        generation: 1,
      }),
    ),
  );
  for (const draw of draws) assert.ok(allowed.includes(draw));
  assertFlat(
    countsOf(
      draws.map((draw) => allowed.indexOf(draw)),
      allowed.length,
    ),
  );
});

test('every word is equally likely', () => {
  const index = new Map(Array.from({ length: wordCount }, (_, i) => [wordAt(i), i]));
  const draws = Array.from({ length: 300 }, (_, i) =>
    text(
      deriveSecret(seed, {
        name: `n${String(i)}`,
        options: { kind: 'passphrase', words: 1024, separator: ' ', capitalize: false },
        period: '',
        generation: 1,
      }),
    ).split(' '),
  );
  assertFlat(
    countsOf(
      draws.flat().map((word) => index.get(word) ?? NaN),
      wordCount,
    ),
  );
});
