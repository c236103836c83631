import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { auxcredMachine, manifestPath, secretToml } from '../auxcred-machine.ts';
import { cannotBoot, type Machine } from '../machine/machine.ts';
import { alikeOn, thoroughVersions } from '../machine/root.ts';
import { writeProbeUnit } from '../machine/units.ts';

const folder = '/run/auxcred/files';

// 254 does nothing of this in a way of its own.
for (const version of thoroughVersions)
  describe(`secrets as files on systemd ${version}`, { skip: cannotBoot }, () => {
    const alike = alikeOn(version);
    let machine: Machine;
    const manifest = (generation = 1): string =>
      [
        secretToml('db', ['reader.service'], {
          delivery: 'file',
          owner: 'daemon',
          group: 'adm',
          mode: '0440',
          link: '/etc/db/password',
          generation,
        }),
        secretToml('pair', [], { delivery: 'file', kind: 'ssh-ed25519', link: '/etc/deploy/key' }),
        secretToml('text', ['other.service'], {
          delivery: 'file',
          kind: 'template',
          content: 'p={{wifi}} q={{db}}\n',
          owner: '65534',
        }),
        secretToml('wifi', [], { kind: 'fixed' }),
        secretToml('login', [], { weak: true, kind: 'password', length: 12 }),
        secretToml('login-hash', ['systemd-sysusers.service', 'early.service'], {
          delivery: 'file',
          kind: 'crypt',
          of: 'login',
          'needed-for': 'users',
        }),
      ].join('');
    /** In a folder that a user owns. */
    const bobs = secretToml('bobs', [], { delivery: 'file', owner: 'bob', link: '/home/bob/app/secret.conf' });
    const shown = async (name: string): Promise<string> => (await machine.run(['auxcred', 'get', name])).stdout;
    const stat = async (id: string): Promise<string> =>
      (await machine.run(['stat', '-c', '%a %U %G %s', `${folder}/${id}`])).stdout.trim();
    const startedAt = async (unit: string): Promise<number> =>
      Number((await machine.properties(unit, 'ActiveEnterTimestampMonotonic'))['ActiveEnterTimestampMonotonic']);
    const apply = async (): Promise<string> => (await machine.run(['auxcred', 'apply'])).stderr;
    const told = async (unit: string): Promise<string> =>
      (await machine.run(['journalctl', '-b', '-u', unit, '-o', 'cat', '--no-pager'])).stdout;
    before(async () => {
      machine = await auxcredMachine({ systemd: version, name: 'web1' });
      const copy = (name: string): string => `ExecStart=/bin/sh -c 'cat ${folder}/${name} > /run/copy-of-${name}'`;
      await writeProbeUnit(machine, 'reader.service', {
        unit: ['StartLimitIntervalSec=0'],
        service: [
          'User=daemon',
          `ExecStart=/bin/sh -c 'cat /etc/db/password > /run/reader/copy'`,
          'RuntimeDirectory=reader',
          'RuntimeDirectoryPreserve=yes',
        ],
        steps: [],
      });
      // As a file, or as a credential.
      await writeProbeUnit(machine, 'other.service', {
        service: [`ExecStart=/bin/sh -c 'cat "$\${CREDENTIALS_DIRECTORY:-${folder}}/text" > /run/copy-of-text'`],
        steps: [],
      });
      await writeProbeUnit(machine, 'early.service', {
        unit: ['DefaultDependencies=no', 'Before=systemd-sysusers.service sysinit.target'],
        service: [copy('login-hash')],
        steps: [],
        install: ['WantedBy=sysinit.target'],
      });
      // A user that sysusers creates, and who does not exist before it ran.
      await machine.write('/etc/sysusers.d/late.conf', 'u late - "made at boot"\n');
      await machine.write(
        '/etc/systemd/system/systemd-sysusers.service.d/always.conf',
        '[Unit]\nConditionNeedsUpdate=\n',
      );
      await machine.shell('useradd --create-home bob; install -d -m 755 -o bob -g bob /home/bob/app');
      await machine.write(
        manifestPath('web'),
        manifest() + secretToml('late', [], { delivery: 'file', owner: 'late' }) + bobs,
      );
      await machine.run(['auxcred', 'seal', '--no-recovery']);
      await machine.shell('printf hunter2 | auxcred put wifi');
      await apply();
      await machine.run(['systemctl', 'enable', 'reader.service', 'other.service', 'early.service']);
      await machine.boot();
    });
    after(async () => {
      await machine?.destroy();
    });

    test('every file is there with its value, owner, group and mode', async () => {
      const failed = (await machine.run(['systemctl', '--failed', '--plain', '--no-legend'])).stdout;
      assert.equal(
        failed,
        '',
        `${failed}\n${(await machine.run(['journalctl', '-b', '-p', 'warning', '--no-pager'])).stdout}`,
      );
      assert.deepEqual(
        [await stat('db'), await stat('text'), await stat('late'), await stat('pair.pub')],
        [
          '440 daemon adm 64',
          `400 nobody root ${String(Buffer.byteLength(await shown('text')))}`,
          '400 late root 64',
          `400 root root ${String((await machine.run(['auxcred', 'public', 'pair'])).stdout.trimEnd().length)}`,
        ],
      );
      for (const name of ['db', 'pair', 'text', 'late', 'login-hash'])
        assert.equal((await machine.read(`${folder}/${name}`)).toString(), await shown(name), name);
      assert.equal((await machine.read('/etc/db/password')).toString(), await shown('db'));
      assert.equal(
        (await machine.read('/etc/deploy/key.pub')).toString(),
        (await machine.read(`${folder}/pair.pub`)).toString(),
      );
      assert.equal((await machine.read('/run/reader/copy')).toString(), await shown('db'));
      assert.match((await machine.read('/run/copy-of-login-hash')).toString(), /^\$y\$/);
      assert.equal(
        (await machine.shell('stat -c "%U %N" /home/bob/app/secret.conf')).stdout.trim(),
        `bob '/home/bob/app/secret.conf' -> '${folder}/bobs'`,
      );
    });

    test('they lie in memory that is never swapped out, and nobody can list them', async () => {
      const [type = '', options = ''] = (await machine.run(['findmnt', '-n', '-o', 'FSTYPE,OPTIONS', folder])).stdout
        .trim()
        .split(/\s+/);
      assert.ok(type === 'ramfs' || (type === 'tmpfs' && options.split(',').includes('noswap')), `${type} ${options}`);
      for (const option of ['nosuid', 'nodev', 'noexec']) assert.ok(options.split(',').includes(option), options);
      assert.equal((await machine.run(['stat', '-c', '%a %U', folder])).stdout, '711 root\n');
      assert.notEqual(
        (await machine.run(['setpriv', '--reuid=daemon', '--clear-groups', 'ls', folder], { check: false })).status,
        0,
      );
      assert.notEqual(
        (await machine.run(['setpriv', '--reuid=daemon', '--clear-groups', 'cat', `${folder}/text`], { check: false }))
          .status,
        0,
      );
    });

    test('those for users come before users are created, the others before sysinit.target', async () => {
      const [early, sysusers, files, sysinit] = await Promise.all(
        ['auxcred-user-files.service', 'systemd-sysusers.service', 'auxcred-files.service', 'sysinit.target'].map(
          startedAt,
        ),
      );
      assert.ok(
        (early ?? NaN) < (sysusers ?? NaN) && (sysusers ?? NaN) < (files ?? NaN) && (files ?? NaN) < (sysinit ?? NaN),
        String([early, sysusers, files, sysinit]),
      );
      assert.ok((await startedAt('early.service')) < (sysusers ?? NaN));
    });

    test('the journal has a record of each', async () => {
      const released = await machine.journal('-b', 'AUXCRED_OUTCOME=released', 'AUXCRED_DELIVERY=file');
      assert.deepEqual(
        released.map((entry) => `${String(entry['AUXCRED_UNIT'])} ${String(entry['AUXCRED_CREDENTIAL'])}`).sort(),
        [
          ' bobs',
          ' late',
          ' pair',
          ' pair.pub',
          'early.service login-hash',
          'other.service text',
          'reader.service db',
          'systemd-sysusers.service login-hash',
        ],
      );
    });

    test('once more changes nothing', async () => {
      const inodes = async (): Promise<string> => (await machine.shell(`ls -i ${folder}`)).stdout;
      const before = await inodes();
      await apply();
      assert.equal(await inodes(), before);
    });

    test('another value is written, and its units see it', async () => {
      const others = await startedAt('other.service');
      await machine.write(manifestPath('web'), manifest(2));
      assert.match(await apply(), /restart reader\.service: db \(generation 1 -> 2\)/);
      await machine.waitFor('reader.service', 'active');
      assert.equal((await machine.read('/run/reader/copy')).toString(), await shown('db'));
      assert.ok((await startedAt('other.service')) > others);
      assert.equal((await machine.run(['test', '-e', `${folder}/late`], { check: false })).status, 1);
      assert.equal((await machine.shell('ls -A /home/bob/app')).stdout, '');
    });

    alike('a user who redirects a link gets nothing but their own files', async () => {
      const bob = ['setpriv', '--reuid=bob', '--regid=bob', '--clear-groups'];
      const aptFolder = '/etc/apt/apt.conf.d';
      const files = async (): Promise<string> => (await machine.shell(`ls -A ${aptFolder}`)).stdout;
      const before = await files();
      await machine.write(manifestPath('bob'), bobs);
      await machine.run([...bob, 'sh', '-euc', `cd /home/bob; mv app hidden; ln -s ${aptFolder} app`]);
      for (const verb of ['check', 'apply']) {
        const { status, stdout } = await machine.run(['auxcred', verb], { check: false });
        assert.equal(status, 3);
        assert.match(stdout, /secret\.bobs\.link: \/home\/bob\/app is a symbolic link to \/etc\/apt\/apt\.conf\.d/);
      }
      await machine.run([...bob, 'sh', '-euc', 'cd /home/bob; rm app; mv hidden app']);
      // Continuously, removing the link so that it is made again.
      await machine.systemctl('reset-failed');
      await machine.run([
        'systemd-run',
        '--quiet',
        '--unit=attack',
        '--property=User=bob',
        '--property=WorkingDirectory=/home/bob',
        'sh',
        '-c',
        `while :; do mv app hidden; ln -s ${aptFolder} app; rm -f app; mv hidden app; rm -f app/secret.conf; done`,
      ]);
      for (let i = 0; i < 8; i++) {
        const { status, stdout, stderr } = await machine.run(['auxcred', 'apply'], { check: false });
        assert.ok(status === 0 || status === 3 || status === 16, `${String(status)} ${stdout}${stderr}`);
        assert.equal(await files(), before);
      }
      await machine.shell('systemctl stop attack.service; systemctl reset-failed');
      // What an older version, which followed links, left behind is found.
      await machine.shell(`
        cd /home/bob
        rm -rf app hidden
        install -d -o bob -g bob app
        auxcred apply
        rm -r app
        ln -s ${aptFolder} app
        ln -s ${folder}/bobs app/secret.conf
      `);
      const { stdout: doctor } = await machine.run(['auxcred', 'doctor'], { check: false });
      assert.match(
        doctor,
        /^problem: \/etc\/apt\/apt\.conf\.d\/secret\.conf was made where others could lead it: \/home\/bob\/app is a symbolic link/m,
      );
      await machine.shell(/^ {4}\$ (rm .*secret\.conf.*)$/m.exec(doctor)?.[1] ?? 'false');
      await machine.shell(`rm ${manifestPath('bob')} /home/bob/app; auxcred apply`);
      assert.equal(await files(), before);
    });

    alike('a change of delivery alone is planned as it is applied', async () => {
      const planned = async (): Promise<{ table: string; units: string[] }> => {
        const { stdout, stderr } = await machine.run(['auxcred', 'plan']);
        return { table: stdout, units: [...stderr.matchAll(/would (restart \S+)/g)].map(([, step]) => String(step)) };
      };
      const moved = manifest(2)
        .replace(
          '[secret."text"]\nkind = "template"\ndelivery = "file"',
          '[secret."text"]\nkind = "template"\ndelivery = "credstore"',
        )
        .replace('owner = "65534"\n', '')
        .replace('mode = "0440"', 'mode = "0400"');
      for (const [text, why, steps] of [
        [moved, 'now delivered from the credential store', ['restart other.service']],
        [manifest(2), 'now delivered as a file', ['restart other.service']],
      ] as const) {
        await machine.write(manifestPath('web'), text);
        const { table, units } = await planned();
        assert.match(table, new RegExp(`^other\\.service +text +${why} +restart$`, 'm'));
        assert.match(table, /^reader\.service +db +mode 04[04]0 -> 04[04]0 *$/m);
        assert.deepEqual(units, steps);
        const stderr = await apply();
        assert.deepEqual(
          [...stderr.matchAll(/: (restart \S+): (.*)/g)].map(([, step, reason]) => [step, reason]),
          [[steps[0], `text (${why})`]],
        );
        assert.deepEqual(await planned(), { table: '', units: [] });
      }
      assert.equal((await machine.read('/run/copy-of-text')).toString(), await shown('text'));
    });

    alike('an altered file is planned to be rewritten, and is', async () => {
      await machine.shell(`echo x | tee ${folder}/text ${folder}/pair`);
      assert.match(
        (await machine.run(['auxcred', 'plan'])).stdout,
        /^other\.service +text +rewritten, since it was missing or altered +restart$/m,
      );
      const stderr = await apply();
      assert.match(stderr, /restart other\.service: text \(rewritten/);
      assert.doesNotMatch(stderr, /warning/, 'a file without units needs no ImportCredential=');
      assert.equal((await machine.read(`${folder}/text`)).toString(), await shown('text'));
      assert.match((await machine.run(['auxcred', 'plan'])).stderr, /nothing would change/);
    });

    alike('a run that is killed at any moment is mended by the next', async () => {
      for (let generation = 3; generation < 9; generation++) {
        await machine.write(manifestPath('web'), manifest(generation));
        await machine.run(
          [
            'timeout',
            '-s',
            'KILL',
            (0.12 + 0.05 * (generation - 3)).toFixed(2),
            'auxcred',
            'provision',
            '--no-restart',
          ],
          { check: false },
        );
        await machine.run(['auxcred', 'provision', '--no-restart']);
        assert.equal((await machine.read(`${folder}/db`)).toString(), await shown('db'));
      }
      assert.deepEqual((await machine.shell(`ls -A ${folder}`)).stdout.trim().split('\n'), [
        'db',
        'login-hash',
        'pair',
        'pair.pub',
        'text',
      ]);
    });

    alike('owners that are not there and links over other files are refused, and nothing changes', async () => {
      await machine.write('/etc/important', 'x');
      await machine.write(
        manifestPath('more'),
        secretToml('bad', [], { delivery: 'file', owner: 'nobody-knows', link: '/etc/important' }),
      );
      assert.equal((await machine.run(['auxcred', 'plan'], { check: false })).status, 3);
      const { status, stdout } = await machine.run(['auxcred', 'apply'], { check: false });
      assert.equal(status, 3);
      assert.match(stdout, /secret\.bad\.owner: there is no user nobody-knows on this machine/);
      assert.match(stdout, /secret\.bad\.link: \/etc\/important exists, and is not a link to auxcred's files/);
      assert.equal((await machine.read('/etc/important')).toString(), 'x');
      await machine.run(['rm', manifestPath('more')]);
    });

    alike('a store that is mounted too late for users is warned of', async () => {
      const check = async (): Promise<string> => (await machine.run(['auxcred', 'check'], { check: false })).stdout;
      assert.doesNotMatch(await check(), /file system of its own/);
      await machine.run(['mount', '-t', 'tmpfs', 'tmpfs', '/var/lib/auxcred']);
      assert.match(await check(), /warning: secret\.login-hash\.needed-for: the store is on a file system of its own/);
      await machine.run(['umount', '/var/lib/auxcred']);
    });

    alike('restarted with what provisions them, they are written from the new snapshot', async () => {
      const both = ['auxcred-provision.service', 'auxcred-files.service'];
      for (const [generation, units] of [
        [7, both],
        [8, both.toReversed()],
        [9, both.slice(0, 1)],
      ] as const) {
        await machine.write(manifestPath('web'), manifest(generation) + bobs);
        await machine.systemctl('restart', ...units);
        await machine.waitFor('auxcred-files.service', 'active');
        assert.equal((await machine.read(`${folder}/db`)).toString(), await shown('db'), units.join(' '));
      }
    });

    test('what is no longer declared is removed, with its link', async () => {
      await machine.write(
        manifestPath('web'),
        secretToml('text', ['other.service'], { delivery: 'file', kind: 'uuid' }),
      );
      await apply();
      assert.equal((await machine.shell(`ls -A ${folder}`)).stdout, 'text\n');
      assert.equal(
        (await machine.shell('ls -A /etc/db /etc/deploy; ls /var/lib/auxcred')).stdout.includes('links.json'),
        false,
      );
      assert.equal((await machine.shell('ls -A /etc/db /etc/deploy')).stdout, '/etc/db:\n\n/etc/deploy:\n');
      assert.equal(
        (await machine.systemctl('show', '-p', 'Wants', 'sysinit.target')).stdout.includes('auxcred-user-files'),
        false,
      );
    });

    test('a seed that does not open keeps their units from starting, and the journal says why', async () => {
      await machine.run(['mv', '/etc/auxcred/scopes.json', '/etc/auxcred/scopes.away']);
      await machine.reboot();
      assert.equal((await machine.properties('other.service', 'ActiveState'))['ActiveState'], 'inactive');
      assert.match(await told('other.service'), /Assertion failed|assert.*failed|AssertPathExists/i);
      assert.match(await told('auxcred-files.service'), /scopes\.json is missing/);
      await machine.run(['mv', '/etc/auxcred/scopes.away', '/etc/auxcred/scopes.json']);
      const { stdout: doctor } = await machine.run(['auxcred', 'doctor'], { check: false });
      assert.match(doctor, /^problem: auxcred-files\.service failed \[files\]$/m);
      assert.match(doctor, /other\.service/);
      await machine.run(['systemctl', 'start', 'other.service']);
      assert.equal((await machine.read('/run/copy-of-text')).toString(), await shown('text'));
    });

    test('a machine without such files starts neither unit at boot', async () => {
      await machine.run(['rm', manifestPath('web')]);
      await apply();
      assert.equal((await machine.run(['ls', '-A', folder])).stdout, '');
      await machine.reboot();
      assert.equal((await machine.properties('auxcred-files.service', 'ActiveState'))['ActiveState'], 'inactive');
      assert.equal((await machine.run(['test', '-e', folder], { check: false })).status, 1);
    });
  });
