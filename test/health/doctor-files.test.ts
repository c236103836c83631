import assert from 'node:assert/strict';
import { chownSync, mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import { findingsOf } from '../../src/health/checks.ts';
import { lookAt } from '../../src/health/health.ts';
import { isEncryptedDevice, swapsOnDisk } from '../../src/health/platform.ts';
import { ReadableFiles } from '../../src/health/readable-files.ts';
import { commandLine } from '../../src/system/shell.ts';
import {
  at,
  auxcred,
  findings,
  fixes,
  isRoot,
  manifest,
  only,
  rootOption,
  run,
  soundSystem,
  store,
} from './sound-system.ts';

soundSystem();

describe('doctor on other files of the system', () => {
  test('own-credential', () => {
    mkdirSync(at('etc/systemd/system/web.service.d'), { recursive: true });
    writeFileSync(
      at('etc/systemd/system/web.service.d/own.conf'),
      '[Service]\nSetCredential=other:x\nSetCredential=key:fallback\n',
    );
    fixes(
      only(
        'own-credential',
        'warning',
        /own.conf sets its own value for a credential of web.service: SetCredential=key$/,
      ),
      0,
      { '${EDITOR:-vi}': 'rm' },
    );
  });

  test("overrides: a file that takes the drop-in's place, and one that takes its lines away", () => {
    mkdirSync(at('etc/systemd/system/web.service.d'), { recursive: true });
    symlinkSync('/dev/null', at('etc/systemd/system/web.service.d/50-auxcred.conf'));
    fixes(
      only(
        'overrides',
        'problem',
        /web.service.d\/50-auxcred.conf takes the place of auxcred's drop-in of web.service$/,
      ),
      0,
    );
    writeFileSync(at('etc/systemd/system/web.service.d/90-local.conf'), '[Service]\nLoadCredential=\n');
    fixes(only('overrides', 'problem', /90-local.conf takes LoadCredential\w*=key:\S+ away from web.service$/), 0, {
      '${EDITOR:-vi}': 'rm',
    });
    writeFileSync(at('etc/systemd/system/web.service.d/90-local.conf'), '[Service]\nLoadCredential=\n');
    assert.match(
      run(['apply']).stderr,
      /warning: .+90-local.conf takes away what the drop-in gives to web.service: LoadCredential\w*=key:\S+\n.*hint: auxcred doctor/,
    );
  });

  test('aliases: a unit that is declared under another name', () => {
    mkdirSync(at('etc/systemd/system'), { recursive: true });
    symlinkSync('/usr/lib/systemd/system/nginx.service', at('etc/systemd/system/web.service'));
    assert.equal(
      only('aliases', 'problem', /web.service is declared, but is an alias of nginx.service$/).mend[0],
      commandLine('auxcred', 'check', rootOption()),
    );
    const { status, stdout } = run(['check']);
    assert.equal(status, exitStatus['invalid-manifest']);
    assert.match(
      stdout,
      /error: secret\.key\.units: web\.service is an alias of nginx\.service, .*\n {4}units = \["nginx\.service"\]/,
    );
    assert.equal(run(['apply']).status, exitStatus['invalid-manifest']);
  });

  test('links: made where others could lead them, and where nobody declared one', { skip: !isRoot }, () => {
    const file = '/run/auxcred/files/token';
    writeFileSync(at('etc/passwd'), `${readFileSync(at('etc/passwd'), 'utf8')}bob:x:1000:1000::/home/bob:/bin/sh\n`);
    for (const folder of ['etc/apt.conf.d', 'home', 'home/bob', 'home/bob/app']) mkdirSync(at(folder));
    for (const folder of ['home/bob', 'home/bob/app']) chownSync(at(folder), 1000, 1000);
    const declared = readFileSync(at(manifest), 'utf8');
    writeFileSync(
      at(manifest),
      `${declared}[secret.token]\ndelivery = "file"\nowner = "bob"\nlink = "/home/bob/app/token.conf"\n`,
    );
    auxcred('apply');
    assert.deepEqual(findings(), []);
    // As an earlier version left it.
    writeFileSync(store('links.json'), '["/home/bob/app/token.conf"]\n', { mode: 0o600 });
    symlinkSync(file, at('etc/apt.conf.d/token.conf'));
    fixes(only('links', 'warning', /apt\.conf\.d\/token\.conf leads to a secret's file, but nothing declares it$/), 0);
    symlinkSync(file, at('etc/apt.conf.d/token.conf'));
    renameSync(at('home/bob/app'), at('home/bob/old'));
    symlinkSync('../../etc/apt.conf.d', at('home/bob/app'));
    const [refused, led, ...others] = findings();
    assert.ok(refused?.check === 'manifest' && led?.check === 'links' && others.length === 0);
    const leads = 'home/bob/app is a symbolic link to ../../etc/apt.conf.d';
    assert.ok(refused.message.endsWith(leads), refused.message);
    assert.match(led.message, /apt\.conf\.d\/token\.conf was made where others could lead it: /);
    assert.ok(led.message.endsWith(leads), led.message);
    fixes(led, 0, {}, ['manifest']);
    const { status, stdout } = run(['check']);
    assert.equal(status, exitStatus['invalid-manifest']);
    assert.match(stdout, /error: secret\.token\.link: .+home\/bob\/app is a symbolic link to /);
  });

  test('disk, swap: what is unencrypted, by what the kernel says of devices', async () => {
    const table =
      'Filename\tType\tSize\tUsed\tPriority\n/dev/sda2 partition 1 0 -2\n/dev/zram0 partition 1 0 5\n' +
      '/dev/dm-1 partition 1 0 -3\n/swap file 1 0 -4\n';
    assert.deepEqual(
      swapsOnDisk(table, (device) => device === '/dev/dm-1'),
      ['/dev/sda2', '/swap'],
    );
    assert.deepEqual(
      swapsOnDisk('Filename\tType\n', () => false),
      [],
    );
    // /sys/dev/block as for a volume on LUKS, one on a plain disk, and one on both.
    const device = (name: string, id: string, ...below: string[]): string => {
      mkdirSync(at(`sys/${name}/slaves`), { recursive: true });
      if (id !== '') {
        mkdirSync(at(`sys/${name}/dm`));
        writeFileSync(at(`sys/${name}/dm/uuid`), id);
      }
      for (const one of below) symlinkSync(at(`sys/${one}`), at(`sys/${name}/slaves/${one}`));
      return at(`sys/${name}`);
    };
    const readable = new ReadableFiles();
    const [disk, luks] = [device('sda', ''), device('dm-0', 'CRYPT-LUKS2-0-root')];
    assert.deepEqual(
      [
        disk,
        luks,
        device('dm-1', 'LVM-a', 'dm-0'),
        device('dm-2', 'LVM-b', 'sda'),
        device('dm-3', 'LVM-c', 'dm-0', 'sda'),
        at('sys/none'),
      ].map((path) => isEncryptedDevice(readable, path)),
      [false, true, true, false, false, undefined],
    );

    const health = await lookAt(
      at(''),
      (paths) => ({ keys: { ssh: paths.sshHostKey, age: undefined }, device: undefined }),
      { open: true },
    );
    const system = {
      broker: { units: [], lastRefusal: undefined },
      units: [],
      rendered: { hasGenerator: true, outdated: [] },
      volatile: [],
      swaps: ['/dev/sda2'],
      onEncryptedDisk: false,
    };
    const notes = findingsOf({ ...health, system }).filter(({ level }) => level === 'note');
    assert.deepEqual(
      notes.map(({ check, mend }) => [check, mend.length]),
      [
        ['disk', 1],
        ['swap', 1],
      ],
    );
    assert.deepEqual(
      findingsOf({ ...health, platform: { ...health.platform, node: '20.18.0', nodeIsTooOld: true } })
        .filter(({ level }) => level !== 'ok')
        .map(({ check }) => check),
      ['node'],
    );
  });
});
