import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { Failure } from '../../src/failure.ts';
import { encodeFixed } from '../../src/fixed/file.ts';
import { FixedFolder } from '../../src/fixed/folder.ts';
import { stepsFor } from '../../src/provision/running-units.ts';
import type { Scope } from '../../src/seeds/scope.ts';
import {
  activeValue,
  fingerprints,
  nextEpoch,
  paths,
  plan,
  put,
  root,
  scope,
  touched,
  useRoot,
  write,
} from './machine.ts';

useRoot();

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
      '[secret.a]\n[secret.inner]\nkind = "template"\ncontent = "x="\n' +
      '[secret.u]\nkind = "template"\ncontent = "{{inner}}{{a}}"\nunits = ["u.service"]\n',
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

describe('what json and env quote', () => {
  const template = (line: string): string =>
    '[secret.f]\nkind = "fixed"\n[secret.b]\nkind = "bytes"\n[secret.i]\nkind = "template"\ncontent = "{{b}}"\n' +
    `[secret.t]\nkind = "template"\n${line}\nunits = ["t.service"]\n`;
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
