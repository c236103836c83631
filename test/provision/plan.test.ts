import assert from 'node:assert/strict';
import { chmodSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { generationOf, ingredients, periodOf } from '../../src/derive/recipe.ts';
import { Failure } from '../../src/failure.ts';
import { activeSnapshot } from '../../src/provision/active-snapshot.ts';
import { hookProblem, runHook } from '../../src/provision/hook.ts';
import { planOf, type ReleaseChange } from '../../src/provision/plan.ts';
import { dryRun } from '../../src/provision/provision.ts';
import { stepsFor } from '../../src/provision/running-units.ts';
import { pathsUnder } from '../../src/system/paths.ts';
import { activeValue, december, declared, november, put, root, scope, scopes, useRoot } from './machine.ts';

useRoot();

const brief = (changes: readonly ReleaseChange[]): string[] =>
  changes.map(({ unit, credential, why }) => `${unit}/${credential}: ${why}`);
const historyOf = (name: string): string[] =>
  (activeSnapshot(pathsUnder(root), scopes)?.history.get(name) ?? []).map(({ recipe }) =>
    ingredients(recipe)
      .map((source) => `${periodOf(source)} ${String(generationOf(source))}`)
      .join(),
  );
const rotating =
  '[secret.a]\nrotate = "monthly"\nshare = "db"\nunits = ["a.service", "b.service"]\n' +
  '[secret.b]\nkind = "uuid"\nunits = ["b.service"]\n[secret.t]\nkind = "template"\ncontent = "x={{a}}"\n' +
  'units = ["c.service"]\n';

describe('provision', () => {
  test('once more changes nothing', () => {
    const first = put(rotating);
    assert.equal(first.changed, true);
    assert.deepEqual(brief(first.changes), [
      'a.service/a: new',
      'a.service/a.previous: new',
      'b.service/a: new',
      'b.service/a.previous: new',
      'b.service/b: new',
      'c.service/t: new',
    ]);
    const second = put(rotating);
    assert.equal(second.changed, false);
    assert.deepEqual(second.changes, []);
  });

  test('refuses an older seeds.age, and accepts it if told to', () => {
    put(rotating, { counter: 3 });
    assert.throws(
      () => put(rotating, { counter: 2 }),
      (error) =>
        error instanceof Failure && error.code === 'older' && /has counter 2; counter 3 was active/.test(error.message),
    );
    assert.equal(activeSnapshot(pathsUnder(root), scopes)?.counter, 3);
    assert.equal(put(rotating, { counter: 2, acceptOlder: true }).changed, true);
    assert.equal(put(rotating, { counter: 2 }).changed, false);
    assert.deepEqual(put(rotating, { counter: 4 }).changes, []);
  });

  test('a template with a secret and the one before it says what became of each', () => {
    const template = (content: string): string =>
      rotating.replace('"x={{a}}"', JSON.stringify(content)).replace('share = "db"', 'previous = true');
    put(template('{{a}} {{a.previous}}'));
    const why = (content: string, at: Date): string | undefined =>
      put(template(content), { at }).changes.find(({ unit }) => unit === 'c.service')?.why;
    assert.equal(
      why('{{a}} {{a.previous}}', december),
      'a: period 2026-11 -> 2026-12, a.previous: period 2026-10 -> 2026-11',
    );
    assert.equal(why('{{a}}', december), 'text');
    assert.equal(why('{{a.previous}} {{a}} {{a}}', december), 'a.previous: new');
  });

  test('a new period changes what rotates and what is made from it, and nothing else', () => {
    put(rotating);
    const old = activeValue('a.service', 'a');
    const { changes } = put(rotating, { at: december });
    assert.deepEqual(brief(changes), [
      'a.service/a: period 2026-11 -> 2026-12',
      'a.service/a.previous: period 2026-10 -> 2026-11',
      'b.service/a: period 2026-11 -> 2026-12',
      'b.service/a.previous: period 2026-10 -> 2026-11',
      'c.service/t: a: period 2026-11 -> 2026-12',
    ]);
    assert.notEqual(activeValue('a.service', 'a'), old);
    assert.equal(activeValue('a.service', 'a.previous'), old);
    assert.equal(activeValue('c.service', 't'), `x=${activeValue('b.service', 'a')}`);
    assert.deepEqual(historyOf('a'), ['2026-11 1', '2026-12 1']);
    assert.deepEqual(historyOf('b'), [' 1']);
  });

  test('two hosts of a group have the same secret, also the previous one, whenever they were provisioned', () => {
    put(rotating);
    put(rotating, { at: december });
    const here = ['a', 'a.previous'].map((id) => activeValue('a.service', id));
    rmSync(root, { recursive: true });
    const other = [scope('host', 'web2', 9), scope('group', 'db', 2)];
    put(rotating, { at: new Date('2026-12-24T00:00:00Z'), with: other });
    assert.deepEqual(
      ['a', 'a.previous'].map((id) => activeValue('a.service', id, other)),
      here,
    );
    assert.notEqual(activeValue('b.service', 'b', other), '');
  });

  test('a group that this machine is not in is named', () => {
    assert.throws(
      () => put(rotating, { with: [scope('host', 'web1', 1)] }),
      (error) =>
        error instanceof Failure && error.code === 'not-found' && /a is shared by group\/db/.test(error.message),
    );
  });

  test('a clock that ran backwards is refused, with the way out, until it is accepted', () => {
    put(rotating, { at: december });
    const old = activeValue('a.service', 'a');
    assert.throws(
      () => put(rotating),
      (error) =>
        error instanceof Failure &&
        error.code === 'clock' &&
        error.message.includes('the clock says 2026-11-23T12:00Z, but a is already in its period 2026-12') &&
        (error.hint ?? '').includes('--accept-clock'),
    );
    assert.equal(activeValue('a.service', 'a'), old);
    assert.equal(put(rotating, { acceptEarlier: true }).changed, true);
    assert.notEqual(activeValue('a.service', 'a'), old);
  });

  test('another rotation of the same day is not a clock that ran backwards', () => {
    put(rotating);
    for (const rotate of ['daily', 'yearly', 'weekly', 'quarterly', 'monthly'])
      assert.equal(put(rotating.replace('monthly', rotate)).changed, true, rotate);
  });

  test('generation, options, epoch and scope are told apart in what changed', () => {
    const one = (more: string): string => `[secret.a]\nkind = "hex"\nunits = ["a.service"]\n${more}\n`;
    put(one(''));
    const why = (more: string, these = scopes): string[] =>
      put(one(more), { with: these }).changes.map((change) => `${change.credential}: ${change.why}`);
    assert.deepEqual(why('generation = 2\nprevious = true'), ['a: generation 1 -> 2', 'a.previous: new']);
    assert.deepEqual(why('generation = 2\nbytes = 16'), ['a: options', 'a.previous: removed']);
    assert.deepEqual(why('generation = 2\nbytes = 16\nshare = "db"'), ['a: scope host/web1 -> group/db']);
    assert.deepEqual(
      why('generation = 2\nbytes = 16\nshare = "db"', [scope('host', 'web1', 1), scope('group', 'db', 7, 2)]),
      ['a: epoch 1 -> 2'],
    );
    assert.deepEqual(why('share = "db"'), ['a: epoch 2 -> 1, generation 2 -> 1']);
    // Another seed: nothing that is active can be trusted to be its own.
    assert.deepEqual(why('', [scope('host', 'web1', 8), scope('group', 'db', 2)]), ['a: new']);
  });

  test('an active hash is not computed again', () => {
    const hash = '[secret.p]\n[secret.h]\nkind = "crypt"\nof = "p"\nmethod = "sha512-crypt"\nunits = ["a.service"]\n';
    put(hash);
    const first = activeValue('a.service', 'h');
    assert.match(first, /^\$6\$[./0-9A-Za-z]{16}\$[./0-9A-Za-z]{86}$/);
    assert.equal(put(hash).changed, false);
    put(`${hash}[secret.more]\nunits = ["a.service"]\n`);
    assert.equal(activeValue('a.service', 'h'), first);
  });
});

describe('plan', () => {
  test('says what provision would do, and changes nothing', () => {
    put(rotating);
    const before = readFileSync(join(pathsUnder(root).snapshot, 'releases.json'));
    const future = planOf(declared(rotating), scopes, activeSnapshot(pathsUnder(root), scopes), {
      at: december,
      acceptEarlier: false,
      fixed: () => assert.fail('no secret is fixed'),
      fingerprint: ({ unit, credential }) => `of ${unit}/${credential}`,
    });
    assert.ok(before.equals(readFileSync(join(pathsUnder(root).snapshot, 'releases.json'))));
    assert.deepEqual(put(rotating, { at: december }).changes, future.changes);
  });

  const said = (text: string, undelivered: ReadonlySet<string> = new Set()): string[] => {
    const { changes } = dryRun(pathsUnder(root), declared(text), scopes, {
      at: november,
      counter: 1,
      acceptEarlier: false,
      undelivered,
    });
    return changes.map(
      ({ unit, credential, why, action, sameValue }) =>
        `${unit}/${credential}: ${why} | ${action}${sameValue ? '' : ', another value'}`,
    );
  };
  const delivered = (how: string): string => `[secret.a]\nunits = ["a.service"]\n${how}`;

  test('a secret that is delivered differently keeps its value, and its unit sees the change', () => {
    put(delivered(''));
    for (const [how, text] of [
      ['delivery = "file"\nchange = "reload"', 'now delivered as a file | reload'],
      ['delivery = "credstore"', 'now delivered from the credential store | restart'],
      ['delivery = "stage"', 'now delivered through /run/credstore | restart'],
      ['', 'now delivered by the broker | restart'],
    ] as const) {
      assert.deepEqual(said(delivered(how)), [`a.service/a: ${text}`]);
      assert.deepEqual(
        put(delivered(how)).changes.map(({ why }) => why),
        [text.split(' | ')[0]],
      );
      assert.deepEqual(said(delivered(how)), []);
    }
    assert.deepEqual(said(delivered('delivery = "file"\ngeneration = 2')), [
      'a.service/a: generation 1 -> 2, now delivered as a file | restart, another value',
    ]);
  });

  test('a file that gets another owner or another place touches no unit', () => {
    put(delivered('delivery = "file"\nlink = "/etc/a"'));
    assert.deepEqual(said(delivered('delivery = "file"\nowner = "root"\ngroup = "7"\nmode = "0440"')), [
      'a.service/a: group root -> 7, mode 0400 -> 0440, link /etc/a -> none | none',
    ]);
  });

  test('what is missing where units read it is rewritten, with the same value', () => {
    const stored = delivered('delivery = "credstore"');
    put(stored);
    assert.deepEqual(said(stored, new Set(['a.service/a'])), [
      'a.service/a: rewritten, since it was missing or altered | restart',
    ]);
    assert.deepEqual(said(delivered(''), new Set(['a.service/a'])), [
      'a.service/a: now delivered by the broker | restart',
    ]);
  });

  test("a hook that can't run yet keeps its secret unchanged, and everything made from it", () => {
    const hooked = (generation: number): string =>
      `[secret.a]\ngeneration = ${String(generation)}\nhook = ["/bin/true"]\nunits = ["a.service"]\n` +
      '[secret.t]\nkind = "template"\ncontent = "{{a}}"\nunits = ["t.service"]\n';
    put(hooked(1));
    const future = (hooks: 'run' | 'later'): [string[], string[]] => {
      const {
        changes,
        hooked: { told, postponed },
      } = dryRun(
        pathsUnder(root),
        declared(hooked(2)),
        scopes,
        { at: november, counter: 1, acceptEarlier: false },
        hooks,
      );
      return [
        brief(changes),
        [
          ...told.map(({ declaration }) => `told ${declaration.name}`),
          ...postponed.map(({ declaration }) => `postponed ${declaration.name}`),
        ],
      ];
    };
    assert.deepEqual(future('later'), [[], ['postponed a']]);
    assert.deepEqual(put(hooked(2), { hook: 'later' }).changes, []);
    assert.deepEqual(future('run'), [
      ['a.service/a: generation 1 -> 2', 't.service/t: a: generation 1 -> 2'],
      ['told a'],
    ]);
  });

  test('a unit is restarted once, if one of its secrets asks for it; else reloaded', () => {
    const change = (unit: string, action: ReleaseChange['action']): ReleaseChange => ({
      unit,
      credential: 'x',
      why: 'new',
      sameValue: false,
      action,
    });
    assert.deepEqual(
      stepsFor([
        change('a', 'none'),
        change('a', 'reload'),
        change('a', 'restart'),
        change('a', 'reload'),
        change('b', 'none'),
        change('b', 'reload'),
        change('c', 'none'),
      ]),
      [
        { unit: 'a', action: 'restart' },
        { unit: 'b', action: 'reload' },
        { unit: 'c', action: 'none' },
      ],
    );
    // A reload is enough for a replaced file, but not if a credential is among the changes.
    const file = (unit: string): ReleaseChange => ({ ...change(unit, 'reload'), file: true });
    assert.deepEqual(stepsFor([file('a'), file('b'), change('b', 'reload'), file('')]), [
      { unit: 'a', action: 'reload', files: true },
      { unit: 'b', action: 'reload' },
    ]);
  });
});

describe('a hook', () => {
  const log = (): string => join(root, 'log');
  /** A service that gets both values: it records them, and fails while there is a file `broken`. */
  const script = (): string => {
    const path = join(root, 'hook');
    writeFileSync(
      path,
      `#!/bin/sh\necho "$AUXCRED_SECRET $1 $(cat "$AUXCRED_OLD") $(cat "$AUXCRED_NEW")" >> ${log()}\n` +
        `[ ! -e ${join(root, 'broken')} ]\n`,
    );
    chmodSync(path, 0o755);
    return path;
  };
  const manifest = (): string =>
    `[secret.a]\nrotate = "monthly"\nunits = ["a.service"]\nhook = [${JSON.stringify(script())}, "web"]\n` +
    '[secret.t]\nkind = "template"\ncontent = "x={{a}}"\nunits = ["c.service"]\n' +
    '[secret.b]\nrotate = "monthly"\nunits = ["b.service"]\n';

  test('is not run for a secret that was never active', () => {
    assert.equal(put(manifest(), { hook: runHook }).held.size, 0);
    assert.throws(() => readFileSync(log()), /ENOENT/);
  });

  test('gets the old and the new value, in files that are on no disk', () => {
    put(manifest(), { hook: runHook });
    const old = activeValue('a.service', 'a');
    const { held } = put(manifest(), { at: december, hook: runHook });
    assert.equal(held.size, 0);
    assert.equal(readFileSync(log(), 'utf8'), `a web ${old} ${activeValue('a.service', 'a')}\n`);
  });

  test('that fails keeps its secret and everything made from it unchanged; the others go on, and the next run tries again', () => {
    put(manifest(), { hook: runHook });
    const old = activeValue('a.service', 'a');
    writeFileSync(join(root, 'broken'), '');
    const { held, changes } = put(manifest(), { at: december, hook: runHook });
    assert.match(held.get('a') ?? '', /hook failed with status 1/);
    assert.deepEqual(brief(changes), ['b.service/b: period 2026-11 -> 2026-12']);
    assert.equal(activeValue('a.service', 'a'), old);
    assert.equal(activeValue('c.service', 't'), `x=${old}`);
    rmSync(join(root, 'broken'));
    assert.deepEqual(brief(put(manifest(), { at: december, hook: runHook }).changes), [
      'a.service/a: period 2026-11 -> 2026-12',
      'c.service/t: a: period 2026-11 -> 2026-12',
    ]);
    assert.equal(readFileSync(log(), 'utf8').split('\n').length, 3);
  });

  test('is left for later while the machine boots', () => {
    put(manifest());
    const old = activeValue('a.service', 'a');
    const { postponed } = put(manifest(), { at: december, hook: 'later' });
    assert.deepEqual(postponed, ['a']);
    assert.equal(activeValue('a.service', 'a'), old);
  });

  test("can't get a value whose seed is gone, but that holds nothing back", () => {
    put(manifest(), { hook: runHook });
    const shared = manifest().replace('rotate', 'share = "db"\nrotate');
    put(shared, { hook: runHook });
    const { untold, held } = put(shared, {
      hook: runHook,
      with: [scope('host', 'web1', 1), scope('group', 'db', 7, 2)],
    });
    assert.deepEqual([untold, held.size], [['a'], 0]);
    assert.equal(readFileSync(log(), 'utf8').split('\n').length, 2);
  });

  test('that is not a program is a failure, not a crash', () => {
    const missing = manifest().replace(script(), '/nonexistent/hook');
    put(missing, { hook: runHook });
    assert.match(
      put(missing, { at: december, hook: runHook }).held.get('a') ?? '',
      /hook can't run: there is no such program$/,
    );
    const text = manifest();
    writeFileSync(script(), '#!/nonexistent/shell\n');
    assert.match(
      put(text, { at: december, hook: runHook }).held.get('a') ?? '',
      /can't run: there is no interpreter as its first line names it$/,
    );
    assert.equal(hookProblem(Object.assign(new Error(), { code: 'ETIMEDOUT' })), 'did not end within 60 s');
  });
});
