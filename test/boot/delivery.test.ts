import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { auxcredMachine, manifestPath, secretToml } from '../auxcred-machine.ts';
import { cannotBoot, type Machine } from '../machine/machine.ts';
import { alikeOn, systemdVersions } from '../machine/root.ts';
import { forgetProbes, probed, writeProbeUnit } from '../machine/units.ts';

const hexSecret = /^[0-9a-f]{64}$/;
/** Every kind that is made from the seed alone. */
const kinds = [
  'password',
  'passphrase',
  'hex',
  'base64',
  'bytes',
  'uuid',
  'ssh-ed25519',
  'wireguard',
  'wireguard-psk',
  'age',
  'ed25519',
  'x25519',
  'ec-p256',
];
const text = (value: Buffer | undefined): string => value?.toString('latin1') ?? '';

for (const version of systemdVersions)
  describe(`delivery on systemd ${version}`, { skip: cannotBoot }, () => {
    const alike = alikeOn(version);
    let machine: Machine;
    const probeOptions = { steps: ['ExecStartPre', 'ExecStart', 'ExecStartPost'] as const, service: [] as string[] };
    const longUnit = `${'long-'.repeat(18)}name.service`;
    const escaped = 'srv-data\\x2dset.service';
    before(async () => {
      machine = await auxcredMachine({ systemd: version, name: 'web1' });
      await writeProbeUnit(machine, 'a.service', probeOptions);
      await writeProbeUnit(machine, 'b.service', {});
      await writeProbeUnit(machine, 'simple.service', { service: ['Type=simple'] });
      await writeProbeUnit(machine, 'dynamic.service', {
        service: ['DynamicUser=yes', 'PrivateTmp=yes', 'ReadWritePaths=/run/probe'],
      });
      await writeProbeUnit(machine, 'several.service', {
        service: ['ExecStartPre=/bin/true', 'ExecStartPre=/bin/true', 'ExecStartPre=/bin/true'],
        steps: ['ExecStartPre', 'ExecStart'],
      });
      await writeProbeUnit(machine, 'tmpl@.service', {
        install: ['WantedBy=multi-user.target', 'DefaultInstance=one'],
      });
      await writeProbeUnit(machine, longUnit, {});
      await writeProbeUnit(machine, escaped, {});
      await writeProbeUnit(machine, 'early.service', {
        unit: [
          'DefaultDependencies=no',
          'Before=sysinit.target',
          'After=local-fs.target systemd-tmpfiles-setup.service',
        ],
        install: ['WantedBy=sysinit.target'],
      });
      await writeProbeUnit(machine, 'none.service', {});
      await writeProbeUnit(machine, 'kinds.service', {});
      await machine.write(
        manifestPath('web'),
        [
          secretToml('key-a', ['a.service']),
          secretToml('key-b', ['b.service']),
          secretToml('key-simple', ['simple.service']),
          secretToml('key-dynamic', ['dynamic.service'], { kind: 'password' }),
          secretToml('key-several', ['several.service']),
          secretToml('key-template', ['tmpl@.service']),
          secretToml('key-early', ['early.service']),
          secretToml('key-long', [longUnit], { delivery: 'stage' }),
          secretToml('key-escaped', [escaped]),
          secretToml('key-staged', ['a.service'], { delivery: 'stage', kind: 'uuid' }),
          secretToml('big', ['b.service'], { kind: 'bytes', bytes: 131072 }),
          ...kinds.map((kind) => secretToml(kind, ['kinds.service'], { kind })),
          secretToml('wifi', ['kinds.service'], { kind: 'fixed' }),
          secretToml('api', ['kinds.service'], { kind: 'vault', vault: 'script', path: 'web/api' }),
          secretToml('hash', ['kinds.service'], { kind: 'crypt', of: 'password' }),
          secretToml('old', ['kinds.service'], { rotate: 'yearly', previous: true }),
          secretToml('text', ['kinds.service'], {
            kind: 'template',
            content:
              'a={{password}} b={{wireguard.public}} c={{hash | json}} d={{old.previous | base64}} e={{wifi}} f={{api | url}}\n',
          }),
        ].join(''),
      );
      await machine.run(['auxcred', 'seal', '--no-recovery']);
      await machine.write(
        '/etc/auxcred/vault.toml',
        '[vault.script]\nget = ["printf", "%s of %s", "{name}", "{host}"]\n',
      );
      await machine.shell('printf "hunter2\\001" | auxcred put wifi && auxcred fetch');
      const applied = await machine.run(['auxcred', 'apply']);
      assert.match(applied.stderr, /credentials now active/);
      await machine.run([
        'systemctl',
        'enable',
        'a.service',
        'b.service',
        'simple.service',
        'dynamic.service',
        'several.service',
        'tmpl@one.service',
        'tmpl@two\\x2dthree.service',
        longUnit,
        escaped,
        'early.service',
        'none.service',
        'kinds.service',
      ]);
      await machine.boot();
    });
    after(async () => {
      await machine?.destroy();
    });

    test('every unit started with its own secret', async () => {
      const failed = (await machine.run(['systemctl', '--failed', '--plain', '--no-legend'])).stdout;
      assert.equal(
        failed,
        '',
        `${failed}\n${(await machine.run(['journalctl', '-b', '-u', 'auxcred.service', '--no-pager'])).stdout}`,
      );
      for (const [unit, id] of [
        ['a.service', 'key-a'],
        ['b.service', 'key-b'],
        ['simple.service', 'key-simple'],
        ['several.service', 'key-several'],
        ['early.service', 'key-early'],
        [longUnit, 'key-long'],
        [escaped, 'key-escaped'],
        ['tmpl@one.service', 'key-template'],
        ['tmpl@two\\x2dthree.service', 'key-template'],
      ] as const) {
        const got = await probed(machine, unit);
        assert.match(text(got?.[id]), hexSecret, `${unit}: ${id}`);
      }
      assert.match(text((await probed(machine, 'dynamic.service'))?.['key-dynamic']), /^[0-9A-Za-z]{32}$/);
      assert.match(text((await probed(machine, 'a.service'))?.['key-staged']), /^[0-9a-f-]{36}$/);
    });

    test('a running unit with an escape in its name is restarted', async () => {
      const before = text((await probed(machine, escaped))?.['key-escaped']);
      await machine.shell(`sed -i '/"key-escaped"/a generation = 2' ${manifestPath('web')}`);
      const { stderr } = await machine.run(['auxcred', 'apply']);
      assert.match(stderr, /^auxcred: restart srv-data\\x2dset\.service: key-escaped /m);
      const after = text((await probed(machine, escaped))?.['key-escaped']);
      assert.match(after, hexSecret);
      assert.notEqual(after, before);
    });

    test('an instance with a secret of its own has that of its template too, and is restarted for both', async () => {
      const unit = 'tmpl@one.service';
      await machine.write(manifestPath('one'), secretToml('key-one', [unit], { change: 'reload' }));
      await machine.run(['auxcred', 'apply']);
      // Where systemd can, the running one was only reloaded.
      await machine.systemctl('restart', unit);
      assert.deepEqual(Object.keys((await probed(machine, unit)) ?? {}).sort(), ['key-one', 'key-template']);
      const before = text((await probed(machine, unit))?.['key-template']);
      await machine.shell(`
        sed -i '/"key-template"/a generation = 2' ${manifestPath('web')}
        sed -i '/"key-one"/a generation = 2' ${manifestPath('one')}
      `);
      const { stderr } = await machine.run(['auxcred', 'apply']);
      assert.match(stderr, /^auxcred: restart tmpl@one\.service: key-template /m);
      assert.notEqual(text((await probed(machine, unit))?.['key-template']), before);
      assert.doesNotMatch((await machine.run(['auxcred', 'doctor'], { check: false })).stdout, /overrides/);
      await machine.shell(`rm ${manifestPath('one')}; auxcred apply`);
    });

    test('who writes the environment of a unit does not become root while its secret is staged', async () => {
      await machine.shell(
        [
          'useradd mallory; mkdir /srv/mallory; chown mallory /srv/mallory; cd /srv/mallory',
          "echo \"require('fs').writeFileSync('/srv/mallory/ran', String(process.getuid()))\" > run.cjs",
          "printf '%s\\n' NODE_OPTIONS=--require=/srv/mallory/run.cjs NODE_V8_COVERAGE=/srv/mallory/written > env",
          "printf '%s\\n' LD_DEBUG=files LD_DEBUG_OUTPUT=/srv/mallory/linked >> env",
          'chown mallory *',
        ].join('\n'),
      );
      await machine.write(
        '/etc/systemd/system/a.service.d/10-user.conf',
        '[Service]\nUser=mallory\nEnvironmentFile=/srv/mallory/env\n',
      );
      await machine.systemctl('daemon-reload');
      await machine.shell('rm -r /run/probe/a.service');
      await machine.systemctl('restart', 'a.service');
      assert.match(text((await probed(machine, 'a.service'))?.['key-staged']), /^[0-9a-f-]{36}$/);
      assert.equal((await machine.run(['ls', '/srv/mallory'])).stdout, 'env\nrun.cjs\n');
      await machine.shell(`
        rm /etc/systemd/system/a.service.d/10-user.conf
        systemctl daemon-reload
        rm -r /run/probe/a.service
        systemctl restart a.service
      `);
    });

    test('no unit gets anything beyond its own', async () => {
      assert.deepEqual(Object.keys((await probed(machine, 'a.service')) ?? {}).sort(), ['key-a', 'key-staged']);
      assert.deepEqual(Object.keys((await probed(machine, 'b.service')) ?? {}).sort(), ['big', 'key-b']);
      assert.equal(await probed(machine, 'none.service'), undefined);
      const values = await Promise.all(
        ['a.service', 'b.service', 'simple.service', 'several.service', 'early.service'].map(async (unit) =>
          text(Object.values((await probed(machine, unit)) ?? {})[0]),
        ),
      );
      assert.equal(new Set(values).size, values.length);
    });

    test('a secret of 128 KiB arrives whole', async () => {
      assert.equal((await probed(machine, 'b.service'))?.['big']?.length, 131072);
    });

    alike('every kind arrives as the commands show it, with its public half and its previous value', async () => {
      const got = (await probed(machine, 'kinds.service')) ?? {};
      const shown = async (...args: readonly string[]): Promise<string> =>
        (await machine.run(['auxcred', ...args])).stdout;
      for (const id of [...kinds.filter((kind) => kind !== 'bytes'), 'hash', 'old', 'text', 'wifi', 'api'])
        assert.equal(got[id]?.toString(), await shown('get', id), id);
      for (const id of ['ssh-ed25519', 'wireguard', 'age', 'ed25519', 'x25519', 'ec-p256'])
        assert.equal(`${got[`${id}.pub`]?.toString().trimEnd() ?? ''}\n`, await shown('public', id), id);
      assert.match(text(got['hash']), /^\$y\$j9T\$/);
      assert.notEqual(text(got['old.previous']), text(got['old']));
      assert.equal(
        text(got['text']),
        `a=${text(got['password'])} b=${text(got['wireguard.pub'])} c="${text(got['hash'])}" ` +
          `d=${got['old.previous']?.toString('base64') ?? ''} e=hunter2\x01 f=web%2Fapi%20of%20\n`,
      );
      assert.equal(Object.keys(got).length, kinds.length + 6 + 6);
    });

    test('each step of a start sees the same secret', async () => {
      const [pre, start, post] = await Promise.all(
        probeOptions.steps.map(async (step) => await probed(machine, 'a.service', step)),
      );
      assert.deepEqual(pre?.['key-a'], start?.['key-a']);
      assert.deepEqual(post?.['key-a'], start?.['key-a']);
      assert.deepEqual(
        (await probed(machine, 'several.service', 'ExecStartPre'))?.['key-several'],
        (await probed(machine, 'several.service'))?.['key-several'],
      );
    });

    test('instances of a template share their secret', async () => {
      assert.deepEqual(
        (await probed(machine, 'tmpl@one.service'))?.['key-template'],
        (await probed(machine, 'tmpl@two\\x2dthree.service'))?.['key-template'],
      );
    });

    test('the unit before sysinit.target did start before it', async () => {
      const early = await machine.properties('early.service', 'ActiveEnterTimestampMonotonic');
      const sysinit = await machine.properties('sysinit.target', 'ActiveEnterTimestampMonotonic');
      assert.ok(Number(early['ActiveEnterTimestampMonotonic']) < Number(sysinit['ActiveEnterTimestampMonotonic']));
    });

    test('secrets are the same after a restart and after a reboot', async () => {
      const first = await probed(machine, 'a.service');
      await forgetProbes(machine);
      await machine.systemctl('restart', 'a.service');
      assert.deepEqual(await probed(machine, 'a.service'), first);
      await machine.reboot();
      assert.deepEqual(await probed(machine, 'a.service'), first);
    });

    test('staged secrets are gone when their unit stops', async () => {
      const staged = async (): Promise<string> =>
        (await machine.shell('ls /run/credstore 2>/dev/null | grep -c key-staged || true')).stdout.trim();
      assert.equal(await staged(), '1');
      assert.equal((await machine.shell('stat -c %a,%U /run/credstore/*key-staged')).stdout.trim(), '600,root');
      await machine.systemctl('stop', 'a.service');
      assert.equal(await staged(), '0');
      await machine.systemctl('start', 'a.service');
    });

    test('the journal has a record of each release, with fields, and never a value', async () => {
      const released = await machine.journal('-b', 'AUXCRED_OUTCOME=released', 'AUXCRED_UNIT=b.service');
      const entry = released.find((candidate) => candidate['AUXCRED_CREDENTIAL'] === 'key-b');
      assert.ok(entry);
      assert.equal(entry['AUXCRED_REALM'], 'host/web1 hex key-b');
      assert.equal(entry['AUXCRED_GENERATION'], '1');
      assert.equal(entry['_SYSTEMD_UNIT'], 'auxcred.service');
      const value = text((await probed(machine, 'b.service'))?.['key-b']);
      assert.ok(!(await machine.run(['journalctl', '-b', '-o', 'export', '--no-pager'])).stdout.includes(value));
    });

    test('a broker that read the old snapshot just before a change no longer serves it', async () => {
      await machine.shell(`
        systemctl stop auxcred.service
        mkdir -p /run/systemd/system/auxcred.service.d
        printf "[Service]\\nExecStartPost=+/bin/sleep 8\\n" > /run/systemd/system/auxcred.service.d/slow.conf
        systemctl daemon-reload
        systemctl restart b.service
      `);
      assert.equal((await machine.properties('auxcred.service', 'ActiveState'))['ActiveState'], 'activating');
      await machine.write(manifestPath('next'), secretToml('key-next', ['b.service']));
      await machine.run(['auxcred', 'apply']);
      await machine.waitFor('b.service', 'active');
      assert.equal(
        text((await probed(machine, 'b.service'))?.['key-next']),
        (await machine.run(['auxcred', 'get', 'key-next'])).stdout,
      );
      await machine.shell(`
        rm /run/systemd/system/auxcred.service.d/slow.conf ${manifestPath('next')}
        systemctl daemon-reload
        auxcred apply
      `);
    });

    alike('hundreds of units at once', async () => {
      const units = Array.from({ length: 200 }, (_, i) => `many-${String(i)}.service`);
      await machine.write(
        '/usr/local/lib/many',
        '#!/bin/sh\nmkdir -p /run/many; cat "$CREDENTIALS_DIRECTORY/many" > "/run/many/$1"\n',
        0o755,
      );
      await machine.shell(`
        for i in $(seq 0 199); do
          printf '[Service]\\nType=oneshot\\nRemainAfterExit=yes\\nExecStart=/usr/local/lib/many %%n\\n' \\
            > /etc/systemd/system/many-$i.service
        done
      `);
      await machine.write(manifestPath('many'), secretToml('many', units));
      await machine.run(['auxcred', 'apply']);
      await machine.run(['systemctl', 'start', ...units], { timeoutMs: 120_000 });
      const lengths = (await machine.shell('cd /run/many && wc -c * | grep -c " *64 many-"')).stdout.trim();
      assert.equal(lengths, '200');
      assert.equal((await machine.shell('cat /run/many/* | fold -w 64 | sort -u | wc -l')).stdout.trim(), '1');
    });
  });
