import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { auxcredMachine, firmware, manifestPath, secretToml } from '../auxcred-machine.ts';
import { cannotBoot, type Machine } from '../machine/machine.ts';
import { thoroughVersions } from '../machine/root.ts';
import { forgetProbes, probed, writeProbeUnit } from '../machine/units.ts';

const pcrOfInstaller = 'cc'.repeat(32);

for (const version of thoroughVersions)
  describe(`an installation's first boot on systemd ${version}`, { skip: cannotBoot }, () => {
    let machine: Machine;
    const power = firmware();
    let isAway = false;
    const key = async (): Promise<string | undefined> => (await probed(machine, 'a.service'))?.['key-a']?.toString();
    const told = async (unit: string): Promise<string> =>
      (await machine.run(['journalctl', '-b', '-u', unit, '-o', 'cat', '--no-pager'])).stdout;
    const reboot = async (): Promise<string> => {
      await forgetProbes(machine);
      return await machine.reboot();
    };
    before(async () => {
      machine = await auxcredMachine({
        systemd: version,
        name: 'web1',
        tpm: async (folder) => {
          const tpm = await power.start(folder);
          if (isAway) await tpm.stop();
          return tpm;
        },
      });
      await writeProbeUnit(machine, 'a.service', { install: ['WantedBy=multi-user.target'] });
      await machine.write(
        manifestPath('web'),
        secretToml('key-a', ['a.service']) + secretToml('key-b', ['a.service'], { delivery: 'credstore' }),
      );
      power.measured[7]?.push(pcrOfInstaller);
      await machine.boot();
    });
    after(async () => {
      await machine?.destroy();
    });

    let installed = '';
    test('the installer seals without its own measurements', async () => {
      await machine.shell('mount --bind / /mnt');
      const { stderr } = await machine.run([
        'auxcred',
        'seal',
        '--root=/mnt',
        '--with-key=tpm2',
        '--tpm2-pcrs=7+14',
        '--no-recovery',
        `--tpm2-device=${machine.tpm?.device ?? ''}`,
        `--installed-tpm2-device=${machine.tpm?.device ?? ''}`,
      ]);
      assert.match(stderr, /sealed the seed of host\/web1 to its TPM, without PCRs until the first boot binds 7\+14/);
      await machine.run(['auxcred', 'apply', '--root=/mnt']);
      await machine.shell('umount /mnt; systemctl enable a.service');
      installed = (await machine.read('/var/lib/auxcred/seeds.age')).toString('hex');
      power.measured[7]?.pop();
    });

    test('a first boot without the TPM binds nothing, and fails visibly', async () => {
      isAway = true;
      assert.equal(await reboot(), 'degraded');
      isAway = false;
      assert.equal(
        (await machine.properties('auxcred-bind.service', 'ActiveState'))['ActiveState'],
        'failed',
        await told('auxcred-bind.service'),
      );
      assert.match(await told('auxcred-bind.service'), /the TPM at swtpm:path=\S+ can't be opened/);
      assert.equal((await machine.read('/var/lib/auxcred/seeds.age')).toString('hex'), installed);
      assert.equal(await key(), undefined);
    });

    test('the next one binds the seed to its measurements, while a broker opens it', async () => {
      assert.equal(await reboot(), 'running', `${await told('auxcred-bind.service')}${await told('auxcred.service')}`);
      assert.match(
        await told('auxcred-bind.service'),
        /sealed the seed of host\/web1 to its TPM with PCR 7\+14.*\n(?:.*\n)*auxcred: PCR 7\+14 are bound to this boot's values/,
      );
      assert.match((await machine.run(['auxcred', 'unseal', '--json'])).stdout, /"pcrs":\s*\[\s*7,\s*14\s*\]/);
      assert.equal((await machine.run(['test', '-e', '/var/lib/auxcred/unbound'], { check: false })).status, 1);
      assert.match((await key()) ?? '', /^[0-9a-f]{64}$/);
      assert.equal(await key(), (await machine.run(['auxcred', 'get', 'key-a'])).stdout.trim());
      assert.match(await told('auxcred-bind.service'), /re-encrypted 1 credential in \/etc\/credstore\.encrypted$/m);
      assert.match((await machine.run(['auxcred', 'provision'])).stderr, /nothing to do/);
    });

    test('and no other boot does', async () => {
      const before = (await machine.read('/var/lib/auxcred/seeds.age')).toString('hex');
      const same = await key();
      assert.equal(await reboot(), 'running');
      assert.equal((await machine.properties('auxcred-bind.service', 'ConditionResult'))['ConditionResult'], 'no');
      assert.equal((await machine.read('/var/lib/auxcred/seeds.age')).toString('hex'), before);
      assert.equal(await key(), same);
      power.measured[14]?.push(pcrOfInstaller);
      assert.equal(await reboot(), 'degraded');
      assert.equal(await key(), undefined);
      assert.match(await told('auxcred.service'), /did not boot as it did when it was sealed: PCR 14 \(/);
    });

    test('it is as sandboxed as it can be', async () => {
      const { stdout } = await machine.run(['systemd-analyze', 'security', '--no-pager', 'auxcred-bind.service'], {
        check: false,
      });
      assert.ok(Number(/exposure level for auxcred-bind\.service: ([0-9.]+)/.exec(stdout)?.[1]) < 4, stdout);
    });
  });
