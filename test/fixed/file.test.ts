import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { xchacha20poly1305 } from '@noble/ciphers/chacha.js';
import fc from 'fast-check';
import { concat, framed, utf8 } from '../../src/bytes.ts';
import { fingerprintKey, fixedKey, keyId } from '../../src/derive/tree.ts';
import {
  decodeFixed,
  digestOf,
  encodeFixed,
  fingerprintOf,
  largestFile,
  largestValue,
  readHeader,
} from '../../src/fixed/file.ts';
import { longestSegment, nameText, pathProblem, splitName } from '../../src/fixed/name.ts';
import { isFailure } from '../age/expect.ts';
import { bytes, hex, spelt, type Text } from '../derive/vectors.ts';

interface Vectors {
  /** A file too large to be written out has its SHA-256 instead. */
  secrets: {
    seed: string;
    path: string;
    sequence: number;
    nonce: string;
    value: Text;
    keyId: string;
    key: string;
    file?: string;
    digest?: string;
    fingerprintKey: string;
    fingerprint: string;
  }[];
  invalid: ({ what: string; seed: string; path: string; says: string } & (
    | { file: Text }
    | { plaintext: Text[]; sequence: number; nonce: string; digest: string }
  ))[];
}
const vectors: Vectors = JSON.parse(readFileSync('test/vectors/fixed.json', 'utf8'));
const seeds = fc.uint8Array({ minLength: 32, maxLength: 32 });
const values = fc.uint8Array({ minLength: 1, maxLength: 300 });
const segments = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 20 })
  .map((text) => text.normalize('NFC').replaceAll('/', '_'))
  .filter((text) => pathProblem(text) === undefined);
const paths = fc.array(segments, { minLength: 1, maxLength: 3 }).map((list) => list.join('/'));
const named = (path: string): { scope: string; path: string } => ({ scope: 'host/web1', path });

describe('a file of the fixed folder', () => {
  test('is that of the published vectors', () => {
    assert.ok(vectors.secrets.length > 40);
    for (const { seed, path, sequence, nonce, value, file, digest, ...keys } of vectors.secrets) {
      const scope = bytes(seed);
      const plain = bytes(spelt(value));
      assert.equal(hex(keyId(scope)), keys.keyId);
      assert.equal(hex(fixedKey(scope, path)), keys.key);
      assert.equal(hex(fingerprintKey(scope)), keys.fingerprintKey);
      assert.equal(fingerprintOf(scope, path, plain), keys.fingerprint);
      const made = encodeFixed(scope, path, sequence, plain, bytes(nonce));
      if (digest === undefined) assert.equal(hex(made), file);
      else assert.equal(digestOf(made), digest);
      assert.deepEqual(readHeader(named(path), made), { keyId: bytes(keys.keyId), sequence });
      assert.deepEqual(decodeFixed(scope, path, made), plain);
    }
  });

  /** What a program that has the key but ignores the rules would write: encrypted here by hand. */
  function sealed(seed: string, path: string, sequence: number, nonce: string, plaintext: readonly Text[]): Uint8Array {
    const number = Buffer.alloc(8);
    number.writeBigUInt64BE(BigInt(sequence));
    const header = concat(utf8('auxfixed\x01'), keyId(bytes(seed)), number, bytes(nonce));
    return concat(
      header,
      xchacha20poly1305(fixedKey(bytes(seed), path), bytes(nonce), concat(header, framed(path))).encrypt(
        concat(...plaintext.map((part) => bytes(spelt(part)))),
      ),
    );
  }

  test('does not open if it must not, and the message says why as far as that is known', () => {
    assert.ok(vectors.invalid.length > 25);
    for (const vector of vectors.invalid) {
      const { what, seed, path, says } = vector;
      const content =
        'file' in vector
          ? bytes(spelt(vector.file))
          : sealed(seed, path, vector.sequence, vector.nonce, vector.plaintext);
      if ('digest' in vector) assert.equal(digestOf(content), vector.digest, what);
      const open = (): Uint8Array | undefined => {
        const { keyId: claimed } = readHeader(named(path), content);
        if (hex(claimed) !== hex(keyId(bytes(seed)))) return undefined;
        return decodeFixed(bytes(seed), path, content);
      };
      if (says === 'the tag does not fit' || says === 'another key id') assert.equal(open(), undefined, what);
      else assert.throws(open, isFailure('malformed', new RegExp(`^(host/web1/)?wifi ${says}`)), what);
    }
  });

  test('has a sequence below 2^53, or is not made', () => {
    for (const sequence of [2 ** 53, 2 ** 64, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY])
      assert.throws(
        () => encodeFixed(new Uint8Array(32), 'a', sequence, Uint8Array.of(1)),
        isFailure('malformed', /can't be numbered/),
        String(sequence),
      );
    assert.equal(
      readHeader(named('a'), encodeFixed(new Uint8Array(32), 'a', 2 ** 53 - 1, Uint8Array.of(1))).sequence,
      2 ** 53 - 1,
    );
  });

  test('longer than the largest secret is not decrypted at all', () => {
    const largest = encodeFixed(new Uint8Array(32), 'a', 1, new Uint8Array(largestValue));
    assert.equal(largest.length, largestFile);
    assert.throws(
      () => readHeader(named('a'), concat(largest, new Uint8Array(64))),
      isFailure('malformed', /longer than the largest secret/),
    );
  });

  test('gives back any value under its own name and seed, and under no other', () => {
    fc.assert(
      fc.property(
        seeds,
        seeds,
        paths,
        paths,
        values,
        fc.maxSafeNat(),
        (seed, otherSeed, path, otherPath, value, sequence) => {
          const file = encodeFixed(seed, path, sequence, value);
          assert.equal(readHeader(named(path), file).sequence, sequence);
          assert.deepEqual(decodeFixed(seed, path, file), value);
          if (path !== otherPath) assert.equal(decodeFixed(seed, otherPath, file), undefined);
          if (hex(seed) !== hex(otherSeed)) assert.equal(decodeFixed(otherSeed, path, file), undefined);
        },
      ),
      { numRuns: 200 },
    );
  });

  test('with any bit changed, or any number of bytes cut off, is refused', () => {
    const seed = new Uint8Array(32).fill(7);
    const file = encodeFixed(seed, 'wifi', 1, new Uint8Array(70).fill(65));
    const opens = (content: Uint8Array): boolean => {
      try {
        const { keyId: claimed } = readHeader(named('wifi'), content);
        return hex(claimed) === hex(keyId(seed)) && decodeFixed(seed, 'wifi', content) !== undefined;
      } catch (error) {
        isFailure('malformed')(error);
        return false;
      }
    };
    assert.ok(opens(file));
    for (let at = 0; at < 8 * file.length; at++)
      assert.ok(!opens(file.map((byte, i) => (i === at >> 3 ? byte ^ (1 << (at & 7)) : byte))), `bit ${String(at)}`);
    for (let length = 0; length < file.length; length++)
      assert.ok(!opens(file.subarray(0, length)), `${String(length)} bytes`);
    fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), (garbage) => !opens(garbage)));
  });

  test('reveals little of the length of its value', () => {
    const lengths = (from: number, to: number): Set<number> =>
      new Set(
        Array.from(
          { length: to - from + 1 },
          (_, i) => encodeFixed(new Uint8Array(32), 'a', 1, new Uint8Array(from + i)).length,
        ),
      );
    assert.equal(lengths(1, 63).size, 1);
    assert.equal(lengths(64, 127).size, 1);
    assert.equal(lengths(63, 64).size, 2);
  });

  test('is not written for an empty value, or one too large to be delivered', () => {
    assert.throws(() => encodeFixed(new Uint8Array(32), 'a', 1, new Uint8Array(0)), isFailure('usage', /empty/));
    assert.throws(
      () => encodeFixed(new Uint8Array(32), 'a', 1, new Uint8Array(largestValue + 1)),
      isFailure('usage', /131073 bytes/),
    );
    assert.equal(
      decodeFixed(
        new Uint8Array(32),
        'a',
        encodeFixed(new Uint8Array(32), 'a', 1, new Uint8Array(largestValue).fill(0x80)),
      )?.length,
      largestValue,
    );
  });
});

describe('names', () => {
  test('that no file system could keep apart, or that lead out of the folder, are refused', () => {
    for (const path of [
      '',
      '/',
      '/a',
      'a/',
      'a//b',
      '.',
      '..',
      'a/../b',
      '.hidden',
      'a/.git/b',
      'a\nb',
      'a\0b',
      'a\u0085b',
      'a\u2028b',
      'e\u0301',
      '\ud800',
      'a'.repeat(longestSegment + 1),
      'é'.repeat(101),
    ])
      assert.notEqual(pathProblem(path), undefined, JSON.stringify(path));
    for (const path of [
      'a',
      'A',
      'a b',
      'é',
      '日本/鍵',
      '-x',
      '~',
      'a..b',
      'a.',
      'https:/x',
      'a'.repeat(longestSegment),
      '%2e',
    ])
      assert.equal(pathProblem(path), undefined, path);
  });

  test('with a scope are told apart from those without', () => {
    assert.deepEqual(splitName('host/web1/wifi/home'), { scope: 'host/web1', path: 'wifi/home' });
    assert.deepEqual(splitName('group/db/a'), { scope: 'group/db', path: 'a' });
    for (const text of ['wifi', 'host', 'host/web1', 'hosts/web1/a', 'host/../a', 'host//a', 'group/A/a'])
      assert.equal(splitName(text), undefined, text);
    fc.assert(fc.property(paths, (path) => assert.deepEqual(splitName(nameText(named(path))), named(path))));
  });
});
