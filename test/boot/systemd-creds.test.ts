import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import { auxcredMachine, firmware, manifestPath, nameTpm, secretToml } from '../auxcred-machine.ts';
import { cannotBoot, type Machine } from '../machine/machine.ts';
import { alikeOn, systemdVersions } from '../machine/root.ts';
import { forgetProbes, probed, writeProbeUnit } from '../machine/units.ts';
import { entry, makeSigner } from '../tpm2/policies.ts';

/** A machine with a unit before sysinit.target and one after, switched off and without a seed. */
async function unsealed(options: Parameters<typeof auxcredMachine>[0], more = ''): Promise<Machine> {
  const machine = await auxcredMachine(options);
  await writeProbeUnit(machine, 'a.service', { unit: ['StartLimitIntervalSec=0'] });
  await writeProbeUnit(machine, 'early.service', {
    unit: ['DefaultDependencies=no', 'Before=sysinit.target', 'After=local-fs.target systemd-tmpfiles-setup.service'],
    install: ['WantedBy=sysinit.target'],
  });
  await machine.write(
    manifestPath('web'),
    secretToml('key', ['a.service']) +
      secretToml('key-early', ['early.service']) +
      secretToml('key-stored', ['a.service'], { delivery: 'credstore' }) +
      more,
  );
  await machine.run(['systemctl', 'enable', 'a.service', 'early.service']);
  return machine;
}

const got = async (machine: Machine, unit: string, id: string): Promise<string | undefined> =>
  (await probed(machine, unit))?.[id]?.toString();
const told = async (machine: Machine): Promise<string> =>
  (await machine.run(['journalctl', '-b', '-p', 'info', '--no-pager'])).stdout
    .split('\n')
    .filter((line) => /auxcred|redential/.test(line))
    .join('\n');

async function startsAfresh(machine: Machine): Promise<number> {
  await machine.run(['systemctl', 'stop', 'a.service', 'auxcred.service'], { check: false });
  await machine.run(['systemctl', 'reset-failed'], { check: false });
  await forgetProbes(machine);
  return (await machine.run(['systemctl', 'start', 'a.service'], { check: false })).status;
}

for (const version of systemdVersions) {
  describe(`a seed under systemd-creds on systemd ${version}`, { skip: cannotBoot }, () => {
    const alike = alikeOn(version);
    let machine: Machine;
    before(async () => {
      machine = await unsealed(
        { systemd: version, name: 'web1' },
        secretToml('key-file', ['a.service'], { delivery: 'file' }),
      );
      // As an installer does it: from another system, with the new system's systemd.
      for (const args of [['seal', '--with-key=systemd-creds', '--creds-key=host', '--no-recovery'], ['apply']]) {
        const { status, stderr } = spawnSync(
          process.execPath,
          ['dist/auxcred.cjs', ...args, `--root=${machine.root}`],
          { encoding: 'utf8', env: { PATH: process.env['PATH'] } },
        );
        assert.equal(status, 0, stderr);
        if (args[0] === 'seal') assert.match(stderr, /sealed the seed of host\/web1 to systemd-creds \(host\)/);
      }
      await machine.boot();
    });
    after(async () => {
      await machine?.destroy();
    });

    test('units have their secrets at boot, early ones too', async () => {
      assert.equal(
        (await machine.run(['systemctl', '--failed', '--plain', '--no-legend'])).stdout,
        '',
        await told(machine),
      );
      const shown = async (name: string): Promise<string> => (await machine.run(['auxcred', 'get', name])).stdout;
      assert.equal(await got(machine, 'early.service', 'key-early'), await shown('key-early'));
      assert.equal(await got(machine, 'a.service', 'key'), await shown('key'));
      assert.equal(await got(machine, 'a.service', 'key-stored'), await shown('key-stored'));
      assert.equal((await machine.read('/run/auxcred/files/key-file')).toString(), await shown('key-file'));
      assert.match((await machine.run(['auxcred', 'unseal'])).stderr, /opens with systemd-creds/);
    });

    test('the file is an age file, and systemd-creds has its identity', async () => {
      await machine.shell(`
        systemd-creds decrypt --name=sealed-host-key /var/lib/auxcred/host.cred - > /run/identity && \\
          age -d -i /run/identity /var/lib/auxcred/seeds.age | grep -q '"withKey":"systemd-creds"'
        rm /run/identity
      `);
      assert.equal((await machine.run(['stat', '-c', '%a %U', '/var/lib/auxcred/host.cred'])).stdout, '600 root\n');
    });

    alike('a change of the manifest takes effect at boot', async () => {
      await machine.write(
        manifestPath('more'),
        secretToml('more', ['a.service']) + secretToml('more-stored', ['a.service'], { delivery: 'credstore' }),
      );
      await machine.reboot();
      assert.equal(
        await got(machine, 'a.service', 'more'),
        (await machine.run(['auxcred', 'get', 'more'])).stdout,
        await told(machine),
      );
      assert.equal(
        await got(machine, 'a.service', 'more-stored'),
        (await machine.run(['auxcred', 'get', 'more-stored'])).stdout,
      );
    });

    alike('sealed again with another key, and killed at any moment, it opens', async () => {
      const key = (await machine.run(['auxcred', 'get', 'key'])).stdout;
      const ways = ['--creds-key=auto', '--with-key=host', '--with-key=systemd-creds', '--creds-key=host'];
      for (const [i, way] of ways.entries()) {
        await machine.run(['timeout', '-s', 'KILL', (0.2 + 0.1 * i).toFixed(2), 'auxcred', 'reseal', way], {
          check: false,
        });
        await machine.systemctl('daemon-reload');
        assert.equal(await startsAfresh(machine), 0, `${way}\n${await told(machine)}`);
        assert.equal(await got(machine, 'a.service', 'key'), key);
        const creds = (await machine.run(['auxcred', 'unseal'])).stderr.includes('systemd-creds');
        await machine.run([
          'auxcred',
          'reseal',
          ...(way.startsWith('--creds') && !creds ? ['--with-key=systemd-creds'] : []),
          way,
        ]);
        assert.equal(await startsAfresh(machine), 0, `${way}\n${await told(machine)}`);
        assert.match(
          (await machine.run(['auxcred', 'unseal'])).stderr,
          way === '--with-key=host' ? /opens with ssh host key/ : /opens with systemd-creds/,
        );
        assert.equal(
          (await machine.run(['test', '-e', '/var/lib/auxcred/host.cred'], { check: false })).status,
          way === '--with-key=host' ? 1 : 0,
        );
      }
    });

    alike('a run that was killed before systemd heard of its drop-in is mended by the next', async () => {
      const dropIns = '/etc/systemd/system/auxcred.service.d';
      await machine.run(['cp', '/var/lib/auxcred/host.cred', '/root/']);
      await machine.run(['auxcred', 'reseal', '--with-key=host']);
      await machine.shell(`
        mv /root/host.cred /var/lib/auxcred/
        printf '[Service]\\nLoadCredentialEncrypted=sealed-host-key:/var/lib/auxcred/host.cred\\n' > ${dropIns}/99.conf
        systemctl daemon-reload
        rm ${dropIns}/99.conf
      `);
      await machine.run(['auxcred', 'reseal']);
      assert.equal((await machine.run(['test', '-e', '/var/lib/auxcred/host.cred'], { check: false })).status, 1);
      assert.equal(await startsAfresh(machine), 0, await told(machine));
      await machine.run(['auxcred', 'reseal', '--with-key=systemd-creds', '--creds-key=host']);
    });

    test('if the key is gone, nothing starts and nothing hangs', async () => {
      await machine.shell('mv /var/lib/systemd/credential.secret /root/ && systemd-creds setup');
      const started = Date.now();
      assert.notEqual(await startsAfresh(machine), 0);
      assert.ok(Date.now() - started < 15_000);
      assert.equal(await got(machine, 'a.service', 'key'), undefined);
      assert.match((await machine.run(['auxcred', 'unseal'], { check: false })).stderr, /systemd-creds decrypt failed/);
      assert.match(
        (await machine.run(['auxcred', 'status'], { check: false })).stdout,
        /^seed +sealed to systemd-creds, .*; does not open$/m,
      );
      // A socket that triggered too often triggers nothing for two seconds (TriggerLimitIntervalSec=).
      await machine.shell('mv /root/credential.secret /var/lib/systemd/credential.secret; sleep 2.1');
      assert.equal(await startsAfresh(machine), 0, await told(machine));
    });

    test('PCRs that systemd would not bind, as it finds no TPM, are refused', async () => {
      const before = await machine.read('/var/lib/auxcred/seeds.age');
      for (const args of [
        ['seal', '--replace', '--no-recovery', '--with-key=systemd-creds', '--tpm2-pcrs=7'],
        ['reseal', '--with-key=systemd-creds', '--creds-key=auto', '--tpm2-pcrs=7'],
      ]) {
        const { status, stderr } = await machine.run(['auxcred', ...args], { check: false });
        assert.equal(status, exitStatus['no-tpm'], stderr);
        assert.match(stderr, /systemd-creds finds no TPM, so it would not bind PCR 7\n.*has-tpm2/);
      }
      assert.deepEqual(await machine.read('/var/lib/auxcred/seeds.age'), before);
    });

    test('conflicting options are refused', async () => {
      for (const [args, says] of [
        [['--creds-key=host'], /--creds-key needs systemd-creds/],
        [['--with-key=systemd-creds', '--creds-key=tpm'], /one of auto, host, tpm2, host\+tpm2/],
        [['--with-key=systemd-creds', '--creds-key=host', '--tpm2-pcrs=7'], /--tpm2-pcrs needs a TPM/],
      ] as const) {
        const { status, stderr } = await machine.run(['auxcred', 'seal', '--replace', '--no-recovery', ...args], {
          check: false,
        });
        assert.equal(status, 2);
        assert.match(stderr, says);
      }
    });
  });

  describe(`a seed under systemd-creds and a TPM on systemd ${version}`, { skip: cannotBoot }, () => {
    let machine: Machine;
    const power = firmware();
    /** systemd-creds 252 leaves its sessions in a TPM without a resource manager, which has room for three. */
    const flush = async (): Promise<void> => {
      if (version === '252')
        await machine.run(['tpm2_flushcontext', '--tcti', machine.tpm?.device ?? '', '--loaded-session']);
    };
    before(async () => {
      machine = await unsealed({ systemd: version, name: 'web1', tpm: power.start });
      await machine.boot();
      await nameTpm(machine, machine.tpm?.device ?? '');
      await machine.run([
        'auxcred',
        'seal',
        '--with-key=systemd-creds',
        '--creds-key=tpm2',
        '--tpm2-pcrs=7+14',
        `--tpm2-device=${machine.tpm?.device ?? ''}`,
        '--no-recovery',
      ]);
      await flush();
      await machine.run(['auxcred', 'apply', '--no-restart']);
      await machine.reboot();
      await flush();
    });
    after(async () => {
      await machine?.destroy();
    });

    test('systemd itself has it opened by the TPM at boot', async () => {
      assert.equal(
        await got(machine, 'a.service', 'key'),
        (await machine.run(['auxcred', 'get', 'key'])).stdout,
        await told(machine),
      );
      await flush();
      assert.equal(
        await got(machine, 'a.service', 'key-stored'),
        (await machine.run(['auxcred', 'get', 'key-stored'])).stdout,
      );
    });

    // systemd 252 leaves sessions open, and a TPM without a resource manager has room for three.
    if (version !== '252')
      test('with a public key, systemd opens it with a signature of what booted', async () => {
        const signer = makeSigner();
        const pcrs = new Map([
          [11, new Uint8Array(createHash('sha256').update(Buffer.alloc(32)).update(Buffer.alloc(32, 0xb1)).digest())],
        ]);
        const before = await got(machine, 'a.service', 'key');
        const reseal = async (...args: readonly string[]): Promise<{ status: number; stderr: string }> =>
          await machine.run(['auxcred', 'reseal', ...args], { check: false });
        await machine.write('/root/key.pem', signer.pem);
        await machine.write('/etc/systemd/tpm2-pcr-signature.json', JSON.stringify({ sha256: [entry(signer, pcrs)] }));
        assert.match(
          (await reseal('--tpm2-public-key=/root/key.pem', '--tpm2-signature=/root/signature.json')).stderr,
          /--tpm2-signature needs a seed that is sealed to the TPM by auxcred itself/,
        );
        power.tpm?.tool('tpm2_pcrextend', `11:sha256=${'b1'.repeat(32)}`);
        const { status, stderr } = await reseal('--tpm2-public-key=/root/key.pem');
        assert.equal(status, 0, stderr);
        await flush();
        power.measured[11] = ['b1'.repeat(32)];
        await machine.reboot();
        assert.equal(await got(machine, 'a.service', 'key'), before, await told(machine));
        await flush();
        power.measured[11] = ['b2'.repeat(32)];
        await machine.reboot();
        assert.equal(await got(machine, 'a.service', 'key'), undefined);
        power.measured[11] = ['b1'.repeat(32)];
        await machine.reboot();
        await flush();
      });

    test('with other measurements it stays closed', async () => {
      power.measured[14] = ['ff'.repeat(32)];
      await machine.reboot();
      assert.equal(await got(machine, 'a.service', 'key'), undefined);
      assert.match((await machine.run(['auxcred', 'unseal'], { check: false })).stderr, /systemd-creds decrypt failed/);
    });
  });
}
