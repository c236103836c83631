import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { concat, framed, utf8 } from '../../src/bytes.ts';
import { exitStatus } from '../../src/failure.ts';
import { commandLine } from '../../src/system/shell.ts';
import {
  at,
  auxcred,
  findings,
  fixes,
  makeHostKey,
  only,
  recipient,
  recoveryKey,
  rootOption,
  run,
  soundSystem,
  store,
} from './sound-system.ts';

soundSystem();

describe('doctor on the seed', () => {
  test('seed: none', () => {
    const words = run(['unseal', '--reveal']).stdout;
    copyFileSync(store('seeds.age'), at('backup'));
    writeFileSync(at('words'), words);
    for (const [which, lost] of [
      [0, [store('seeds.age')]],
      [3, [store('seeds.age')]],
      [1, [store('seeds.age')]],
      [1, [store('seeds.age'), store('provisioned'), store('generations')]],
    ] as const) {
      for (const path of lost) rmSync(path, { recursive: true });
      const finding = only('seed', 'problem', /this machine's seed is lost: .*seeds\.age is missing/);
      assert.match(
        finding.why ?? '',
        /a new seed would cost every secret of host\/web1,? (?:what is active )?and 1 fixed secret;/,
      );
      assert.ok(!finding.mend.some((command) => /auxcred seal\b/.test(command)));
      assert.equal(finding.mend.at(-1), 'auxcred push web1    # where the vault is');
      // Without the snapshot nothing is active, and the recovery recipients are lost.
      fixes(
        finding,
        which,
        { BACKUP: at('backup'), 'FILE-WITH-THE-WORDS': at('words'), 'RECOVERY-KEY': recoveryKey() },
        lost.length === 1 ? [] : ['recovery', 'snapshot'],
      );
    }
    for (const path of ['var/lib/auxcred', 'etc/auxcred/scopes.json']) rmSync(at(path), { recursive: true });
    fixes(only('seed', 'problem', /no seed is sealed here/), 0, { 'age1...': recipient() }, ['snapshot', 'wanted']);
  });

  test('seed: damaged', () => {
    copyFileSync(store('seeds.age'), at('backup'));
    writeFileSync(store('seeds.age'), 'age-encryption.org/v1\n');
    fixes(only('seed', 'problem', /seeds.age is damaged/), 0, { BACKUP: at('backup') });
  });

  test('seed, opening: of a later version', () => {
    const later = /was written by a later version of auxcred$/;
    const bytes = readFileSync(store('seeds.age'));
    const line = (body: Uint8Array): string =>
      (
        Buffer.from(body)
          .toString('base64')
          .replaceAll('=', '')
          .match(/.{1,64}/g) ?? []
      ).join('\n');
    const empty = new Uint8Array(0);
    const policy = utf8('{"bank":"sha3","kind":"approved","version":3}');
    const body = concat(...[empty, empty, policy, empty, empty].map(framed), new Uint8Array(32));
    writeFileSync(
      store('seeds.age'),
      `age-encryption.org/v1\n-> auxcred/tpm2\n${line(body)}\n--- ${line(new Uint8Array(32))}\n${'x'.repeat(40)}`,
    );
    assert.deepEqual(only('seed', 'problem', later).mend, ['apt install --reinstall auxcred']);
    assert.match(run(['status']).stdout, /^seed {6}written by a later version of auxcred$/m);

    writeFileSync(store('seeds.age'), bytes);
    const age = ['-R', at('etc/ssh/ssh_host_ed25519_key.pub'), '-r', recipient(), '-o', store('seeds.age')];
    const { stdout } = spawnSync('age', ['-d', '-i', recoveryKey(), store('seeds.age')], { encoding: 'utf8' });
    assert.equal(spawnSync('age', age, { input: stdout.replace('"version":1', '"version":2') }).status, 0);
    assert.deepEqual(only('opening', 'problem', later).mend, ['apt install --reinstall auxcred']);
    const { status, stderr } = run(['apply']);
    assert.equal(status, exitStatus.malformed);
    assert.equal(
      stderr,
      'auxcred: the content of seeds.age was written by a later version of auxcred\n' +
        'auxcred: hint: install that version again\n',
    );
  });

  test('opening: whole on the outside', () => {
    copyFileSync(store('seeds.age'), at('backup'));
    const bytes = readFileSync(store('seeds.age'));
    bytes[bytes.length - 1] = (bytes[bytes.length - 1] ?? 0) ^ 1;
    writeFileSync(store('seeds.age'), bytes);
    only('opening', 'problem', /^the seed does not open: /);
  });

  test('pins: missing, damaged', () => {
    for (const damage of [
      () => {
        rmSync(at('etc/auxcred/scopes.json'));
      },
      () => {
        writeFileSync(at('etc/auxcred/scopes.json'), '{}');
      },
    ]) {
      damage();
      fixes(only('pins', 'problem', /scopes.json is (?:missing|damaged)/), 1, { 'RECOVERY-KEY': recoveryKey() });
    }
  });

  test('pins: damaged, and only the ssh host key opens the seed', () => {
    auxcred('reseal', `--remove-recipient=${recipient()}`);
    writeFileSync(at('etc/auxcred/scopes.json'), '{');
    const { stderr } = run(['unseal']);
    assert.match(stderr, /scopes\.json is not JSON\n.*hint: restore it from a backup; auxcred reseal --identity=FILE/);
    assert.ok(!/seal --replace(?! --seed-file)/.test(stderr), 'another seed is no way to keep this one');
    const finding = findings().find(({ check }) => check === 'pins');
    assert.ok(finding);
    assert.ok(finding.mend.every((command) => !command.includes('RECOVERY-KEY')));
    fixes(finding, 1, {}, ['recovery']);
  });

  test('pins: the store of somebody else', () => {
    copyFileSync(store('seeds.age'), at('backup'));
    copyFileSync(at('etc/auxcred/scopes.json'), at('scopes'));
    auxcred('seal', '--replace', `--recipient=${recipient()}`);
    copyFileSync(at('scopes'), at('etc/auxcred/scopes.json'));
    fixes(only('pins', 'problem', /the seed of host\/web1 is not the one that this machine expects/), 0, {
      BACKUP: at('backup'),
    });
  });

  test('host-key: none, another', () => {
    copyFileSync(at('etc/ssh/ssh_host_ed25519_key'), at('backup'));
    rmSync(at('etc/ssh/ssh_host_ed25519_key'));
    fixes(only('host-key', 'problem', /ssh_host_ed25519_key is missing/), 0, { BACKUP: at('backup') });
    makeHostKey();
    fixes(only('host-key', 'problem', /is not the key that the seed was sealed to/), 1, {
      'RECOVERY-KEY': recoveryKey(),
    });
  });

  test('recovery', () => {
    auxcred('reseal', `--remove-recipient=${recipient()}`);
    fixes(only('recovery', 'note', /^no recovery recipient$/), 0, { 'age1...': recipient() });
  });

  test('unbound', () => {
    writeFileSync(store('unbound'), '');
    only('unbound', 'warning', /and not yet again on this one/);
  });

  test('recovery, seed: a machine that was pushed to is sent to the vault, not to paper', () => {
    auxcred('reseal', `--remove-recipient=${recipient()}`);
    writeFileSync(store('pushed.json'), '{"fixed":[],"manifest":{},"unfinished":false,"version":1}\n', { mode: 0o600 });
    assert.deepEqual(findings(), []);
    writeFileSync(store('seeds.age'), 'age-encryption.org/v1\n');
    assert.deepEqual(only('seed', 'problem', /is damaged/).mend.slice(1), [
      commandLine('auxcred', 'reseal', rootOption(), '--scopes=FILE-FROM-THE-VAULT'),
    ]);
  });
});
