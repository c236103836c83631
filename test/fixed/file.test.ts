import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { fingerprintKey, fixedKey, keyId } from '../../src/derive/tree.ts';
import { decodeFixed, encodeFixed, fingerprintOf, largestValue, readHeader } from '../../src/fixed/file.ts';
import { longestSegment, nameText, pathProblem, splitName } from '../../src/fixed/name.ts';
import { isFailure } from '../age/expect.ts';
import { bytes, hex } from '../derive/vectors.ts';

interface Vectors {
  secrets: { seed: string; path: string; sequence: number; nonce: string; value: string; keyId: string; key: string; file: string; fingerprintKey: string; fingerprint: string }[];
  invalid: { what: string; seed: string; path: string; file: string; says: string | null }[];
}
const vectors: Vectors = JSON.parse(readFileSync('test/vectors/fixed.json', 'utf8'));
const seeds = fc.uint8Array({ minLength: 32, maxLength: 32 });
const values = fc.uint8Array({ minLength: 1, maxLength: 300 });
const segments = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 }).map((text) => text.normalize('NFC').replaceAll('/', '_')).filter((text) => pathProblem(text) === undefined);
const paths = fc.array(segments, { minLength: 1, maxLength: 3 }).map((list) => list.join('/'));
const named = (path: string): { scope: string; path: string } => ({ scope: 'host/web1', path });

describe('a file of the fixed folder', () => {
  test('is that of the published vectors', () => {
    assert.ok(vectors.secrets.length > 30);
    for (const { seed, path, sequence, nonce, value, file, ...keys } of vectors.secrets) {
      const scope = bytes(seed);
      assert.equal(hex(keyId(scope)), keys.keyId);
      assert.equal(hex(fixedKey(scope, path)), keys.key);
      assert.equal(hex(fingerprintKey(scope)), keys.fingerprintKey);
      assert.equal(fingerprintOf(scope, path, bytes(value)), keys.fingerprint);
      assert.equal(hex(encodeFixed(scope, path, sequence, bytes(value), bytes(nonce))), file);
      assert.deepEqual(readHeader(named(path), bytes(file)), { keyId: bytes(keys.keyId), sequence });
      assert.equal(hex(decodeFixed(scope, path, bytes(file)) ?? new Uint8Array(0)), value);
    }
  });

  test('that must not open does not, and says why as far as it can be told', () => {
    assert.ok(vectors.invalid.length > 15);
    for (const { what, seed, path, file, says } of vectors.invalid) {
      const content = bytes(file);
      if (says !== null) assert.throws(() => readHeader(named(path), content), isFailure('malformed', new RegExp(`^host/web1/wifi ${says}`)), what);
      else {
        readHeader(named(path), content);
        assert.equal(decodeFixed(bytes(seed), path, content), undefined, what);
      }
    }
  });

  test('gives back any value under its own name and seed, and under no other', () => {
    fc.assert(fc.property(seeds, seeds, paths, paths, values, fc.maxSafeNat(), (seed, otherSeed, path, otherPath, value, sequence) => {
      const file = encodeFixed(seed, path, sequence, value);
      assert.equal(readHeader(named(path), file).sequence, sequence);
      assert.deepEqual(decodeFixed(seed, path, file), value);
      if (path !== otherPath) assert.equal(decodeFixed(seed, otherPath, file), undefined);
      if (hex(seed) !== hex(otherSeed)) assert.equal(decodeFixed(otherSeed, path, file), undefined);
    }), { numRuns: 200 });
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
    for (let at = 0; at < 8 * file.length; at++) assert.ok(!opens(file.map((byte, i) => (i === at >> 3 ? byte ^ (1 << (at & 7)) : byte))), `bit ${String(at)}`);
    for (let length = 0; length < file.length; length++) assert.ok(!opens(file.subarray(0, length)), `${String(length)} bytes`);
    fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), (garbage) => !opens(garbage)));
  });

  test('says little of how long its value is', () => {
    const lengths = (from: number, to: number): Set<number> => new Set(Array.from({ length: to - from + 1 }, (_, i) => encodeFixed(new Uint8Array(32), 'a', 1, new Uint8Array(from + i)).length));
    assert.equal(lengths(1, 63).size, 1);
    assert.equal(lengths(64, 127).size, 1);
    assert.equal(lengths(63, 64).size, 2);
  });

  test('of nothing, or of more than can be delivered, is not made', () => {
    assert.throws(() => encodeFixed(new Uint8Array(32), 'a', 1, new Uint8Array(0)), isFailure('usage', /empty/));
    assert.throws(() => encodeFixed(new Uint8Array(32), 'a', 1, new Uint8Array(largestValue + 1)), isFailure('usage', /131073 bytes/));
    assert.equal(decodeFixed(new Uint8Array(32), 'a', encodeFixed(new Uint8Array(32), 'a', 1, new Uint8Array(largestValue).fill(0x80)))?.length, largestValue);
  });
});

describe('names', () => {
  test('that no file system could keep apart, or that lead out of the folder, are refused', () => {
    for (const path of ['', '/', '/a', 'a/', 'a//b', '.', '..', 'a/../b', '.hidden', 'a/.git/b', 'a\nb', 'a\0b', 'a\u0085b', 'a\u2028b', 'e\u0301', '\ud800', 'a'.repeat(longestSegment + 1), 'é'.repeat(101)]) assert.notEqual(pathProblem(path), undefined, JSON.stringify(path));
    for (const path of ['a', 'A', 'a b', 'é', '日本/鍵', '-x', '~', 'a..b', 'a.', 'https:/x', 'a'.repeat(longestSegment), '%2e']) assert.equal(pathProblem(path), undefined, path);
  });

  test('with a scope are told apart from those without', () => {
    assert.deepEqual(splitName('host/web1/wifi/home'), { scope: 'host/web1', path: 'wifi/home' });
    assert.deepEqual(splitName('group/db/a'), { scope: 'group/db', path: 'a' });
    for (const text of ['wifi', 'host', 'host/web1', 'hosts/web1/a', 'host/../a', 'host//a', 'group/A/a']) assert.equal(splitName(text), undefined, text);
    fc.assert(fc.property(paths, (path) => assert.deepEqual(splitName(nameText(named(path))), named(path))));
  });
});
