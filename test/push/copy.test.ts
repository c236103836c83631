import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import { at, auxcred, makeHost, operator, pushed, store, useOperator, works } from './operator.ts';

useOperator('pushed');

describe('copy', () => {
  interface Pair {
    source: string;
    destination: string;
    mode?: string;
    owner?: string;
  }
  const pairs = (...args: string[]): Pair[] => {
    const { pairs: all }: { pairs: Pair[] } = JSON.parse(works(operator('copy', 'web1', '--json', ...args)));
    return all;
  };

  test('lists what a deploy tool has to copy, and where to', () => {
    assert.deepEqual(
      pairs().map(({ destination, mode, owner }) => [destination, mode, owner]),
      [
        ['/var/lib/auxcred/seeds.age', '0640', 'root:auxcred'],
        ['/etc/auxcred/scopes.json', '0644', 'root:root'],
        ['/etc/systemd/system/auxcred.service.d/50-auxcred-seal.conf', '0644', 'root:root'],
        ['/var/lib/auxcred/unbound', '0644', 'root:root'],
        ['/var/lib/auxcred/pushed.json', '0600', 'root:root'],
        ['/var/lib/auxcred/fixed/host/web1/wifi.sealed', '0600', 'root:root'],
        ['/var/lib/auxcred/fixed/group/db/token.sealed', '0600', 'root:root'],
        ['/etc/auxcred/secrets.d/web.toml', '0644', 'root:root'],
      ],
    );
    for (const { source } of pairs()) assert.ok(existsSync(source), source);
    assert.equal(pairs('--no-seeds').length, 3);
    assert.deepEqual(
      pairs('--by-configuration').map(({ destination }) => destination),
      pairs()
        .map(({ destination }) => destination)
        .filter((destination) => !/^\/etc\/systemd\/|secrets\.d/.test(destination)),
    );
    assert.equal(auxcred(operator('copy', 'web9')).status, exitStatus['not-found']);
    assert.match(works(operator('copy', 'web1')), /^SOURCE +DESTINATION +MODE +OWNER\n/);
  });

  test('copies it into a root, which then opens and provisions, and which push recognises', () => {
    makeHost('fresh');
    for (const name of ['ssh_host_ed25519_key', 'ssh_host_ed25519_key.pub'])
      writeFileSync(at(`fresh/etc/ssh/${name}`), readFileSync(at(`web1/etc/ssh/${name}`)), { mode: 0o600 });
    const { stderr, status } = auxcred(operator('copy', 'web1', `--to=${at('fresh')}`));
    assert.equal(status, 0, stderr);
    assert.match(stderr, /has no group auxcred yet, so only root can read the seeds/);
    assert.equal(statSync(join(store('fresh'), 'seeds.age')).mode & 0o777, 0o600);
    assert.equal(auxcred(operator('copy', 'web1', `--to=${at('fresh')}`)).status, exitStatus.refused);
    assert.match(works(['unseal', `--root=${at('fresh')}`]), /^host\/web1 /m);
    works(['apply', `--root=${at('fresh')}`]);
    assert.equal(works(['get', 'session', `--root=${at('fresh')}`]), works(operator('get', 'session', '--host=web1')));
    works(['reseal', `--root=${at('fresh')}`]);
    assert.equal(existsSync(join(store('fresh'), 'unbound')), false);
    rmSync(at('web1'), { recursive: true });
    spawnSync('cp', ['-a', at('fresh'), at('web1')]);
    assert.match(
      pushed('web1', '--manifest', '--dry-run').stderr,
      /web1: would finish what an earlier push or copy began/,
    );
    assert.equal(pushed('web1', '--manifest').rows[0]?.result, 'done');
    assert.equal(pushed('web1', '--manifest').rows[0]?.result, 'nothing to do');
  });

  test('refuses a manifest with errors, and warns of a secret that the vault lacks', () => {
    const more = at('vault/all/more.toml');
    const copied = (...args: string[]): ReturnType<typeof auxcred> => auxcred(operator('copy', 'web1', ...args));
    try {
      mkdirSync(at('unsound'));
      writeFileSync(more, '[secret.bad]\nkind = "hexx"\n');
      const { status, stderr } = copied(`--to=${at('unsound')}`);
      assert.equal(status, exitStatus['invalid-manifest']);
      assert.match(stderr, /more\.toml:2: .*hexx.*\n.*did you mean hex\?\n(?:.*\n)*.*auxcred check --host=web1/);
      assert.deepEqual(readdirSync(at('unsound')), []);
      assert.equal(copied('--by-configuration').status, 0);
      writeFileSync(more, '[secret.absent]\nkind = "fixed"\nunits = ["web.service"]\n');
      const lacking = copied();
      assert.equal(lacking.status, 0, lacking.stderr);
      assert.match(lacking.stderr, /warning: with these files alone, web1 can't deliver .* no host\/web1\/absent in /);
    } finally {
      rmSync(more);
    }
  });

  test("the new root's own group gets the seeds, and a link out of the root is not followed", () => {
    mkdirSync(at('linked/etc'), { recursive: true });
    writeFileSync(at('linked/etc/group'), `auxcred:x:${String(process.getgid?.() ?? 0)}:\n`);
    works(operator('copy', 'web1', `--to=${at('linked')}`));
    assert.equal(statSync(join(store('linked'), 'seeds.age')).mode & 0o777, 0o640);
    mkdirSync(at('outside'));
    mkdirSync(at('escaping/var'), { recursive: true });
    symlinkSync(at('outside'), at('escaping/var/lib'));
    const { status, stderr } = auxcred(operator('copy', 'web1', `--to=${at('escaping')}`));
    assert.equal(status, exitStatus.refused);
    assert.match(stderr, /leads to .*outside, which is outside of/);
    assert.deepEqual(readdirSync(at('outside')), []);
  });

  test('a new root with folders that others own is refused', { skip: process.getuid?.() !== 0 }, () => {
    mkdirSync(at('foreign/etc/auxcred'), { recursive: true });
    chownSync(at('foreign/etc/auxcred'), 65534, 65534);
    const { status, stderr } = auxcred(operator('copy', 'web1', `--to=${at('foreign')}`));
    assert.equal(status, exitStatus.refused);
    assert.match(stderr, /foreign\/etc\/auxcred belongs to user 65534, who could lead the path elsewhere/);
    assert.deepEqual(readdirSync(at('foreign')), ['etc']);
  });
});
