import assert from 'node:assert/strict';
import { createHmac, hkdfSync } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { recipeValue } from '../../src/derive/value.ts';
import { Failure } from '../../src/failure.ts';
import { encodeFixed, fingerprintOf } from '../../src/fixed/file.ts';
import { FixedFolder } from '../../src/fixed/folder.ts';
import { fixedValues } from '../../src/fixed/value.ts';
import type { SecretDeclaration } from '../../src/manifest/declaration.ts';
import { manifestOf } from '../../src/manifest/manifest.ts';
import { withFingerprint } from '../../src/provision/fingerprint.ts';
import { runHook } from '../../src/provision/hook.ts';
import { activeSnapshot } from '../../src/provision/preparing.ts';
import { type Provisioned, planned, provision } from '../../src/provision/provision.ts';
import { stepsFor, type UnitStep } from '../../src/provision/running-units.ts';
import { type Scope, scopeSeedsOf, seedsOf } from '../../src/seeds/scope.ts';
import { authenticated } from '../../src/snapshot/authenticated.ts';
import { installSnapshot, readFixedFile } from '../../src/snapshot/snapshot.ts';
import { pathsUnder } from '../../src/system/paths.ts';

let root = '';
const paths = () => pathsUnder(root);
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'fingerprint-'));
});
afterEach(() => {
  rmSync(root, { recursive: true });
});

const scope = (kind: Scope['kind'], name: string, byte: number, epoch = 1): Scope => ({
  kind,
  name,
  epoch,
  seed: new Uint8Array(32).fill(byte),
});
const scopes: readonly Scope[] = [scope('host', 'web1', 1), scope('group', 'db', 2)];
const nextEpoch: readonly Scope[] = [scope('host', 'web1', 1), scope('group', 'db', 3, 2)];
const november = new Date('2026-11-23T12:00:00Z');

function declared(text: string): readonly SecretDeclaration[] {
  const { declarations, problems } = manifestOf([{ path: '/etc/auxcred/secrets.d/x.toml', text }]);
  assert.deepEqual(
    problems.filter(({ severity }) => severity === 'error'),
    [],
  );
  return declarations;
}

interface Given {
  at?: Date;
  with?: readonly Scope[];
  acceptEarlier?: boolean;
}
const options = ({ at = november, acceptEarlier = false }: Given) => ({
  at,
  counter: 1,
  sealing: { withKey: 'host', recovery: [], pcrs: [], pcrsAtFirstBoot: [], device: undefined } as const,
  acceptEarlier,
});
const put = (text: string, given: Given = {}): Provisioned =>
  provision(root, paths(), declared(text), given.with ?? scopes, { ...options(given), hook: runHook });
const plan = (text: string, given: Given = {}) =>
  planned(paths(), declared(text), given.with ?? scopes, options(given));
const write = (name: string, value: string, these = scopes): void => {
  const [, at = '', path = ''] = /^([^/]+\/[^/]+)\/(.+)$/.exec(name) ?? [];
  new FixedFolder(paths().fixed).write({ scope: at, path }, Buffer.from(value), {
    seedOf: scopeSeedsOf(these),
    former: () => undefined,
  });
};

/** What a unit gets, from the snapshot alone. */
function activeValue(unit: string, credential: string, these = scopes): string {
  const release = activeSnapshot(paths(), these)?.releases.find(
    (one) => one.unit === unit && one.credential === credential,
  );
  assert.ok(release, `${unit}/${credential}`);
  const seedOf = seedsOf(these);
  return new TextDecoder().decode(
    recipeValue(release.recipe, {
      seedOf,
      fixedValue: fixedValues(seedOf, (recipe) => readFixedFile(paths(), recipe)),
    }),
  );
}
const fingerprints = (these = scopes): ReadonlyMap<string, string> =>
  activeSnapshot(paths(), these)?.fingerprints ?? new Map();
const touched = (steps: readonly UnitStep[]): string[] =>
  steps.filter(({ action }) => action !== 'none').map(({ unit }) => unit);

describe('a fingerprint', () => {
  test('is the HMAC that the format says, by node:crypto alone', () => {
    put('[secret.a]\nkind = "hex"\nunits = ["a.service", "b.service"]\n');
    const key = Buffer.from(hkdfSync('sha256', new Uint8Array(32).fill(1), 'auxcred/v1/release', '', 32));
    const framed = (text: string): Buffer => Buffer.concat([Buffer.from([0, text.length]), Buffer.from(text)]);
    for (const unit of ['a.service', 'b.service']) {
      const value = Buffer.from(activeValue(unit, 'a'));
      const length = Buffer.alloc(4);
      length.writeUInt32BE(value.length);
      assert.equal(
        fingerprints().get(`${unit}/a`),
        createHmac('sha256', key)
          .update(Buffer.concat([framed(unit), framed('a'), length, value]))
          .digest('hex'),
      );
    }
    assert.notEqual(fingerprints().get('a.service/a'), fingerprints().get('b.service/a'));
  });

  test('is in the file that the broker does not read, and neither file contains a value', () => {
    put('[secret.a]\nkind = "hex"\nunits = ["a.service"]\n');
    const [releases = '', record = ''] = ['releases.json', 'record.json'].map((name) =>
      readFileSync(join(paths().snapshot, name), 'utf8'),
    );
    const fingerprint = fingerprints().get('a.service/a') ?? '';
    assert.match(fingerprint, /^[0-9a-f]{64}$/);
    assert.ok(record.includes(fingerprint) && !releases.includes(fingerprint));
    assert.ok(![releases, record].some((text) => text.includes(activeValue('a.service', 'a'))));
  });
});

test('a release and a fixed secret with identical messages have different fingerprints', () => {
  // LP("a.service") || 00 01 || "c" || 00 || 01 62 fd || 90877 bytes: a path and a value of 90880 bytes, or a unit, a
  // credential and a value of 90877.
  const host = new Uint8Array(32).fill(1);
  const value = new Uint8Array(90_877).fill(0x61);
  const longer = Buffer.concat([Buffer.from([0x01, 0x62, 0xfd]), value]);
  withFingerprint(host, (of) => {
    assert.equal(of('fingerprint', 'a.service', 'c', value), fingerprintOf(host, 'a.service', longer));
    assert.notEqual(of('release', 'a.service', 'c', value), fingerprintOf(host, 'a.service', longer));
  });
});

describe('a record from before releases had a label of their own', () => {
  const log = (): string => join(root, 'log');
  const hook = (): string => `hook = ["/bin/touch", "${log()}"]\n`;
  const text = (of: string): string =>
    `[secret.a]\n[secret.f]\nkind = "fixed"\nunits = ["f.service"]\n${hook()}[secret.t]\nkind = "template"\ncontent = "${of}"\nunits = ["t.service"]\n${hook()}`;
  const record = (): string => join(paths().snapshot, 'record.json');
  const bodyOf = (file: string): Record<string, unknown> => JSON.parse(readFileSync(file, 'utf8').slice(65));

  /** As that version wrote it: everything under the label of fixed secrets. */
  function before(): void {
    write('host/web1/f', 'v');
    put(text('x={{a}}'));
    const { fingerprintLabel, ...content } = bodyOf(record());
    assert.equal(fingerprintLabel, 'release');
    const units = [
      ['f.service', 'f'],
      ['t.service', 't'],
    ] as const;
    const old = withFingerprint(new Uint8Array(32).fill(1), (of) =>
      units.map(([unit, id]): [string, string] => [
        `${unit}/${id}`,
        of('fingerprint', unit, id, Buffer.from(activeValue(unit, id))),
      ]),
    );
    writeFileSync(
      record(),
      authenticated({ ...content, fingerprints: Object.fromEntries(old) }, scope('host', 'web1', 1)),
    );
    rmSync(join(paths().snapshot, 'settled.json'));
    assert.equal(activeSnapshot(paths(), scopes)?.fingerprintLabel, 'fingerprint');
  }
  const moved = (): void => {
    const body = bodyOf(record());
    assert.equal(body['fingerprintLabel'], 'release');
    const expected = withFingerprint(new Uint8Array(32).fill(1), (of) =>
      of('release', 't.service', 't', Buffer.from(activeValue('t.service', 't'))),
    );
    assert.equal(fingerprints().get('t.service/t'), expected);
    assert.ok(!existsSync(log()));
  };

  test('is read, touches no unit and runs no hook, and has the new label from then on', () => {
    before();
    const history = bodyOf(record())['history'];
    assert.deepEqual(plan(text('x={{a}}')).changes, []);
    const { changes, changed } = put(text('x={{a}}'));
    assert.deepEqual([changes, changed], [[], true]);
    assert.deepEqual(bodyOf(record())['history'], history);
    moved();
    assert.equal(put(text('x={{a}}')).changed, false);
  });

  test('still recognises the same value from another recipe, and another value', () => {
    before();
    const inner = text('{{i}}{{a}}').replace('[secret.a]', '[secret.i]\nkind = "template"\ncontent = "x="\n[secret.a]');
    assert.deepEqual(
      plan(inner).changes.map(({ why, action }) => [why, action]),
      [['text, same value', 'none']],
    );
    assert.deepEqual(touched(stepsFor(put(inner).changes)), []);
    moved();
    before();
    assert.deepEqual(touched(stepsFor(put(text('y={{a}}')).changes)), ['t.service']);
  });

  test('keeps its label when seeds are sealed again', () => {
    before();
    const old = activeSnapshot(paths(), scopes) ?? assert.fail();
    installSnapshot(paths(), {
      before: old,
      snapshot: { ...old, counter: 2 },
      host: scope('host', 'web1', 1),
      fileOf: (recipe) => readFixedFile(paths(), recipe) ?? assert.fail(),
    });
    assert.deepEqual(activeSnapshot(paths(), scopes), { ...old, counter: 2 });
  });
});

describe('what json and env quote', () => {
  const template = (line: string): string =>
    `[secret.f]\nkind = "fixed"\n[secret.b]\nkind = "bytes"\n[secret.i]\nkind = "template"\ncontent = "{{b}}"\n[secret.t]\nkind = "template"\n${line}\nunits = ["t.service"]\n`;
  const refused = (line: string, message: RegExp): void => {
    for (const attempt of [plan, put])
      assert.throws(
        () => attempt(template(line)),
        (error) => error instanceof Failure && error.code === 'malformed' && message.test(error.message),
        line,
      );
  };
  const putBytes = (bytes: readonly number[]): void => {
    new FixedFolder(paths().fixed).place(
      { scope: 'host/web1', path: 'f' },
      encodeFixed(scope('host', 'web1', 1).seed, 'f', Date.now(), Uint8Array.from(bytes)),
    );
  };

  test('is text: bytes that are no UTF-8 are refused before anything changes, and pass as base64', () => {
    putBytes([0x61, 0xff]);
    refused('json = { a = "{{f}}" }', /^t: f is not text that JSON can hold$/);
    refused('env = { A = "{{f}}" }', /^t: f is not text that an environment can hold$/);
    refused('content = "{{f | json}}"', /JSON/);
    refused('json = "{{i}}"', /^t: b is not text that JSON can hold$/);
    for (const line of [
      'json = "{{f | base64}}"',
      'content = "{{f | url | env}}"',
      'content = "{{f}}{{b}}"',
      'json = "{{i | base64}}"',
    ])
      put(template(line));
  });

  test('has no zero byte in an environment', () => {
    putBytes([0x61, 0]);
    refused('env = { A = "{{f}}" }', /environment/);
    put(template('json = "{{f}}"'));
    assert.equal(activeValue('t.service', 't'), '"a\\u0000"\n');
  });

  test('is checked when the file changes, too', () => {
    putBytes([0x61]);
    put(template('json = "{{f}}"'));
    putBytes([0xff]);
    refused('json = "{{f}}"', /JSON/);
    assert.equal(activeValue('t.service', 't'), '"a"\n');
  });
});

/** Another way to make the same bytes: the old manifest, the new one, and plan's words for it. */
const sameValue: readonly {
  readonly name: string;
  readonly before: string;
  readonly after: string;
  readonly with?: readonly Scope[];
  readonly move?: () => void;
  readonly why: string;
}[] = [
  {
    name: 'a text that moved between a template and a template in it',
    before: '[secret.a]\n[secret.u]\nkind = "template"\ncontent = "x={{a}}"\nunits = ["u.service"]\n',
    after:
      '[secret.a]\n[secret.inner]\nkind = "template"\ncontent = "x="\n[secret.u]\nkind = "template"\ncontent = "{{inner}}{{a}}"\nunits = ["u.service"]\n',
    why: 'text',
  },
  {
    name: 'a fixed secret that was renamed, with its file',
    before: '[secret.u]\nkind = "fixed"\nunits = ["u.service"]\n',
    after: '[secret.new]\nkind = "fixed"\ncredential = "u"\nunits = ["u.service"]\n',
    move: () => {
      write('host/web1/new', 'v');
    },
    why: 'path u -> new',
  },
  {
    name: 'a fixed secret of a group in its next epoch, re-encrypted',
    before: '[secret.u]\nkind = "fixed"\nshare = "db"\nunits = ["u.service"]\n',
    after: '[secret.u]\nkind = "fixed"\nshare = "db"\nunits = ["u.service"]\n',
    with: nextEpoch,
    move: () => {
      write('group/db/u', 'v', nextEpoch);
    },
    why: 'epoch 1 -> 2',
  },
  {
    name: 'a fixed secret that its own host has now',
    before: '[secret.u]\nkind = "fixed"\nshare = "db"\nunits = ["u.service"]\n',
    after: '[secret.u]\nkind = "fixed"\nunits = ["u.service"]\n',
    why: 'scope group/db -> host/web1',
  },
  {
    name: 'a derived secret that is kept as a fixed one',
    before: '[secret.d]\nkind = "hex"\ncredential = "u"\nunits = ["u.service"]\n',
    after: '[secret.d]\nkind = "fixed"\ncredential = "u"\nunits = ["u.service"]\n',
    move: () => {
      write('host/web1/d', activeValue('u.service', 'u'));
    },
    why: 'hex -> fixed',
  },
];

describe('another recipe for the same value', () => {
  for (const { name, before, after, with: these, move, why } of sameValue)
    test(`${name}: no unit is touched, and plan says so`, () => {
      for (const file of ['host/web1/u', 'group/db/u']) write(file, 'v');
      put(before);
      const [value, print] = [activeValue('u.service', 'u'), fingerprints().get('u.service/u')];
      move?.();
      const given = these ? { with: these } : {};
      const future = plan(after, given);
      assert.deepEqual(future.changes, [
        { unit: 'u.service', credential: 'u', why: `${why}, same value`, sameValue: true, action: 'none' },
      ]);
      const { changes, changed } = put(after, given);
      assert.equal(changed, true);
      assert.deepEqual(touched(stepsFor(changes)), []);
      assert.equal(activeValue('u.service', 'u', these), value);
      assert.equal(fingerprints(these).get('u.service/u'), print);
      assert.deepEqual([plan(after, given).changes, put(after, given).changed], [[], false]);
    });

  test('of a vault turned into a fixed secret is the same recipe', () => {
    write('host/web1/u', 'v');
    put('[secret.u]\nkind = "vault"\nvault = "pass"\nunits = ["u.service"]\n');
    assert.deepEqual(plan('[secret.u]\nkind = "fixed"\nunits = ["u.service"]\n').changes, []);
  });

  test('with another value touches its unit', () => {
    write('host/web1/u', 'v');
    put(sameValue[1]?.before ?? '');
    write('host/web1/new', 'w');
    const { changes } = put(sameValue[1]?.after ?? '');
    assert.deepEqual([changes.map(({ why }) => why), touched(stepsFor(changes))], [['path u -> new'], ['u.service']]);
  });

  test('runs no hook: its service knows the value', () => {
    const hook = `hook = ["/bin/sh", "-c", "echo $AUXCRED_SECRET >> ${join(root, 'log')}"]`;
    write('group/db/u', 'v');
    put(`[secret.u]\nkind = "fixed"\nshare = "db"\nunits = ["u.service"]\n${hook}\n`);
    write('group/db/u', 'v', nextEpoch);
    const { untold, held } = put(`[secret.u]\nkind = "fixed"\nshare = "db"\nunits = ["u.service"]\n${hook}\n`, {
      with: nextEpoch,
    });
    assert.deepEqual([untold, held.size, existsSync(join(root, 'log'))], [[], 0, false]);
    write('group/db/u', 'w', nextEpoch);
    put(`[secret.u]\nkind = "fixed"\nshare = "db"\nunits = ["u.service"]\n${hook}\n`, { with: nextEpoch });
    assert.equal(readFileSync(join(root, 'log'), 'utf8'), 'u\n');
  });
});

describe('an unchanged fixed file', () => {
  const text = '[secret.u]\nkind = "fixed"\nshare = "db"\nunits = ["u.service"]\n';
  test('counts as unchanged only with the seed that opened it', () => {
    write('group/db/u', 'v');
    put(text);
    assert.equal(put(text).changed, false);
    assert.throws(
      () => put(text, { with: nextEpoch }),
      (error) => error instanceof Failure && error.code === 'malformed' && /another epoch than 2/.test(error.message),
    );
    // The same epoch with another seed, as after seal --replace.
    assert.throws(
      () => put(text, { with: [scope('host', 'web1', 1), scope('group', 'db', 9)] }),
      (error) => error instanceof Failure && error.code === 'malformed',
    );
  });
});

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
      `[secret.a]\ngeneration = ${String(generation)}\nunits = ["a.service"]\nhook = ["/bin/test", "-e", "${join(root, 'up')}"]\n`;
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
      '[secret.t]\nkind = "template"\ncontent = "{{big}}{{big}}"\nunits = ["b.service"]\n[secret.big]\nkind = "fixed"\n',
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
    `[secret.a]\nrotate = "monthly"\nprevious = true\n${more}units = ["a.service"]\n[secret.t]\nkind = "template"\ncontent = "x={{a}}"\nunits = ["t.service"]\n`;

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
      '[secret.a]\nkind = "uuid"\nunits = ["a.service", "b.service"]\n[secret.h]\nkind = "crypt"\nof = "a"\nmethod = "sha512-crypt"\nunits = ["a.service"]\n',
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
