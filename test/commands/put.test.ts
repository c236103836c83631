import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import * as cli from '../cli.ts';
import { at, auxcred, environment, fails, file, names, piped, recipientOf, typed, useVault, works } from './vault.ts';

useVault();

describe('put and get', () => {
  test('keep any bytes as they are, in a file that only its owner may read', () => {
    const binary = Buffer.from(Array.from({ length: 512 }, (_, i) => i & 255));
    works(['put', 'host/web1/key'], binary);
    assert.equal(works(['get', 'host/web1/key']), binary.toString('latin1'));
    assert.equal(statSync(file('host/web1/key')).mode & 0o777, 0o600);
    assert.equal(statSync(at('vault/fixed/host/web1')).mode & 0o777, 0o700);
    assert.ok(!readFileSync(file('host/web1/key')).includes(binary.subarray(0, 16)));
    works(['put', '--group=db', 'Api Tokens/größe'], 'two\nlines\n');
    assert.equal(works(['get', 'group/db/Api Tokens/größe'].map((word) => word)), 'two\nlines\n');
    assert.equal(works(['get', 'Api Tokens/größe', '--group=db']), 'two\nlines\n');
    writeFileSync(at('token'), 'abc');
    works(['put', '--host=web2', 'token', `--file=${at('token')}`]);
    assert.equal(works(['get', 'host/web2/token']), 'abc');
  });

  test('warn that a trailing newline became part of the secret, and --line leaves it out', () => {
    const { stderr } = auxcred(['put', 'host/web1/a'], 'abc\n');
    assert.match(
      stderr,
      /host\/web1\/a is one line that ends with a newline, which is now part of it\nauxcred: hint: --line/,
    );
    assert.equal(works(['get', 'host/web1/a']), 'abc\n');
    works(['put', 'host/web1/b', '--line'], 'abc\r\nmore\n');
    assert.equal(works(['get', 'host/web1/b']), 'abc');
  });

  test('ask without echoing, twice, and before they replace', () => {
    const said = typed(['put', 'host/web1/a'], 'hunter2\nhunter2\n');
    assert.equal(said.status, 0, said.stdout);
    assert.ok(!said.stdout.split('\n').slice(2).join('').includes('hunter2'));
    assert.equal(works(['get', 'host/web1/a']), 'hunter2');
    assert.equal(typed(['put', 'host/web1/b'], 'one\ntwo\n').status, exitStatus.usage);
    assert.equal(typed(['put', 'host/web1/a'], 'n\n').status, exitStatus.refused);
    assert.equal(works(['get', 'host/web1/a']), 'hunter2');
    assert.equal(typed(['put', 'host/web1/a'], 'y\nnew\nnew\n').status, 0);
    assert.equal(works(['get', 'host/web1/a']), 'new');
  });

  test('refuse what pass lets through: an empty secret, and a silent overwrite from a pipe', () => {
    works(['put', 'host/web1/a'], 'old');
    const before = readFileSync(file('host/web1/a'));
    fails(
      ['put', 'host/web1/a'],
      exitStatus.refused,
      /host\/web1\/a already exists, so nothing was changed\nauxcred: hint: --force replaces it/,
      'new',
    );
    fails(['put', 'host/web1/a', '--force'], exitStatus.usage, /the secret is empty, so nothing was changed/);
    fails(['put', 'host/web1/a', '--force', '--line'], exitStatus.usage, /empty/, '\nabc');
    fails(
      ['put', 'host/web1/a', '--force'],
      exitStatus.usage,
      /standard input has more than 131072 bytes/,
      'x'.repeat(131073),
    );
    fails(
      ['put', 'host/web1/a', '--force', '--file=/dev/zero'],
      exitStatus.usage,
      /\/dev\/zero has more than 131072 bytes/,
    );
    assert.deepEqual(readFileSync(file('host/web1/a')), before);
    works(['put', 'host/web1/a', '--force'], 'new');
    assert.equal(works(['get', 'host/web1/a']), 'new');
  });

  test('wait for a pipe however slowly it is filled, and --line for no more than its line', async () => {
    const long = 'y'.repeat(131_072);
    await piped(['put', 'host/web1/all'], [long.slice(0, 1), long.slice(1, 70_000), long.slice(70_000)], 'ended');
    assert.equal(works(['get', 'host/web1/all']), long);
    await piped(['put', 'host/web1/line', '--line'], [long, '\r', '\nmore'], 'open');
    assert.equal(works(['get', 'host/web1/line']), long);
    const words = `${'abandon '.repeat(23)}art`;
    await piped(
      ['init', `--vault=${at('other')}`, '--from-words', `--recipient=${recipientOf('identity')}`],
      [words.slice(0, 50), words.slice(50)],
      'ended',
    );
    assert.ok(existsSync(at('other/seed.age')));
  });

  test('refuse names that lead out of the folder, and scopes that nobody knows', () => {
    for (const name of ['host/web1/../web2/a', 'host/web1//a', 'host/web1/.git/a', 'host/web1/a\nb', 'host/web1/a/'])
      fails(['put', name], exitStatus.usage, /can't be the name of a secret/, 'x');
    for (const name of ['a', '/etc/passwd', '../a', 'host/web1', 'hosts/web1/a'])
      fails(['put', name], exitStatus.usage, /does not say whose secret it is|can't be the name/, 'x');
    fails(['put', 'host/wbe1/a'], exitStatus['not-found'], /knows no host wbe1/, 'x');
    fails(['put', 'group/dbs/a'], exitStatus['not-found'], /knows no group dbs/, 'x');
    fails(['put', 'a', '--host=wbe1'], exitStatus['not-found'], /knows no host wbe1/, 'x');
    fails(['get', 'host/web1/nothing'], exitStatus['not-found'], /there is no host\/web1\/nothing/);
    works(['put', 'host/web1/Token'], 'x');
    fails(['put', 'host/web1/token'], exitStatus.refused, /differ from host\/web1\/Token only in case/, 'x');
    fails(['put', 'host/web1/token.sealed/a'], exitStatus.usage, /a part of it ends in \.sealed/, 'x');
    assert.deepEqual(names(), ['host/web1/Token']);
  });

  test('count up, even if the clock runs backwards', () => {
    const sequence = (): number =>
      JSON.parse(works(['ls', '--json', 'host/web1'])).map((entry: { sequence: number }) => entry.sequence)[0];
    works(['put', 'host/web1/a'], 'x');
    const first = sequence();
    assert.ok(Math.abs(first - Date.now()) < 60_000);
    const { status } = spawnSync(
      'faketime',
      ['2020-01-01', process.execPath, cli.program, 'put', 'host/web1/a', '--force'],
      { input: 'y', env: environment() },
    );
    assert.equal(status, 0);
    assert.equal(sequence(), first + 1);
    works(['put', 'host/web1/a', '--force'], 'z');
    assert.ok(sequence() > first);
  });
});

describe('ls and find', () => {
  test('show the tree, a part of it, or plain names, without a key', () => {
    for (const name of ['host/web1/b', 'host/web1/a/x', 'host/web1/a', 'group/db/token']) works(['put', name], 'v');
    rmSync(at('identity'));
    assert.equal(
      works(['ls']),
      Buffer.from(
        `${at('vault/fixed')}\n├── group\n│   └── db\n│       └── token\n└── host\n    └── web1\n        ├── a\n` +
          '        │   └── x\n        └── b\n',
      ).toString('latin1'),
    );
    assert.deepEqual(names(), ['group/db/token', 'host/web1/a', 'host/web1/a/x', 'host/web1/b']);
    assert.equal(works(['ls', 'host/web1/a', '--flat']), 'host/web1/a\nhost/web1/a/x\n');
    assert.equal(works(['ls', 'group', '--flat']), 'group/db/token\n');
    assert.equal(works(['find', 'TOK', '/b']), 'group/db/token\nhost/web1/b\n');
    fails(['find', 'zzz'], exitStatus['not-found'], /no fixed secret's name contains zzz/);
    fails(['ls', 'host/web1/zzz'], exitStatus['not-found'], /there is no host\/web1\/zzz/);
  });
});
