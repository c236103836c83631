import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { crossingsOf, type Place } from '../../src/graph/layers.ts';

const places = (column: number, count: number): Place[] =>
  Array.from({ length: count }, (_, i) => ({ id: `${String(column)} ${String(i)}`, column, height: 1, y: 0 }));

test('crossings are those of every pair of links', () => {
  const link = fc.tuple(fc.nat(6), fc.nat(6));
  fc.assert(
    fc.property(fc.array(link, { maxLength: 30 }), (links) => {
      const [left, right] = [places(0, 7), places(1, 7)];
      const after = new Map(
        left.map((place, i) => [place, links.filter(([from]) => from === i).flatMap(([, to]) => right[to] ?? [])]),
      );
      const pairs = links.flatMap(([from, to]) => links.filter(([other, end]) => other > from && end < to));
      assert.equal(crossingsOf([left, right], after), pairs.length);
    }),
  );
});

test('those of 90,000 links, as of a large manifest, are counted at once', () => {
  const [left, right] = [places(0, 300), places(1, 300)];
  const pairs = (300 * 299) / 2;
  const begin = performance.now();
  assert.equal(crossingsOf([left, right], new Map(left.map((place) => [place, right]))), pairs * pairs);
  assert.ok(performance.now() - begin < 2_000);
});
