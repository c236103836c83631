import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import {
  alsoHost,
  at,
  auxcred,
  operator,
  pushed,
  put,
  store,
  useOperator,
  vaultToml,
  withSettings,
  works,
} from './operator.ts';

useOperator();

describe('push', () => {
  test('sends what is missing, and then nothing', () => {
    put('host/web1/wifi', 'secret one');
    put('group/db/token', 'shared');
    const first = pushed('--all', '--manifest');
    assert.equal(first.status, 0, first.stderr);
    assert.deepEqual(
      first.rows.map(({ host, result, sent }) => [host, result, sent]),
      [
        [
          'web1',
          'done',
          { seeds: true, fixed: ['host/web1/wifi', 'group/db/token'], manifest: ['web.toml'], removed: [] },
        ],
        ['web2', 'done', { seeds: true, fixed: ['group/db/token'], manifest: ['web.toml'], removed: [] }],
      ],
    );
    const calm = pushed('--all', '--manifest');
    assert.deepEqual(
      calm.rows.map(({ result }) => result),
      ['nothing to do', 'nothing to do'],
    );
    for (const host of ['web1', 'web2'])
      assert.equal(
        works(['get', 'session', `--root=${at(host)}`]),
        works(operator('get', 'session', `--host=${host}`)),
      );
    assert.equal(works(['get', 'host/web1/wifi', `--root=${at('web1')}`]), 'secret one');
    assert.equal(statSync(join(store('web1'), 'fixed/host/web1/wifi.sealed')).mode & 0o777, 0o600);
    assert.equal(statSync(join(store('web1'), 'pushed.json')).mode & 0o777, 0o600);
    assert.equal(works(['get', 'group/db/token', `--root=${at('web2')}`]), 'shared');
    assert.ok(existsSync(at('vault/enrolled/web1.json')));
  });

  test('removes what a push brought and the vault no longer has, and leaves the rest', () => {
    put('host/web1/old', 'x');
    writeFileSync(at('vault/all/old.toml'), '[secret.old]\nkind = "hex"\nunits = ["old.service"]\n');
    pushed('web1', '--manifest');
    works(['put', 'host/web1/mine', `--root=${at('web1')}`], 'by hand');
    writeFileSync(
      at('web1/etc/auxcred/secrets.d/mine.toml'),
      '[secret.mine]\nkind = "fixed"\nunits = ["mine.service"]\n',
    );
    works(operator('rm', '--force', 'host/web1/old'));
    rmSync(at('vault/all/old.toml'));
    const { rows, status } = pushed('web1', '--manifest');
    assert.equal(status, 0);
    assert.deepEqual(rows[0]?.sent, { seeds: false, fixed: [], manifest: [], removed: ['host/web1/old', 'old.toml'] });
    assert.deepEqual(readdirSync(at('web1/etc/auxcred/secrets.d')).sort(), ['mine.toml', 'web.toml']);
    assert.deepEqual(readdirSync(join(store('web1'), 'fixed/host/web1')).sort(), ['mine.sealed', 'wifi.sealed']);
  });

  test('an older file is refused, and sent with --accept-older', () => {
    const file = at('vault/fixed/host/web1/wifi.sealed');
    const old = readFileSync(file);
    put('host/web1/wifi', 'secret two');
    pushed('web1');
    writeFileSync(file, old);
    const { rows, status } = pushed('web1');
    assert.equal(status, exitStatus.older);
    assert.match(rows[0]?.failure?.message ?? '', /host\/web1\/wifi on the host is newer than the vault's/);
    assert.equal(pushed('web1', '--accept-older').status, 0);
    assert.equal(works(['get', 'host/web1/wifi', `--root=${at('web1')}`]), 'secret one');
  });

  test('a manifest that would be wrong changes nothing', () => {
    const before = readFileSync(at('web1/etc/auxcred/secrets.d/web.toml'), 'utf8');
    writeFileSync(at('vault/all/bad.toml'), '[secret.bad]\nkind = "hexx"\nunits = ["web.service"]\n');
    put('host/web1/wifi', 'secret three');
    const { rows, status } = pushed('web1', '--manifest');
    assert.equal(status, exitStatus['invalid-manifest']);
    assert.match(
      rows[0]?.failure?.message ?? '',
      /the manifest would have 1 error; \/etc\/auxcred\/secrets\.d\/bad\.toml:2: /,
    );
    writeFileSync(at('vault/all/bad.toml'), '[secret.lost]\nkind = "fixed"\nunits = ["web.service"]\n');
    assert.equal(pushed('web1', '--manifest').status, exitStatus['not-found']);
    rmSync(at('vault/all/bad.toml'));
    assert.equal(works(['get', 'host/web1/wifi', `--root=${at('web1')}`]), 'secret one');
    assert.equal(readFileSync(at('web1/etc/auxcred/secrets.d/web.toml'), 'utf8'), before);
    assert.equal(existsSync(at('web1/etc/auxcred/secrets.d/bad.toml')), false);
    pushed('web1', '--manifest');
  });

  test('a new epoch is accepted; an older one and seeds of another vault are not', () => {
    const session = works(['get', 'session', `--root=${at('web2')}`]);
    vaultToml('[group.db]\nepoch = 2\n');
    works(operator('rekey', 'group/db'));
    const { rows } = pushed('web2');
    assert.deepEqual([rows[0]?.result, rows[0]?.sent.seeds, rows[0]?.sent.fixed], ['done', true, ['group/db/token']]);
    assert.notEqual(works(['get', 'session', `--root=${at('web2')}`]), session);
    vaultToml();
    const token = readFileSync(at('vault/fixed/group/db/token.sealed'));
    rmSync(at('vault/fixed/group/db/token.sealed'));
    const back = pushed('web2');
    assert.equal(back.status, exitStatus.older);
    assert.match(back.rows[0]?.failure?.message ?? '', /web2 has group\/db in epoch 2, and the vault is in 1/);
    vaultToml('[group.db]\nepoch = 2\n');
    writeFileSync(at('vault/fixed/group/db/token.sealed'), token);

    works([
      'init',
      `--vault=${at('other')}`,
      `--recipient=${spawnSync('age-keygen', ['-y', at('identity')], { encoding: 'utf8' }).stdout.trim()}`,
    ]);
    writeFileSync(at('other/vault.toml'), readFileSync(at('vault/vault.toml')));
    const { status, stdout } = auxcred([
      'push',
      'web2',
      '--json',
      `--vault=${at('other')}`,
      `--identity=${at('identity')}`,
    ]);
    assert.equal(status, exitStatus.refused);
    assert.match(stdout, /web2 has a seed for (?:host\/web2|group\/db) that is not from this vault/);
    assert.ok(!existsSync(at('other/enrolled/web2.json')));
    pushed('web1');
  });

  test('a host keeps its sealing if vault.toml does not set one', () => {
    const recipient = spawnSync('age-keygen', ['-y', at('identity')], { encoding: 'utf8' }).stdout.trim();
    works(['reseal', `--root=${at('web2')}`, `--add-recipient=${recipient}`]);
    assert.equal(pushed('web2', '--reseal').rows[0]?.result, 'done');
    const opens = (): boolean =>
      spawnSync('age', ['-d', '-i', at('identity'), join(store('web2'), 'seeds.age')]).status === 0;
    assert.ok(opens());
    // A recipient that vault.toml named once, and then does no longer, is told, and goes if it says so.
    const resealed = (recipients: string): string =>
      withSettings(
        (text) => text.replace('[host.web2]\n', `[host.web2]\n${recipients}`),
        () => pushed('web2', '--reseal').stderr,
      );
    assert.doesNotMatch(resealed(`recipients = ["${recipient}"]\n`), /stay open to/);
    assert.match(
      resealed(''),
      new RegExp(
        `web2: the seeds stay open to ${recipient} too, which vault\\.toml does not name\\n.*hint: recipients = \\[\\] in`,
      ),
    );
    assert.ok(opens());
    // Version 0.1.0 does not offer to.
    writeFileSync(
      at('bin/early-ssh'),
      `#!/bin/sh\n'${at('bin/near-ssh')}' "$@" | sed -u 's/"dropsRecipients":true,//'\n`,
      { mode: 0o755 },
    );
    withSettings(
      (text) => text.replace('near-ssh', 'early-ssh'),
      () => {
        assert.match(resealed('recipients = []\n'), /web2: its version of auxcred keeps the recovery recipients/);
        assert.doesNotMatch(resealed(''), /its version/);
      },
    );
    works(['reseal', `--root=${at('web2')}`, `--add-recipient=${recipient}`]);
    assert.doesNotMatch(resealed('recipients = []\n'), /stay open to|its version/);
    assert.ok(!opens());
  });

  test('a host whose seeds do not open is sealed as vault.toml says, once it does', () => {
    const settings = readFileSync(at('vault/vault.toml'), 'utf8');
    writeFileSync(join(store('web2'), 'seeds.age'), 'damaged');
    const {
      rows: [unsaid],
    } = pushed('web2', '--reseal');
    assert.equal(unsaid?.result, 'failed');
    assert.match(
      unsaid.failure?.hint ?? '',
      /^with-key = "host" or "tpm2" for this host in vault\.toml .*; then auxcred push --reseal$/,
    );
    writeFileSync(at('vault/vault.toml'), settings.replace('[host.web2]\n', '[host.web2]\nwith-key = "host"\n'));
    assert.equal(pushed('web2', '--reseal').rows[0]?.result, 'done');
    writeFileSync(at('vault/vault.toml'), settings);
    works(['unseal', `--root=${at('web2')}`]);
  });

  test("an ssh that hangs, one that does not exist and one that can't be run fail with their reasons", () => {
    const settings = readFileSync(at('vault/vault.toml'), 'utf8');
    writeFileSync(at('vault/vault.toml'), settings.replace('near-ssh', 'far-ssh'));
    const started = Date.now();
    const hanging = pushed('web1', '--timeout=1');
    assert.deepEqual(
      [hanging.status, hanging.rows[0]?.failure?.message],
      [exitStatus.timeout, 'web1 did not finish within 1 s'],
    );
    assert.ok(Date.now() - started < 20_000);
    writeFileSync(at('vault/vault.toml'), settings.replace(/ssh = .*/, 'ssh = ["false"]'));
    assert.equal(pushed('web1').status, exitStatus.system);
    writeFileSync(
      at('vault/vault.toml'),
      settings.replace(/ssh = .*/, 'ssh = ["sh", "-c", "echo auxcred: not found >&2; exit 127"]'),
    );
    const none = pushed('web1');
    assert.equal(none.rows[0]?.failure?.message, 'auxcred is not installed on web1');
    assert.match(none.stderr, /^auxcred: web1: not found$/m);
    writeFileSync(
      at('vault/vault.toml'),
      settings.replace(/ssh = .*/, 'ssh = ["sh", "-c", "echo sudo: not found >&2; exit 127"]'),
    );
    assert.equal(pushed('web1').rows[0]?.failure?.message, "the login on web1 is not root's, and there is no sudo");
    for (const said of ['sudo: a password is required', 'web is not in the sudoers file.']) {
      writeFileSync(
        at('vault/vault.toml'),
        settings.replace(/ssh = .*/, `ssh = ["sh", "-c", "echo ${said} >&2; exit 1"]`),
      );
      const refused = pushed('web1').rows[0]?.failure;
      assert.equal(refused?.message, `the login on web1 is not root's, and may not run auxcred as root: ${said}`);
      assert.match(refused.hint ?? '', /^NOPASSWD: \/usr\/bin\/auxcred receive for it in \/etc\/sudoers\.d there, or /);
    }
    writeFileSync(
      at('vault/vault.toml'),
      settings.replace(/ssh = .*/, 'ssh = ["sh", "-c", "echo banner >&2; echo no route >&2; exit 255"]'),
    );
    const away = pushed('web1');
    assert.equal(away.rows[0]?.failure?.message, "web1 can't be reached: no route");
    assert.match(
      away.stderr,
      /^auxcred: web1: banner\nauxcred: web1 can't be reached: no route\nauxcred: web1: hint: /m,
      'said once',
    );
    writeFileSync(at('vault/vault.toml'), settings.replace(/ssh = .*/, 'ssh = ["/nonexistent/ssh"]'));
    assert.match(pushed('web1').rows[0]?.failure?.message ?? '', /\/nonexistent\/ssh can't be run/);
    writeFileSync(at('vault/vault.toml'), settings);
  });

  test("what can't be written on the host is a failure of its own", () => {
    pushed('web2', '--manifest');
    mkdirSync(at('vault/hosts/web2'), { recursive: true });
    writeFileSync(
      at('vault/hosts/web2/stored.toml'),
      '[secret.stored]\ndelivery = "credstore"\nunits = ["web.service"]\n',
    );
    const { failure } = pushed('web2', '--manifest').rows[0] ?? {};
    assert.equal(failure?.code, 'system');
    assert.match(failure.message, /^systemd-creds encrypt failed/);
    rmSync(at('vault/hosts'), { recursive: true });
    assert.equal(pushed('web2', '--manifest').status, 0);
  });

  test("replacing somebody else's credential is refused before anything is written", () => {
    pushed('web2', '--manifest');
    mkdirSync(at('web2/etc/credstore.encrypted'));
    writeFileSync(at('web2/etc/credstore.encrypted/mine'), 'theirs');
    mkdirSync(at('vault/hosts/web2'), { recursive: true });
    writeFileSync(at('vault/hosts/web2/stored.toml'), '[secret.mine]\ndelivery = "credstore"\n');
    const { failure } = pushed('web2', '--manifest').rows[0] ?? {};
    assert.deepEqual(
      [failure?.code, failure?.message],
      ['refused', `${at('web2/etc/credstore.encrypted/mine')} exists, and was not made by auxcred`],
    );
    assert.ok(!existsSync(at('web2/etc/auxcred/secrets.d/stored.toml')));
    rmSync(at('vault/hosts'), { recursive: true });
    rmSync(at('web2/etc/credstore.encrypted'), { recursive: true });
    assert.equal(pushed('web2', '--manifest').rows[0]?.result, 'nothing to do');
  });

  test('operands name hosts, and how they are reached', () => {
    const settings = readFileSync(at('vault/vault.toml'), 'utf8');
    writeFileSync(at('vault/vault.toml'), settings.replace('[host.web2]\n', '[host.web2]\ntarget = "admin@web2"\n'));
    pushed('web1');
    assert.deepEqual(
      pushed('admin@web2', 'root@web1').rows.map(({ host, result }) => [host, result]),
      [
        ['web2', 'nothing to do'],
        ['web1', 'nothing to do'],
      ],
    );
    withSettings(alsoHost('"web1@rack2"'), () => {
      assert.equal(pushed('web1@rack2', '--dry-run').rows[0]?.host, 'web1@rack2');
    });
    for (const [operands, code] of [
      [[], 'usage'],
      [['--all', 'web1'], 'usage'],
      [['web1', 'root@web1'], 'usage'],
      [['web9'], 'not-found'],
      [['root@'], 'not-found'],
      [['-oProxyCommand=x@web1'], 'usage'],
    ] as const)
      assert.equal(auxcred(operator('push', ...operands)).status, exitStatus[code], operands.join(' '));
    for (const target of ['-oProxyCommand=x', 'a b', '']) {
      writeFileSync(at('vault/vault.toml'), settings.replace('[host.web2]\n', `[host.web2]\ntarget = "${target}"\n`));
      assert.equal(auxcred(operator('push', 'web2')).status, exitStatus.malformed);
    }
    writeFileSync(at('vault/vault.toml'), settings);
  });
});
