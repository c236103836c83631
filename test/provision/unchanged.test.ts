import assert from 'node:assert/strict';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { Failure } from '../../src/failure.ts';
import { activeSnapshot } from '../../src/provision/active-snapshot.ts';
import { stepsFor } from '../../src/provision/running-units.ts';
import { activeValue, type Given, paths, plan, put, root, scopes, touched, useRoot, write } from './machine.ts';

useRoot();

describe('a run with nothing to do', () => {
  const text =
    '[secret.a]\nrotate = "monthly"\nunits = ["a.service"]\n[secret.u]\nkind = "fixed"\nunits = ["u.service"]\n';
  const settled = (): string => join(paths().snapshot, 'settled.json');
  const works = (name: string, expected: boolean, given: Given = {}): void => {
    const { changed, changes } = put(text, given);
    assert.deepEqual([changed, changes.length > 0], [expected, expected], name);
    assert.equal(activeValue('u.service', 'u'), 'v', name);
  };

  test("is detected from the snapshot's inputs, and any change is noticed", () => {
    write('host/web1/u', 'v');
    works('first', true);
    works('again', false);
    works('another month', true, { at: new Date('2026-12-01T00:00:00Z') });
    assert.throws(
      () => put(text, { at: new Date('2026-11-30T23:59:59Z') }),
      (error) => error instanceof Failure && error.code === 'clock',
    );
    works('back in that month', false, { at: new Date('2026-12-31T23:59:59Z') });
    write('host/web1/u', 'w');
    assert.deepEqual(
      put(text, { at: new Date('2026-12-02T00:00:00Z') }).changes.map(({ why }) => why),
      ['value'],
    );
  });

  for (const name of ['releases.json', 'record.json', 'settled.json'])
    test(`does not rely on a damaged ${name}`, () => {
      write('host/web1/u', 'v');
      put(text);
      const file = join(paths().snapshot, name);
      const bytes = readFileSync(file);
      const middle = Math.floor(bytes.length / 2);
      bytes[middle] = (bytes[middle] ?? 0) ^ 1;
      writeFileSync(file, bytes);
      assert.equal(put(text).changed, name !== 'settled.json');
      assert.equal(activeValue('u.service', 'u'), 'v');
      assert.equal(put(text).changed, false);
    });

  test('restores a missing file of the snapshot', () => {
    write('host/web1/u', 'v');
    put(text);
    rmSync(join(paths().snapshot, 'fixed'), { recursive: true });
    assert.equal(put(text).changed, true);
    assert.equal(activeValue('u.service', 'u'), 'v');
  });

  test('does not count as one while a hook holds something back', () => {
    const hooked = (generation: number): string =>
      `[secret.a]\ngeneration = ${String(generation)}\nunits = ["a.service"]\n` +
      `hook = ["/bin/test", "-e", "${join(root, 'up')}"]\n`;
    put(hooked(1));
    for (let i = 0; i < 2; i++) assert.deepEqual([...put(hooked(2)).held.keys()], ['a']);
    writeFileSync(join(root, 'up'), '');
    assert.equal(put(hooked(2)).changes.length, 1);
    assert.equal(put(hooked(2)).changed, false);
    assert.ok(existsSync(settled()));
  });
});

test('everything is checked before the first hook runs', () => {
  const log = join(root, 'log');
  const hooked = (generation: number): string =>
    `[secret.a]\ngeneration = ${String(generation)}\nunits = ["a.service"]\nhook = ["/bin/touch", "${log}"]\n`;
  put(hooked(1));
  write('host/web1/big', 'x'.repeat(100_000));
  write('host/web1/lines', 'a\nb');
  const snapshot = readFileSync(join(paths().snapshot, 'releases.json'));
  for (const [more, code] of [
    [
      '[secret.t]\nkind = "template"\ncontent = "{{big}}{{big}}"\nunits = ["b.service"]\n' +
        '[secret.big]\nkind = "fixed"\n',
      'invalid-manifest',
    ],
    ['[secret.h]\nkind = "crypt"\nof = "lines"\nunits = ["b.service"]\n[secret.lines]\nkind = "fixed"\n', 'malformed'],
    ['[secret.f]\nkind = "fixed"\nunits = ["b.service"]\n', 'not-found'],
  ] as const) {
    for (const attempt of [put, plan])
      assert.throws(
        () => attempt(hooked(2) + more),
        (error) => error instanceof Failure && error.code === code,
        more,
      );
    assert.ok(!existsSync(log), more);
    assert.ok(snapshot.equals(readFileSync(join(paths().snapshot, 'releases.json'))));
  }
  put(hooked(2));
  assert.ok(existsSync(log));
});

describe('going back', () => {
  const at = (month: number): Date => new Date(Date.UTC(2026, month - 1, 10));
  const text = (more = ''): string =>
    `[secret.a]\nrotate = "monthly"\nprevious = true\n${more}units = ["a.service"]\n` +
    '[secret.t]\nkind = "template"\ncontent = "x={{a}}"\nunits = ["t.service"]\n';

  test('to a period by its name gives its value and the previous one, also in templates, until the key is removed', () => {
    const seen = new Map<number, string>();
    for (const month of [9, 10, 11]) {
      put(text(), { at: at(month) });
      seen.set(month, activeValue('a.service', 'a'));
    }
    const held = text('period = "2026-10"\n');
    assert.deepEqual(touched(stepsFor(put(held, { at: at(11) }).changes)), ['a.service', 't.service']);
    assert.deepEqual(
      [activeValue('a.service', 'a'), activeValue('a.service', 'a.previous'), activeValue('t.service', 't')],
      [seen.get(10), seen.get(9), `x=${String(seen.get(10))}`],
    );
    // It does not rotate, whatever the clock says.
    for (const month of [11, 12, 10]) assert.equal(put(held, { at: at(month) }).changed, false);
    assert.deepEqual(plan(held, { at: at(12) }).changes, []);
    put(text(), { at: at(12) });
    assert.deepEqual([activeValue('a.service', 'a.previous')], [seen.get(11)]);
    assert.deepEqual(
      activeSnapshot(paths(), scopes)
        ?.history.get('a')
        ?.map(({ recipe }) => (recipe.form === 'derived' ? recipe.period : '')),
      ['2026-09', '2026-10', '2026-11', '2026-10', '2026-12'],
    );
  });

  test('by name does not count as a clock that ran backwards; other secrets are still checked', () => {
    const two = (more: string): string => `${text(more)}[secret.b]\nrotate = "monthly"\nunits = ["b.service"]\n`;
    put(two(''), { at: at(11) });
    assert.throws(
      () => put(two('period = "2026-09"\n'), { at: at(10) }),
      (error) =>
        error instanceof Failure &&
        error.code === 'clock' &&
        error.message.includes('but b is already in its period 2026-11'),
    );
    put(two('period = "2026-09"\n'), { at: at(11) });
  });

  test('to a lower generation gives the older value', () => {
    const generation = (number: number): string => text(`generation = ${String(number)}\n`);
    put(generation(1));
    const first = activeValue('a.service', 'a');
    put(generation(2));
    assert.notEqual(activeValue('a.service', 'a'), first);
    put(generation(1));
    assert.equal(activeValue('a.service', 'a'), first);
  });

  test('to an older manifest gives the older secrets', () => {
    const manifests = [
      text(),
      '[secret.a]\nkind = "uuid"\nunits = ["a.service", "b.service"]\n[secret.h]\nkind = "crypt"\nof = "a"\n' +
        'method = "sha512-crypt"\nunits = ["a.service"]\n',
    ];
    const values = (): string[][] =>
      (activeSnapshot(paths(), scopes)?.releases ?? []).map(({ unit, credential }) => [
        unit,
        credential,
        activeValue(unit, credential),
      ]);
    const first = manifests.map((manifest) => {
      put(manifest);
      return values();
    });
    assert.notDeepEqual(first[0], first[1]);
    const second = manifests.map((manifest) => {
      put(manifest);
      return values();
    });
    assert.deepEqual(second, first);
  });
});
