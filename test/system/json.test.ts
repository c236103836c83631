import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { canonicalJson, Json, sameJson } from '../../src/system/json.ts';
import { printable } from '../../src/system/printable.ts';
import { isFailure } from '../age/expect.ts';

interface Vectors {
  values: { what: string; json: string; canonical: string }[];
  invalid: { what: string; json: string }[];
}
const vectors: Vectors = JSON.parse(readFileSync('test/vectors/canonical.json', 'utf8'));
const values = fc.jsonValue({ noUnicodeString: false });

describe('canonical JSON', () => {
  test('is that of RFC 8785 in the published vectors', () => {
    for (const { what, json, canonical } of vectors.values)
      assert.equal(canonicalJson(JSON.parse(json)), canonical, what);
  });

  test("refuses values that it can't represent", () => {
    for (const { what, json } of vectors.invalid)
      assert.throws(() => canonicalJson(JSON.parse(json)), { name: 'RangeError' }, what);
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY, [undefined], undefined, () => 1, { a: [Symbol('x')] }]) {
      assert.throws(() => canonicalJson(value), { name: 'RangeError' }, String(value));
    }
  });

  test('is JSON of the same value, independent of the order of keys, and different for different values', () => {
    const backwards = (value: unknown): unknown => {
      if (Array.isArray(value)) return value.map(backwards);
      return value !== null && typeof value === 'object'
        ? Object.fromEntries(
            Object.entries(value)
              .reverse()
              .map(([key, item]) => [key, backwards(item)]),
          )
        : value;
    };
    fc.assert(
      fc.property(values, values, (one, other) => {
        const text = canonicalJson(one);
        assert.equal(canonicalJson(JSON.parse(text)), text);
        assert.equal(canonicalJson(backwards(one)), text);
        assert.equal(sameJson(one, other), text === canonicalJson(other));
      }),
    );
  });

  test('leaves out undefined keys, and those that it is asked to omit', () => {
    assert.equal(canonicalJson({ b: undefined, a: { sealed: 1, c: 2 }, sealed: 3 }, ['sealed']), '{"a":{"c":2}}');
  });
});

describe('JSON that was read', () => {
  const parsed = (text: string): Json => Json.parse(Buffer.from(text), 'x.json', 'restore it');
  test('can be written again, whatever its texts are', () => {
    assert.equal(
      canonicalJson(parsed('{"a":"\\ud83d x \\ude00\\ud83d\\ude00"}').at('a').text()),
      '"\ufffd x \ufffd😀"',
    );
  });

  test('names a key that is unfit for a terminal without half-cut characters', () => {
    assert.equal(printable(`${'a'.repeat(299)}😀`, 300), 'a'.repeat(299));
    for (const key of ['\\ud800', '\\u202e', '\\u001b'])
      assert.throws(
        () =>
          parsed(`{"a${key}b":1}`)
            .entries()
            .map(([, item]) => item.text()),
        isFailure('malformed', /^x\.json: a ?b is not text$/),
        key,
      );
  });
});
