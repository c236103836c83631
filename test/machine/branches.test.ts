/** Which literal branches a seed keeps, and what they are for. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { utf8 } from '../../src/bytes.ts';
import { type BranchSources, type BranchWish, chooseBranches } from '../../src/machine/branches.ts';
import { type BranchLabels, branchId, encodeLabels, parseLabels } from '../../src/seeds/branch-labels.ts';
import { mostBranches, type PcrValues } from '../../src/tpm2/policy.ts';
import { failsWith } from '../tpm2/sealing.ts';

const valuesOf = (kernel: number): PcrValues => new Map([[4, new Uint8Array(32).fill(kernel)]]);
const imageOf = (kernel: number): string => kernel.toString(16).padStart(2, '0').repeat(32);
const wish = (kernel: number, isSure = true): BranchWish => ({
  values: valuesOf(kernel),
  entry: `${String(kernel)}.conf`,
  image: imageOf(kernel),
  isSure,
});
const labelled = (...kernels: readonly number[]): BranchLabels =>
  new Map(
    kernels.map((kernel) => [
      branchId(valuesOf(kernel)),
      { entry: `${String(kernel)}.conf`, image: imageOf(kernel), since: kernel },
    ]),
  );
const choose = (more: Partial<BranchSources>) =>
  chooseBranches({
    current: wish(100),
    wanted: [],
    known: [],
    labels: new Map(),
    installed: new Set(),
    prunes: false,
    now: 1000,
    ...more,
  });
const kernelsIn = ({ branches }: { readonly branches: readonly PcrValues[] }): number[] =>
  branches.map((values) => values.get(4)?.[0] ?? 0);

describe('the branches of a seed', () => {
  const eight = [1, 2, 3, 4, 5, 6, 7, 100];
  const known = eight.map(valuesOf);

  test('for a ninth, the oldest that is not installed goes', () => {
    const installed = new Set([1, 3, 4, 5, 6, 7].map(imageOf));
    const chosen = choose({ wanted: [wish(9)], known, labels: labelled(...eight), installed });
    assert.deepEqual(kernelsIn(chosen), [100, 9, 1, 3, 4, 5, 6, 7]);
    assert.deepEqual(chosen.dropped, [{ entry: '2.conf', isInstalled: false }]);
    assert.deepEqual(chosen.kept.slice(0, 3), [
      { entry: '100.conf', isCurrent: true, isNew: false },
      { entry: '9.conf', isCurrent: false, isNew: true },
      { entry: '1.conf', isCurrent: false, isNew: false },
    ]);
    const more = choose({ wanted: [wish(9), wish(10)], known, labels: labelled(...eight), installed });
    assert.deepEqual(kernelsIn(more), [100, 9, 10, 3, 4, 5, 6, 7]);
    assert.deepEqual(more.dropped.at(-1), { entry: '1.conf', isInstalled: true });
  });

  test('a branch without a label goes before those that have one', () => {
    const chosen = choose({ wanted: [wish(9)], known, labels: labelled(1, 2, 3, 4, 5, 6) });
    assert.deepEqual(chosen.dropped, [{ entry: undefined, isInstalled: false }]);
    assert.ok(!kernelsIn(chosen).includes(7));
  });

  test("this boot's and the next one's never go", () => {
    const wanted = [9, 10, 11, 12, 13, 14, 15, 16].map((kernel) => wish(kernel));
    const chosen = choose({ wanted, known });
    assert.deepEqual(kernelsIn(chosen), [100, 9, 10, 11, 12, 13, 14, 15]);
  });

  test('branches of what is gone go with --installed, those without a label stay', () => {
    const chosen = choose({
      wanted: [wish(2)],
      known: [1, 2, 3].map(valuesOf),
      labels: labelled(1, 2),
      installed: new Set([imageOf(2)]),
      prunes: true,
    });
    assert.deepEqual(kernelsIn(chosen), [100, 2, 3]);
    assert.deepEqual(chosen.dropped, [{ entry: '1.conf', isInstalled: false }]);
  });

  test('a branch of the same entry with other values goes only if the new ones are sure', () => {
    const before = new Map([[branchId(valuesOf(50)), { entry: '2.conf', image: imageOf(2), since: 5 }]]);
    for (const isSure of [true, false]) {
      const chosen = choose({
        wanted: [wish(2, isSure)],
        known: [valuesOf(50)],
        labels: before,
        installed: new Set([imageOf(2)]),
        prunes: true,
      });
      assert.deepEqual(kernelsIn(chosen), isSure ? [100, 2] : [100, 2, 50]);
    }
  });

  test('a label stays with its values, also once they are those of this boot', () => {
    const chosen = choose({ current: { ...wish(3), entry: 'file.efi' }, known: [valuesOf(3)], labels: labelled(3) });
    assert.equal(chosen.labels.get(branchId(valuesOf(3)))?.since, 3);
    assert.equal(choose({ current: { values: valuesOf(3) } }).labels.size, 0);
  });

  test('are at most eight, each once, with this boot first, whatever there was', () => {
    const kernel = fc.integer({ min: 1, max: 30 });
    fc.assert(
      fc.property(
        fc.array(kernel),
        fc.uniqueArray(kernel),
        fc.array(kernel),
        fc.boolean(),
        (had, wants, has, prunes) => {
          const chosen = choose({
            wanted: wants.map((one) => wish(one)),
            known: had.map(valuesOf),
            labels: labelled(...had),
            installed: new Set(has.map(imageOf)),
            prunes,
          });
          const kernels = kernelsIn(chosen);
          assert.ok(kernels.length <= mostBranches);
          assert.equal(new Set(kernels).size, kernels.length);
          assert.equal(kernels[0], 100);
          assert.ok(wants[0] === undefined || kernels.includes(wants[0]));
          // What fits is kept, unless it is pruned.
          const all = new Set([100, ...had, ...wants]);
          if (!prunes && all.size <= mostBranches) assert.deepEqual(new Set(kernels), all);
        },
      ),
    );
  });
});

describe('branches.json', () => {
  test('is read back as it was written', () => {
    const labels = labelled(1, 2, 3);
    assert.deepEqual(parseLabels(encodeLabels(labels), 'branches.json'), labels);
  });

  test('anything else is refused', () => {
    const id = 'ab'.repeat(32);
    for (const text of [
      '',
      '{}',
      '{"branches":{},"version":2}',
      `{"branches":{"${id}":{"entry":"a","image":"x","since":1}},"version":1}`,
      `{"branches":{"x":{"entry":"a","image":"${id}","since":1}},"version":1}`,
      `{"branches":{"${id}":{"entry":"a","image":"${id}","since":-1}},"version":1}`,
    ])
      assert.throws(() => parseLabels(utf8(text), 'branches.json'), failsWith('malformed'), text);
  });
});
