import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import type * as cli from '../cli.ts';
import { at, auxcred, here, root, useRoot } from './sealable-root.ts';

useRoot();

describe('seal', () => {
  test("and other writers refuse a root whose folders lead elsewhere or are somebody else's", {
    skip: process.getuid?.() !== 0,
  }, () => {
    const outside = mkdtempSync(join(tmpdir(), 'outside-'));
    try {
      symlinkSync(outside, at('var'));
      const { status, stderr } = here('seal', '--no-recovery');
      assert.equal(status, exitStatus.refused);
      assert.match(stderr, /var leads to \S+, which is outside of /);
      assert.deepEqual(readdirSync(outside), []);
      rmSync(at('var'));
      assert.equal(here('seal', '--no-recovery').status, 0);
      chownSync(at('etc/auxcred'), 65534, 65534);
      for (const verb of ['apply', 'provision', 'reseal'])
        assert.match(here(verb).stderr, /etc\/auxcred belongs to user 65534, who could lead the path elsewhere\n/);
      chownSync(at('etc/auxcred'), 0, 0);
      chmodSync(at('var/lib'), 0o777);
      assert.match(
        auxcred(['put', `--root=${root}`, 'wifi'], 'hunter2').stderr,
        /var\/lib can be written by more users than its owner\nauxcred: hint: chmod go-w \S+var\/lib\n/,
      );
    } finally {
      rmSync(outside, { recursive: true });
    }
  });

  test('a new seed needs a recovery', () => {
    const { status, stderr } = here('seal');
    assert.equal(status, exitStatus.usage);
    assert.match(
      stderr,
      /a new seed needs a way to recover it.*\n.*--recipient=age1\.\.\., --print-words .* --no-recovery/,
    );
    assert.ok(!existsSync(at('var/lib/auxcred/seeds.age')));
  });

  test('after a manifest says what activates its secrets', () => {
    assert.equal(here('apply').status, 0);
    const { status, stderr } = here('seal', '--no-recovery');
    assert.equal(status, 0, stderr);
    assert.ok(stderr.endsWith(`next: auxcred apply --root=${root}, which activates the declared secrets\n`), stderr);
    for (const folder of ['var/lib/auxcred', 'etc/auxcred']) rmSync(at(folder), { recursive: true });
    assert.doesNotMatch(here('seal', '--no-recovery').stderr, /next: /);
  });

  test('to the host key, opened again by the age program with that key and with a recovery identity', () => {
    assert.equal(spawnSync('age-keygen', ['-o', at('identity')]).status, 0);
    const recipient = spawnSync('age-keygen', ['-y', at('identity')], { encoding: 'utf8' }).stdout.trim();
    const sealed = here('seal', `--recipient=${recipient}`);
    assert.equal(sealed.status, 0, sealed.stderr);
    assert.equal(
      sealed.stderr.match(/on the same disk: unless that is encrypted, anyone who steals it has the secrets/g)?.length,
      1,
    );
    assert.match(sealed.stderr, /sealed the seed of host\/web1 to its ssh host key; key id [0-9a-f]{32}/);
    const opened = [at('etc/ssh/ssh_host_ed25519_key'), at('identity')].map(
      (identity) =>
        spawnSync('age', ['-d', '-i', identity, at('var/lib/auxcred/seeds.age')], { encoding: 'utf8' }).stdout,
    );
    assert.match(
      opened[0] ?? '',
      /^\{"counter":1,"policy":\{"pcrs":\[\],"withKey":"host"\},"recipients":\["age1[0-9a-z]+"\],"scopes":\[\{"epoch":1,"kind":"host","name":"web1","seed":"[^"]{44}"\}\],"version":1\}$/,
    );
    assert.equal(opened[1], opened[0]);
    assert.equal(statSync(at('var/lib/auxcred/seeds.age')).mode & 0o777, 0o640);
    assert.equal(statSync(at('var/lib/auxcred')).mode & 0o777, 0o750);
    assert.doesNotMatch(here('reseal').stderr, /share a disk/);
  });

  test('never replaces a seed, unless told to', () => {
    assert.equal(here('seal', '--no-recovery').status, 0);
    const before = readFileSync(at('var/lib/auxcred/seeds.age'));
    const again = here('seal', '--no-recovery');
    assert.equal(again.status, exitStatus.refused);
    assert.match(again.stderr, /exists, and a new seed would change every secret/);
    assert.ok(before.equals(readFileSync(at('var/lib/auxcred/seeds.age'))));
    assert.equal(here('seal', '--no-recovery', '--replace').status, 0);
  });

  test('24 words give the same seed, and so the same secrets, on another machine', () => {
    const first = here('seal', '--print-words');
    const words = first.stdout.trim();
    assert.equal(words.split(' ').length, 24);
    assert.equal(here('unseal', '--reveal').stdout.trim(), words);
    const id = /key id ([0-9a-f]{32})/.exec(first.stderr)?.[1];
    const again = auxcred(['seal', `--root=${root}`, '--replace', '--seed-file=-'], words);
    assert.equal(/key id ([0-9a-f]{32})/.exec(again.stderr)?.[1], id);
  });

  test('words that are wrong are refused, and none of them is said', () => {
    // Always these: words at random may be words of the message.
    const paper = 'legal winner thank year wave sausage worth useful '.repeat(3).trim().split(' ');
    const wrong: readonly (readonly [readonly string[], RegExp])[] = [
      [paper, /checksum of the 24 words is wrong/],
      [paper.with(23, 'xyzzy'), /word 24 is not in the BIP-39 English list/],
      [paper.slice(0, 23), /a seed has 24 words, not 23/],
    ];
    for (const [words, message] of wrong) {
      const refused = auxcred(['seal', `--root=${root}`, '--seed-file=-'], words.join(' '));
      assert.equal(refused.status, exitStatus.usage);
      assert.match(refused.stderr, message);
      const said = new Set(refused.stderr.split(/\W+/));
      assert.deepEqual(
        words.filter((word) => said.has(word)),
        [],
        refused.stderr,
      );
    }
  });

  /** Runs a command with its standard output sent there. */
  const into = (output: string, ...args: string[]): cli.Said =>
    spawnSync('sh', ['-c', `"$@" ${output}`, 'sh', process.execPath, 'dist/auxcred.cjs', ...args], {
      encoding: 'utf8',
      env: { PATH: process.env['PATH'] },
    });

  test("seals no seed whose words can't have been seen, and neither does init create a vault", () => {
    const folder = at('vault');
    for (const output of ['> /dev/full', '> /dev/null', '>&-'])
      for (const [args, made] of [
        [['seal', `--root=${root}`], at('etc/auxcred/scopes.json')],
        [
          ['init', `--vault=${folder}`, '--recipient=age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p'],
          folder,
        ],
      ] as const) {
        const { status, stderr } = into(output, ...args, '--print-words');
        assert.equal(status, exitStatus.system, output);
        assert.match(stderr, /the 24 words can't be shown, so nothing was changed: .*\n.*a terminal, a file or a pipe/);
        assert.ok(!existsSync(made));
      }
    assert.equal(into(`> '${at('words')}'`, 'seal', `--root=${root}`, '--print-words').status, 0);
    assert.equal(readFileSync(at('words'), 'utf8'), here('unseal', '--reveal').stdout);
  });

  test('shows the words before they are valid, and says so if it then fails', () => {
    mkdirSync(at('etc/systemd/system/auxcred.service.d/50-auxcred-seal.conf'), { recursive: true });
    const { status, stdout, stderr } = here('seal', '--print-words');
    assert.equal(status, exitStatus.malformed);
    assert.equal(stdout.trim().split(' ').length, 24);
    assert.match(
      stderr,
      /the 24 words were shown before this failed: they are valid only if auxcred unseal shows key id [0-9a-f]{32}\n.*50-auxcred-seal.conf is not a regular file/,
    );
    assert.ok(!existsSync(at('var/lib/auxcred/seeds.age')));
  });

  test('creates an age identity if there is no ssh host key, and says so', () => {
    rmSync(at('etc/ssh/ssh_host_ed25519_key'));
    const { status, stderr } = here('seal', '--no-recovery');
    assert.equal(status, 0, stderr);
    assert.match(stderr, /warning: this machine has no ssh host key, so an age identity was created at .*host\.key/);
    assert.equal(statSync(at('var/lib/auxcred/host.key')).mode & 0o777, 0o600);
    assert.match(here('unseal').stderr, /opens with age host key/);
    assert.match(
      readFileSync(at('etc/systemd/system/auxcred.service.d/50-auxcred-seal.conf'), 'utf8'),
      /^LoadCredential=age-host-key:\/var\/lib\/auxcred\/host\.key$/m,
    );
    assert.equal(
      spawnSync('age', ['-d', '-i', at('var/lib/auxcred/host.key'), at('var/lib/auxcred/seeds.age')]).status,
      0,
    );
  });

  test('a file that can not be read is a failure of the system, not of auxcred', () => {
    const { status, stderr } = here('seal', '--no-recovery', '--seed-file=/nonexistent');
    assert.equal(status, exitStatus.system);
    assert.match(stderr, /^auxcred: there is no \/nonexistent$/m);
  });

  test('auto reports its choice', () => {
    const { stderr } = here('seal', '--with-key=auto', '--tpm2-device=device:/dev/tpm-not-here', '--no-recovery');
    assert.match(stderr, /--with-key=auto chose host/);
  });

  test("a name that can't be a scope name is refused", () => {
    writeFileSync(at('etc/hostname'), '../x\n');
    assert.match(here('seal', '--no-recovery').stderr, /\.\.\/x can't be used as a scope name/);
    assert.equal(here('seal', '--no-recovery', '--name=web2').status, 0);
  });
});

describe('unseal', () => {
  test('says what is wrong', () => {
    assert.equal(here('unseal').status, exitStatus['not-found']);
    here('seal', '--no-recovery');
    assert.match(here('unseal').stdout, /^SCOPE +EPOCH +KEY ID\nhost\/web1 +1 +[0-9a-f]{32}\n$/);
    const json: unknown = JSON.parse(here('unseal', '--json').stdout);
    assert.ok(
      json !== null && typeof json === 'object' && !('seed' in json) && !JSON.stringify(json).includes('"seed"'),
    );
    rmSync(at('etc/auxcred/scopes.json'));
    assert.equal(here('unseal').status, exitStatus['not-pinned']);
  });

  test('a changed host key is named', () => {
    here('seal', '--no-recovery');
    rmSync(at('etc/ssh/ssh_host_ed25519_key'));
    spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', at('etc/ssh/ssh_host_ed25519_key')]);
    const { status, stderr } = here('unseal');
    assert.equal(status, exitStatus['no-recipient']);
    assert.match(
      stderr,
      /none of this machine's keys opens the file, which is for ssh-ed25519\nauxcred: hint: the host key may have changed/,
    );
  });
});
