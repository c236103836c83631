/** Fixed secrets of a machine without a vault. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { beforeEach, describe, test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import { at, auxcred, fails, useVault, works } from './vault.ts';

useVault();

describe('a machine without a vault', () => {
  const on = (verb: string, ...args: string[]): string[] => [verb, `--root=${at('box')}`, ...args];
  const declare = (text: string): void => {
    writeFileSync(at('box/etc/auxcred/secrets.d/a.toml'), text);
  };

  beforeEach(() => {
    for (const path of ['etc/ssh', 'etc/auxcred/secrets.d']) mkdirSync(at(`box/${path}`), { recursive: true });
    writeFileSync(at('box/etc/hostname'), 'box\n');
    writeFileSync(at('box/etc/group'), 'root:x:0:\n');
    assert.equal(
      spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', at('box/etc/ssh/ssh_host_ed25519_key')]).status,
      0,
    );
    works(on('seal', '--no-recovery'));
  });

  test('has fixed secrets of its own, and activates them along with derived ones, hashed and in templates', () => {
    works(on('put', 'wifi'), 'hunter2');
    declare(
      '[secret.wifi]\nkind = "fixed"\nunits = ["iwd.service"]\n[secret.d]\nunits = ["web.service"]\n' +
        '[secret.t]\nkind = "template"\nunits = ["web.service"]\nenv = { W = "{{wifi | url}}", D = "{{d}}" }\n' +
        '[secret.h]\nkind = "crypt"\nof = "wifi"\nmethod = "sha512-crypt"\nunits = ["web.service"]\n',
    );
    works(on('apply'));
    assert.equal(works(on('get', 'wifi')), 'hunter2');
    assert.equal(works(on('get', 't')), `W="hunter2"\nD="${works(on('get', 'd'))}"\n`);
    const hash = works(on('get', 'h'));
    assert.equal(
      spawnSync('perl', ['-e', 'print crypt($ARGV[0], $ARGV[1])', 'hunter2', hash], { encoding: 'utf8' }).stdout,
      hash,
    );
    works(on('put', 'wifi', '--force'), 'hunter2');
    assert.match(auxcred(on('plan')).stderr, /nothing would change/);
    works(on('apply'));
    assert.equal(works(on('get', 'h')), hash);
    works(on('put', 'wifi', '--force'), 'changed');
    assert.match(
      works(on('plan')),
      /iwd\.service +wifi +value +restart\n.*h +wifi: value +restart\n.*t +wifi: value +restart/,
    );
    assert.equal(works(on('get', 'wifi')), 'hunter2');
    works(on('apply'));
    assert.equal(works(on('get', 'wifi')), 'changed');
  });

  test('says what is left to do after a change', () => {
    const said = (args: string[], input = ''): string => {
      const { status, stderr } = auxcred(args, input);
      assert.equal(status, 0, stderr);
      return stderr;
    };
    const undeclared = /^auxcred: next: declare a secret of kind "fixed" for it in the manifest, then auxcred apply$/m;
    const apply = `auxcred: next: auxcred apply --root=${at('box')}, which delivers it\n`;
    assert.match(said(on('put', 'wifi'), 'hunter2'), undeclared);
    assert.match(said(on('generate', 'pin')), undeclared);
    declare('[secret.w]\nkind = "fixed"\npath = "wifi"\nunits = ["iwd.service"]\n');
    assert.ok(said(on('put', 'wifi', '--force'), 'hunter3').endsWith(apply));
    assert.ok(said(on('generate', 'wifi', '--force')).endsWith(apply));
    const lost = (hint: string): RegExp =>
      new RegExp(
        `a\\.toml declares w of host/box/wifi: without it, no change becomes active\nauxcred: hint: ${hint}\n`,
      );
    assert.match(said(on('mv', 'wifi', 'net')), lost('path = "net", or rename it there too'));
    assert.doesNotMatch(said(on('cp', 'net', 'wifi')), /declares/);
    assert.match(said(on('rm', 'wifi', '--force')), lost('take it out there too'));
    assert.doesNotMatch(said(on('rm', 'net', '--force')), /declares/);
  });

  test('names every secret that is missing, and changes nothing', () => {
    declare('[secret.a]\nunits = ["a.service"]\n');
    works(on('apply'));
    declare(
      '[secret.a]\ngeneration = 2\nunits = ["a.service"]\n[secret.w]\nkind = "fixed"\nunits = ["a.service"]\n' +
        '[secret.x]\nkind = "vault"\nvault = "pass"\nunits = ["a.service"]\n',
    );
    const before = works(on('history', 'a'));
    fails(
      on('apply'),
      exitStatus['not-found'],
      /there is no host\/box\/w in .*; x has not been fetched from the vault pass yet\n/,
    );
    assert.equal(works(on('history', 'a')), before);
  });

  test('refuses an older file, unless told to accept it', () => {
    const path = at('box/var/lib/auxcred/fixed/host/box/w.sealed');
    works(on('put', 'w'), 'old');
    const old = readFileSync(path);
    works(on('put', 'w', '--force'), 'new');
    declare('[secret.w]\nkind = "fixed"\nunits = ["a.service"]\n');
    works(on('apply'));
    writeFileSync(path, old);
    fails(
      on('apply'),
      exitStatus.older,
      /the file of host\/box\/w is older than the active one .*, so nothing was changed\nauxcred: hint: .*--accept-older/,
    );
    assert.equal(works(on('get', 'w')), 'new');
    works(on('apply', '--accept-older'));
    assert.equal(works(on('get', 'w')), 'old');
  });

  test('refuses an older seeds.age, unless told to accept it', () => {
    const seeds = at('box/var/lib/auxcred/seeds.age');
    declare('[secret.a]\nunits = ["a.service"]\n');
    works(on('apply'));
    const [old, value] = [readFileSync(seeds), works(on('get', 'a'))];
    writeFileSync(at('seed'), works(on('unseal', '--reveal')));
    works(on('seal', '--replace', '--no-recovery', `--seed-file=${at('seed')}`));
    works(on('apply'));
    assert.equal(works(on('get', 'a')), value);
    writeFileSync(seeds, old);
    fails(on('apply'), exitStatus.older, /seeds\.age has counter 1; counter 2 was active/);
    works(on('apply', '--accept-older'));
    assert.equal(works(on('get', 'a')), value);
  });

  test('waits for another running auxcred', async () => {
    declare('[secret.a]\nunits = ["a.service"]\n');
    works(on('apply'));
    const holder = spawn('flock', [at('box/var/lib/auxcred/lock'), 'sh', '-c', 'echo held; sleep 2'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(holder.stdout, 'data');
    const { status, stderr } = auxcred(on('apply'));
    assert.equal(status, 0, stderr);
    assert.match(stderr, /another auxcred is running, waiting for it/);
    assert.ok(!/waiting/.test(auxcred(on('apply')).stderr));
  });

  test('says how to print what a unit gets beside a secret', () => {
    declare('[secret.k]\nkind = "age"\n[secret.r]\nrotate = "daily"\n[secret.g]\ngeneration = 2\n');
    works(on('apply'));
    fails(on('get', 'k.pub'), exitStatus['not-found'], /no secret k\.pub is declared\n.*auxcred public k prints/);
    fails(on('get', 'r.previous'), exitStatus['not-found'], /auxcred get r --at=PERIOD prints/);
    fails(on('get', 'g.previous'), exitStatus['not-found'], /auxcred get g --generation=N prints/);
    fails(on('get', 'r.pub'), exitStatus['not-found'], /auxcred ls shows/);
  });

  test('serves what is active, whatever happens to the folder', () => {
    works(on('put', 'w'), 'kept');
    declare('[secret.w]\nkind = "fixed"\nunits = ["a.service"]\n');
    works(on('apply'));
    const [generation = ''] = readdirSync(at('box/var/lib/auxcred/generations'));
    const [copy = ''] = readdirSync(at(`box/var/lib/auxcred/generations/${generation}/fixed`));
    rmSync(at('box/var/lib/auxcred/fixed'), { recursive: true });
    fails(on('apply'), exitStatus['not-found'], /there is no host\/box\/w/);
    works(on('put', 'w'), 'kept');
    rmSync(at(`box/var/lib/auxcred/provisioned/fixed/${copy}`));
    works(on('apply'));
    assert.equal(works(on('get', 'w')), 'kept');
  });

  test('says when a secret was removed, and when it came back', () => {
    works(on('put', 'w'), 'kept');
    const all =
      '[secret.d]\nunits = ["a.service"]\n[secret.k]\nkind = "age"\nunits = ["a.service"]\n' +
      '[secret.w]\nkind = "fixed"\nunits = ["a.service"]\n';
    declare(all);
    works(on('apply'));
    const [d, k] = [works(on('get', 'd')), works(on('public', 'k'))];
    declare('');
    works(on('apply'));
    for (const [verb, name, value] of [
      ['get', 'd', d],
      ['public', 'k', k],
    ] as const) {
      const said = auxcred(on(verb, name));
      assert.deepEqual([said.status, said.stdout], [0, value]);
      assert.match(
        said.stderr,
        new RegExp(`${name} was removed at \\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\dZ, and no unit gets it any more`),
      );
    }
    works(on('rm', 'w', '--force'));
    fails(on('get', 'w'), exitStatus['not-found'], /w was removed at .*\n.*the value of w is gone too/);
    const changes = (): string[] =>
      JSON.parse(works(on('history', 'd', '--json'))).map(({ change }: { change: string }) => change);
    assert.deepEqual(changes(), ['new', 'removed']);
    declare(all.replace('[secret.w]\nkind = "fixed"', '[secret.redis-password]'));
    works(on('apply'));
    assert.deepEqual(changes(), ['new', 'removed', 'new']);
    assert.equal(auxcred(on('get', 'd')).stderr, '');
    fails(
      on('get', 'redis-passwrd'),
      exitStatus['not-found'],
      /no secret redis-passwrd is declared\nauxcred: hint: did you mean redis-password\?/,
    );
  });

  test('refuses a template that fixed secrets make too long, and a hash of more than a line', () => {
    works(on('put', 'w'), 'x'.repeat(100_000));
    works(on('put', 'l'), 'two\nlines');
    declare(
      '[secret.w]\nkind = "fixed"\n[secret.t]\nkind = "template"\ncontent = "{{w}}{{w}}"\nunits = ["a.service"]\n',
    );
    fails(on('apply'), exitStatus['invalid-manifest'], /t of a\.service has 200000 bytes, and at most 131072 can/);
    declare('[secret.l]\nkind = "fixed"\n[secret.h]\nkind = "crypt"\nof = "l"\nunits = ["a.service"]\n');
    fails(on('apply'), exitStatus.malformed, /h: l has more than one line, so it can't be hashed/);
  });
});
