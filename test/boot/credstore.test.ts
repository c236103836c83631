import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { auxcredMachine, manifestPath, secretToml } from '../auxcred-machine.ts';
import { cannotBoot, type Machine } from '../machine/machine.ts';
import { alikeOn, systemdVersions } from '../machine/root.ts';
import { forgetProbes, probed, writeProbeUnit } from '../machine/units.ts';

const store = '/etc/credstore.encrypted';

for (const version of systemdVersions)
  describe(`secrets in systemd's own store on systemd ${version}`, { skip: cannotBoot }, () => {
    const alike = alikeOn(version);
    let machine: Machine;
    const imports = version !== '252';
    const manifest = (generation = 1): string =>
      [
        secretToml('key', ['stored.service', 'tmpl@.service'], { delivery: 'credstore', generation }),
        secretToml('pair', ['stored.service'], { delivery: 'credstore', kind: 'ssh-ed25519' }),
        secretToml('key-early', ['early.service', 'systemd-journald.service'], { delivery: 'credstore' }),
        secretToml('text', ['other.service'], { delivery: 'credstore', kind: 'template', content: 'x={{asked}}' }),
        secretToml('asked', ['both.service']),
        secretToml('beside', ['both.service'], { delivery: 'credstore', kind: 'bytes', bytes: 131072 }),
        secretToml('shared.one', [], { delivery: 'credstore' }),
        secretToml('login', [], { kind: 'password' }),
        secretToml('login-hash', ['systemd-sysusers.service'], {
          kind: 'crypt',
          of: 'login',
          delivery: 'credstore',
          credential: 'passwd.hashed-password.late',
        }),
      ].join('');
    const shown = async (name: string): Promise<string> => (await machine.run(['auxcred', 'get', name])).stdout;
    const got = async (unit: string, id: string): Promise<string | undefined> =>
      (await probed(machine, unit))?.[id]?.toString();
    const files = async (): Promise<string> => (await machine.shell(`cd ${store} && sha256sum *`)).stdout;
    const fileOf = async (id: string): Promise<string> =>
      (await machine.shell(`ls ${store}/auxcred.*.${id}`)).stdout.trim().split('\n')[0] ?? '';
    const apply = async (): Promise<string> => (await machine.run(['auxcred', 'apply'])).stderr;
    const startedAt = async (unit: string): Promise<string> =>
      (await machine.properties(unit, 'ActiveEnterTimestampMonotonic'))['ActiveEnterTimestampMonotonic'] ?? '';
    const settled = async (...units: readonly string[]): Promise<void> => {
      for (const unit of units) await machine.waitFor(unit, 'active');
    };
    before(async () => {
      machine = await auxcredMachine({ systemd: version, name: 'web1' });
      for (const unit of ['stored.service', 'other.service', 'both.service', 'tmpl@.service'])
        await writeProbeUnit(machine, unit, {
          unit: ['StartLimitIntervalSec=0'],
          install: ['WantedBy=multi-user.target', ...(unit.includes('@') ? ['DefaultInstance=one'] : [])],
        });
      await writeProbeUnit(machine, 'early.service', {
        unit: [
          'DefaultDependencies=no',
          'Before=sysinit.target',
          'After=local-fs.target systemd-tmpfiles-setup.service',
        ],
        install: ['WantedBy=sysinit.target'],
      });
      await writeProbeUnit(machine, 'importing.service', { service: ['ImportCredential=shared.*'] });
      await machine.write('/etc/sysusers.d/late.conf', 'u late - "made at boot"\n');
      await machine.write(
        '/etc/systemd/system/systemd-sysusers.service.d/always.conf',
        '[Unit]\nConditionNeedsUpdate=\n',
      );
      await machine.write(manifestPath('web'), manifest());
      await machine.run(['auxcred', 'seal', '--no-recovery']);
      await apply();
      await machine.run([
        'systemctl',
        'enable',
        'stored.service',
        'other.service',
        'both.service',
        'tmpl@one.service',
        'early.service',
        'importing.service',
      ]);
      await machine.boot();
    });
    after(async () => {
      await machine?.destroy();
    });

    test('every unit started with its own secrets, early ones too', async () => {
      const failed = (await machine.run(['systemctl', '--failed', '--plain', '--no-legend'])).stdout;
      assert.equal(
        failed,
        '',
        `${failed}\n${(await machine.run(['journalctl', '-b', '-p', 'warning', '--no-pager'])).stdout}`,
      );
      for (const [unit, name] of [
        ['stored.service', 'key'],
        ['tmpl@one.service', 'key'],
        ['stored.service', 'pair'],
        ['early.service', 'key-early'],
        ['other.service', 'text'],
        ['both.service', 'asked'],
      ] as const)
        assert.equal(await got(unit, name), await shown(name), unit);
      assert.equal(
        (await got('stored.service', 'pair.pub'))?.trim(),
        (await machine.run(['auxcred', 'public', 'pair'])).stdout.trim(),
      );
      assert.equal((await probed(machine, 'both.service'))?.['beside']?.length, 131072);
      assert.deepEqual(Object.keys((await probed(machine, 'other.service')) ?? {}), ['text']);
      assert.equal(
        (await machine.shell('cat /run/credentials/systemd-journald.service/key-early')).stdout,
        await shown('key-early'),
      );
      if (imports) assert.equal(await got('importing.service', 'shared.one'), await shown('shared.one'));
      assert.equal((await machine.shell('grep ^late: /etc/shadow')).stdout.split(':')[1], await shown('login-hash'));
    });

    test('no auxcred process runs for them', async () => {
      const asked = await machine.journal('-b', 'AUXCRED_OUTCOME=released');
      assert.deepEqual(new Set(asked.map((entry) => entry['AUXCRED_CREDENTIAL'])), new Set(['asked']));
      assert.doesNotMatch((await machine.systemctl('show', '-p', 'Wants,After', 'stored.service')).stdout, /auxcred/);
    });

    test('systemd-creds decrypts them, by their ids alone', async () => {
      const file = await fileOf('text');
      assert.equal(
        (await machine.run(['systemd-creds', 'decrypt', '--name=text', file, '-'])).stdout,
        await shown('text'),
      );
      assert.notEqual(
        (await machine.run(['systemd-creds', 'decrypt', '--name=other', file, '-'], { check: false })).status,
        0,
      );
      assert.equal(
        (await machine.run(['systemd-creds', 'decrypt', `${store}/shared.one`, '-'])).stdout,
        await shown('shared.one'),
      );
      assert.equal((await machine.shell(`stat -c %a ${store}/* | sort -u`)).stdout, '600\n');
    });

    test('once more changes nothing', async () => {
      const before = await files();
      const started = await startedAt('stored.service');
      assert.match(await apply(), /already active/);
      assert.equal(await files(), before);
      assert.equal(await startedAt('stored.service'), started);
    });

    test('a changed value is encrypted again, and its units see it', async () => {
      const before = await files();
      const others = await startedAt('other.service');
      await machine.write(manifestPath('web'), manifest(2));
      assert.match(await apply(), /restart stored\.service: key \(generation 1 -> 2\)/);
      await settled('stored.service', 'tmpl@one.service');
      assert.equal(await got('stored.service', 'key'), await shown('key'));
      assert.equal(await got('tmpl@one.service', 'key'), await shown('key'));
      assert.equal(await startedAt('other.service'), others);
      const now = (await files()).split('\n');
      assert.equal(now.filter((line) => !before.includes(line)).length, 2);
    });

    alike(
      'a file that is missing, altered or under a key that is gone keeps its unit from starting until it is made again',
      async () => {
        const spoils = [
          `rm ${await fileOf('text')}`,
          `echo x > ${await fileOf('text')}`,
          'rm /var/lib/systemd/credential.secret && systemd-creds setup',
        ];
        for (const spoil of spoils) {
          await machine.shell(spoil);
          await forgetProbes(machine);
          assert.notEqual((await machine.run(['systemctl', 'restart', 'other.service'], { check: false })).status, 0);
          assert.match(
            (await machine.run(['systemctl', 'status', 'other.service'], { check: false })).stdout,
            /status=243\/CREDENTIALS|Failed at step CREDENTIALS/,
            spoil,
          );
          const { stdout: said } = await machine.run(['auxcred', 'doctor'], { check: false });
          assert.match(said, /^warning: .*\btext of other\.service.* missing or altered where it is read \[stale\]$/m);
          assert.match(
            said,
            /^problem: other\.service did not .*\n +the file .* did not decrypt\n +\$ auxcred provision && .*other/m,
            'the broker has no part in it',
          );
          assert.match(
            (await machine.run(['auxcred', 'plan'])).stdout,
            /^other\.service +text +rewritten, since it was missing or altered +restart$/m,
          );
          await apply();
          await machine.run(['systemctl', 'restart', 'other.service']);
          assert.equal(await got('other.service', 'text'), await shown('text'), spoil);
        }
        assert.match((await machine.run(['auxcred', 'provision'])).stderr, /nothing to do/);
      },
    );

    alike('a run that is killed at any moment is mended by the next', async () => {
      for (let generation = 3; generation < 11; generation++) {
        await machine.write(manifestPath('web'), manifest(generation));
        await machine.run(
          [
            'timeout',
            '-s',
            'KILL',
            (0.12 + 0.06 * (generation - 3)).toFixed(2),
            'auxcred',
            'provision',
            '--no-restart',
          ],
          { check: false },
        );
        await machine.run(['auxcred', 'provision', '--no-restart']);
        assert.equal(
          (await machine.run(['systemd-creds', 'decrypt', '--name=key', await fileOf('key'), '-'])).stdout,
          await shown('key'),
        );
      }
      assert.equal((await machine.shell(`ls -A ${store} | wc -l`)).stdout.trim(), '10');
    });

    test("another seed makes all of them again, and mistakes no file for somebody else's", async () => {
      const before = (await files()).split('\n').filter((line) => line !== '');
      await machine.run(['auxcred', 'seal', '--replace', '--no-recovery']);
      await apply();
      assert.equal((await files()).split('\n').filter((line) => before.includes(line)).length, 0);
      assert.equal(
        (await machine.run(['systemd-creds', 'decrypt', `${store}/shared.one`, '-'])).stdout,
        await shown('shared.one'),
      );
    });

    test('a file of somebody else is left alone', async () => {
      await machine.write(`${store}/mine`, 'theirs');
      await machine.write(manifestPath('more'), secretToml('mine', [], { delivery: 'credstore' }));
      for (const args of [['plan'], ['apply']]) {
        const { status, stderr } = await machine.run(['auxcred', ...args], { check: false });
        assert.equal(status, 5);
        assert.match(stderr, /credstore\.encrypted\/mine exists, and was not made by auxcred/);
      }
      assert.equal((await machine.read(`${store}/mine`)).toString(), 'theirs');
      await machine.run(['rm', manifestPath('more')]);
    });

    test('the first boot of an image makes them, and the key that they are under', async () => {
      await machine.write(
        manifestPath('web'),
        secretToml('text', ['other.service'], { delivery: 'credstore', kind: 'uuid' }),
      );
      await machine.run(['rm', '/var/lib/systemd/credential.secret']);
      await forgetProbes(machine);
      await machine.reboot();
      assert.equal(
        await got('other.service', 'text'),
        await shown('text'),
        (await machine.run(['journalctl', '-b', '-u', 'auxcred-provision.service', '-o', 'cat', '--no-pager'])).stdout,
      );
    });

    test('what is no longer declared is removed, and nothing else', async () => {
      await machine.write(
        manifestPath('web'),
        secretToml('text', ['other.service'], { delivery: 'credstore', kind: 'uuid' }),
      );
      await apply();
      assert.equal(
        (await machine.shell(`ls -A ${store}`)).stdout.replace(/[0-9a-f]{32}/, 'HASH'),
        'auxcred.HASH.text\nmine\n',
      );
      await machine.run(['rm', manifestPath('web')]);
      await apply();
      assert.equal((await machine.shell(`ls -A ${store}; ls /var/lib/auxcred`)).stdout.includes('auxcred'), false);
    });
  });
