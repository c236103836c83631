import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { beforeEach, describe, test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import { at, auxcred, fails, file, useVault, works } from './vault.ts';

useVault();

describe('verify', () => {
  beforeEach(() => {
    for (const name of ['host/web1/a', 'host/web1/b', 'host/web1/c', 'host/web2/d', 'group/db/e'])
      works(['put', name], name);
  });

  test('opens all of them', () => {
    assert.match(auxcred(['verify']).stderr, /5 of 5 secrets open under their names\n$/);
    assert.match(auxcred(['verify', 'host/web1']).stderr, /3 of 3/);
  });

  test('tells a renamed, a swapped, a copied, a truncated, an altered file and a stranger apart', () => {
    const [a, b] = [readFileSync(file('host/web1/a')), readFileSync(file('host/web1/b'))];
    writeFileSync(file('host/web1/a'), b);
    writeFileSync(file('host/web1/b'), a);
    renameSync(file('host/web1/c'), file('host/web1/renamed'));
    writeFileSync(file('host/web2/d'), readFileSync(file('host/web2/d')).subarray(0, 100));
    copyFileSync(file('group/db/e'), file('host/web2/e'));
    writeFileSync(
      file('group/db/e'),
      readFileSync(file('group/db/e')).map((byte, i) => (i === 70 ? byte ^ 1 : byte)),
    );
    writeFileSync(at('vault/fixed/host/web1/notes.txt'), 'x');
    const { status, stderr, stdout } = auxcred(['verify', '--json']);
    assert.equal(status, exitStatus.malformed);
    for (const message of [
      /host\/web1\/a is the file of host\/web1\/b under another name/,
      /host\/web1\/b is the file of host\/web1\/a under another name/,
      /host\/web1\/renamed does not open: it was changed, or it is the file of a name that is gone/,
      /host\/web2\/d is empty or cut off/,
      /host\/web2\/e was encrypted for another scope, or for another epoch than 1 of host\/web2/,
      /group\/db\/e does not open: it was changed/,
      /host\/web1\/notes\.txt is not a fixed secret/,
      /0 of 6 secrets open under their names; 7 files do not belong/,
    ])
      assert.match(stderr, message);
    assert.equal(JSON.parse(stdout).problems.length, 6);
    fails(['get', 'host/web1/a'], exitStatus.malformed, /is the file of host\/web1\/b under another name/);
    fails(['edit', 'host/web2/d'], exitStatus.malformed, /cut off/);
    works(['put', 'host/web2/d', '--force'], 'whole');
    assert.equal(works(['get', 'host/web2/d']), 'whole');
  });
});

test('verify says how to remove what is left of a host that is gone', () => {
  works(['put', 'host/web2/a'], 'a');
  writeFileSync(at('vault/vault.toml'), '[host.web1]\n');
  fails(
    ['verify'],
    exitStatus.malformed,
    /host\/web2\/a can't be judged: .* knows no host web2 \(.*; auxcred rm --recursive host\/web2 if it is gone\)\n/,
  );
  works(['rm', '--recursive', '--force', 'host/web2']);
  works(['verify']);
});

test('verify names what is not a file, and does not hang', () => {
  for (const name of ['a', 'fifo', 'zero', 'loop']) works(['put', `host/web1/${name}`], name);
  for (const name of ['fifo', 'zero', 'loop']) rmSync(file(`host/web1/${name}`));
  assert.equal(spawnSync('mkfifo', [file('host/web1/fifo')]).status, 0);
  symlinkSync('/dev/zero', file('host/web1/zero'));
  symlinkSync('loop.sealed', file('host/web1/loop'));
  writeFileSync(at(`vault/fixed/host/web1/.a.sealed.${String(spawnSync('true').pid)}.new`), '');
  const { status, stderr } = auxcred(['verify']);
  assert.equal(status, exitStatus.malformed);
  for (const message of [
    /fifo\.sealed is not a regular file/,
    /zero\.sealed is not a regular file/,
    /loop\.sealed is a loop of symbolic links/,
    /\.new was left behind by a killed run/,
    /1 of 4 secrets open under their names; 4 files do not belong/,
  ])
    assert.match(stderr, message);
  fails(['put', 'host/web1/fifo'], exitStatus.refused, /host\/web1\/fifo already exists/, 'x');
  works(['put', 'host/web1/fifo', '--force'], 'x');
  works(['rm', '--force', 'host/web1/zero']);
  works(['rm', '--force', 'host/web1/loop']);
  works(['verify']);
});

describe('import', () => {
  beforeEach(() => {
    mkdirSync(at('files'));
    writeFileSync(at('files/web'), 'hunter2\r\nlogin: me\n');
    writeFileSync(at('files/empty'), '\nlogin: me\n');
  });

  test('takes files as they are, or with --line the first line of each', () => {
    works(['import', at('files'), 'host/web1']);
    assert.equal(works(['get', 'host/web1/web']), 'hunter2\r\nlogin: me\n');
    fails(
      ['import', at('files'), 'host/web2', '--line'],
      exitStatus.vault,
      /empty: the secret is empty\n.*imported 1 of 2/,
    );
    assert.equal(works(['get', 'host/web2/web']), 'hunter2');
  });

  test('has the status of the import itself with --dry-run', () => {
    works(['import', '--dry-run', at('files'), 'host/web1']);
    works(['import', at('files'), 'host/web1']);
    fails(['import', '--dry-run', at('files'), 'host/web1'], exitStatus.vault, /web: host\/web1\/web exists/);
  });

  test('warns of files that are one line with its newline, unless --line takes it away', () => {
    writeFileSync(at('files/a'), 'token\n');
    writeFileSync(at('files/b'), 'token');
    const { stderr } = auxcred(['import', at('files'), 'host/web1']);
    assert.match(stderr, /warning: host\/web1\/a is one line that ends with a newline, .*\n.*hint: --line --force /);
    writeFileSync(at('files/c'), 'token\n');
    assert.match(
      auxcred(['import', at('files'), 'host/web1', '--force']).stderr,
      /warning: host\/web1\/a and 1 other are each one line/,
    );
    assert.doesNotMatch(auxcred(['import', at('files'), 'host/web2', '--line']).stderr, /newline/);
  });

  test('imports no two secrets under one name', () => {
    for (const name of ['u\u0308', '\u00fc']) writeFileSync(at(`files/${name}`), name);
    fails(['import', at('files'), 'host/web1', '--force'], exitStatus.vault, /already became host\/web1\/\u00fc/);
    assert.equal(works(['get', 'host/web1/\u00fc']), Buffer.from('u\u0308').toString('latin1'));
  });
});

describe('a new epoch', () => {
  test('names old files that no longer open, and rekey re-encrypts them, even after an interruption', () => {
    for (const name of ['host/web1/a', 'host/web1/b', 'host/web2/c', 'group/db/d']) works(['put', name], name);
    const old = readFileSync(file('host/web1/a'));
    const text = readFileSync(at('vault/vault.toml'), 'utf8');
    writeFileSync(at('vault/vault.toml'), text.replace('[host.web1]\n', '[host.web1]\nepoch = 3\n'));
    fails(
      ['get', 'host/web1/a'],
      exitStatus.malformed,
      /host\/web1\/a is from epoch 1, and host\/web1 is in epoch 3\nauxcred: hint: auxcred rekey host\/web1/,
    );
    fails(['verify'], exitStatus.malformed, /2 files do not belong/);
    assert.match(auxcred(['rekey', 'host/web1']).stderr, /re-encrypted 2 secrets/);
    assert.equal(works(['get', 'host/web1/a']), 'host/web1/a');
    writeFileSync(file('host/web1/a'), old);
    assert.match(auxcred(['rekey']).stderr, /re-encrypted 1 secret\n/);
    assert.match(auxcred(['rekey']).stderr, /re-encrypted 0 secrets/);
    works(['verify']);
  });

  test('--next raises it in vault.toml and leaves everything else there alone', () => {
    works(['put', 'host/web2/c'], 'c');
    works(['put', 'group/db/d'], 'd');
    const settings = (): string => readFileSync(at('vault/vault.toml'), 'utf8');
    const before = settings();
    const { stderr } = auxcred(['rekey', '--next', 'host/web2']);
    assert.match(stderr, /web2 also has the seeds of group\/db\n.*auxcred rekey --next group\/db/);
    assert.match(
      stderr,
      /this value stays the same, and anyone with the old seed knows it:\nauxcred: {3}host\/web2\/c\nauxcred: hint: change it at its issuer/,
    );
    assert.equal(settings(), before.replace('[host.web2]\n', '[host.web2]\nepoch = 2\n'));
    works(['rekey', '--next', 'host/web2', 'group/db']);
    assert.equal(
      settings(),
      `${before.replace('[host.web2]\n', '[host.web2]\nepoch = 3\n')}\n[group."db"]\nepoch = 2\n`,
    );
    works(['verify']);
    assert.equal(works(['get', 'group/db/d']), 'd');
    writeFileSync(at('vault/vault.toml'), 'host = { web1 = { groups = ["db"] } }\n');
    fails(['rekey', '--next', 'host/web1'], exitStatus.refused, /is written in a way that auxcred can.t edit/);
    assert.equal(settings(), 'host = { web1 = { groups = ["db"] } }\n');
  });

  test('--next changes nothing unless it can raise every scope and open the fleet seed', () => {
    works(['put', 'host/web1/a'], 'a');
    const settings = (): string => readFileSync(at('vault/vault.toml'), 'utf8');
    const before = settings();
    fails(['rekey', '--next', 'host/web1', 'group/nope'], exitStatus['not-found'], /knows no group nope/);
    assert.equal(settings(), before);
    const keyless = auxcred(['rekey', '--next', 'host/web1'], '', { AUXCRED_IDENTITY: at('nowhere') });
    assert.equal(keyless.status, exitStatus['no-recipient'], keyless.stderr);
    assert.equal(settings(), before);
    works(['rekey', '--next', 'host/web1', 'host/web1/']);
    assert.equal(settings(), before.replace('[host.web1]\n', '[host.web1]\nepoch = 2\n'));
    works(['verify']);
  });
});
