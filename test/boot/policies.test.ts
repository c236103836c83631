import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import type { PcrValues } from '../../src/tpm2/policy.ts';
import { auxcredMachine, firmware, manifestPath, secretToml } from '../auxcred-machine.ts';
import { cannotBoot, type Machine } from '../machine/machine.ts';
import { alikeOn, thoroughVersions } from '../machine/root.ts';
import { forgetProbes, probed, writeProbeUnit } from '../machine/units.ts';
import { pcrlockIndex } from '../tpm2/pcrlock-index.ts';
import { entry, makeSigner } from '../tpm2/policies.ts';
import { pushHere, writeNoSsh } from './pushed-host.ts';

const stub = '/run/systemd/tpm2-pcr-signature.json';
const pcrlockFile = '/var/lib/systemd/pcrlock.json';

for (const version of thoroughVersions)
  describe(`a seed under a signature or a prediction on systemd ${version}`, { skip: cannotBoot }, () => {
    const alike = alikeOn(version);
    let machine: Machine;
    const power = firmware();
    const signer = makeSigner();
    const key = async (): Promise<string | undefined> => (await probed(machine, 'a.service'))?.['key-a']?.toString();
    const start = async (): Promise<number> => {
      await machine.run(['systemctl', 'stop', 'a.service', 'auxcred.service'], { check: false });
      await machine.run(['systemctl', 'reset-failed'], { check: false });
      await forgetProbes(machine);
      return (await machine.run(['systemctl', 'start', 'a.service'], { check: false })).status;
    };
    const told = async (): Promise<string> =>
      (await machine.run(['journalctl', '-b', '-u', 'auxcred.service', '-o', 'cat', '--no-pager'])).stdout;
    const pcrValue = (pcr: number): Uint8Array => {
      const said = power.tpm?.tool('tpm2_pcrread', `sha256:${String(pcr)}`) ?? '';
      return Uint8Array.from(Buffer.from(/0x([0-9A-F]{64})/.exec(said)?.[1] ?? '', 'hex'));
    };
    const eleven = (): PcrValues => new Map([[11, pcrValue(11)]]);
    const sign = async (): Promise<void> => {
      await machine.write(stub, JSON.stringify({ sha256: [entry(signer, eleven())] }));
    };
    const doctor = async (): Promise<string> => (await machine.run(['auxcred', 'doctor'], { check: false })).stdout;
    const options = (): string[] => [
      '--replace',
      '--with-key=tpm2',
      `--tpm2-device=${machine.tpm?.device ?? ''}`,
      '--no-recovery',
    ];

    before(async () => {
      machine = await auxcredMachine({ systemd: version, name: 'web1', tpm: power.start });
      power.measured[4] = ['a4'.repeat(32)];
      power.measured[11] = ['b1'.repeat(32)];
      await writeProbeUnit(machine, 'a.service', {});
      await machine.write(manifestPath('web'), secretToml('key-a', ['a.service']));
      await machine.boot();
    });
    after(async () => {
      await machine?.destroy();
    });

    test('a signed policy opens in the sandbox, with the signatures of the image that booted', async () => {
      await machine.systemctl('stop', 'auxcred.service');
      await sign();
      await machine.write('/run/systemd/tpm2-pcr-public-key.pem', signer.pem);
      const unbound = await machine.run(['auxcred', 'seal', ...options()]);
      assert.match(
        unbound.stderr,
        /booted a measured image\nauxcred: hint: --tpm2-public-key=\/run\/systemd\/tpm2-pcr-public-key\.pem/,
      );
      const { stderr } = await machine.run([
        'auxcred',
        'seal',
        ...options(),
        '--tpm2-public-key=/run/systemd/tpm2-pcr-public-key.pem',
      ]);
      assert.match(stderr, /only 1 of the three boot phases/);
      assert.match(stderr, /sealed the seed of host\/web1 to its TPM with PCR 11 as signed by [0-9a-f]{16}; key id/);
      await machine.run(['auxcred', 'apply', '--no-restart']);
      assert.match((await machine.run(['auxcred', 'status'], { check: false })).stdout, /PCR 11 as signed by/);
      assert.equal(await start(), 0, await told());
      const signed = await key();
      assert.match(signed ?? '', /^[0-9a-f]{64}$/);

      power.tpm?.tool('tpm2_pcrextend', `11:sha256=${'33'.repeat(32)}`);
      assert.notEqual(await start(), 0);
      assert.match(await told(), /PCR 11 has a value that no signature covers/);
      await sign();
      assert.equal(await start(), 0, await told());
      assert.equal(await key(), signed);
      await machine.run(['rm', stub]);
      assert.notEqual(await start(), 0);
      assert.match(await told(), /there is no signature of PCR 11/);
      assert.match(
        await doctor(),
        /problem: PCR 11 as signed by [0-9a-f]{16} does not open the seed: there is no signature of PCR 11/,
      );
      await sign();
      // The seed stays, and the policy goes.
      await machine.run(['sh', '-c', 'age-keygen -o /root/recovery.txt 2>/dev/null']);
      const recipient = (await machine.run(['age-keygen', '-y', '/root/recovery.txt'])).stdout.trim();
      await machine.run(['auxcred', 'reseal', '--no-tpm2-public-key', '--tpm2-pcrs=7', `--add-recipient=${recipient}`]);
      power.tpm?.tool('tpm2_pcrextend', `7:sha256=${'55'.repeat(32)}`);
      assert.equal((await machine.run(['auxcred', 'unseal'], { check: false })).status, 12);
      await machine.run(['auxcred', 'reseal', '--identity=/root/recovery.txt', '--add-branch']);
      assert.match((await machine.run(['auxcred', 'status'], { check: false })).stdout, /PCR 7 \(2 branches\)/);
      power.tpm?.tool('tpm2_pcrextend', `11:sha256=${'44'.repeat(32)}`);
      assert.equal(await start(), 0, await told());
      assert.equal(await key(), signed);
    });

    test('what booted is predicted by systemd-pcrlock, and read in the sandbox', async () => {
      const index = pcrlockIndex(() => power.tpm ?? assert.fail(), 0x1930e9e);
      const predict = async (...more: readonly Uint8Array[]): Promise<void> => {
        const values = new Map([4, 7].map((pcr) => [pcr, pcr === 4 ? [...more, pcrValue(pcr)] : [pcrValue(pcr)]]));
        index.predict(values);
        await machine.write(pcrlockFile, index.text(values));
      };
      index.define();
      await predict(new Uint8Array(32).fill(4));
      const sealed = await machine.run(['auxcred', 'seal', ...options(), `--tpm2-pcrlock=${pcrlockFile}`]);
      assert.match(
        sealed.stderr,
        /sealed the seed of host\/web1 to its TPM with what systemd-pcrlock predicted; key id/,
      );
      await machine.run(['auxcred', 'apply', '--no-restart']);
      assert.equal(await start(), 0, await told());
      const predicted = await key();
      assert.match(predicted ?? '', /^[0-9a-f]{64}$/);

      power.tpm?.tool('tpm2_pcrextend', `4:sha256=${'44'.repeat(32)}`);
      assert.notEqual(await start(), 0);
      assert.match(await told(), /systemd-pcrlock did not predict what booted: PCR 4/);
      assert.match(
        await doctor(),
        /predicted by systemd-pcrlock \(0x1930e9e\) does not open the seed: .*did not predict/,
      );
      await predict();
      assert.equal(await start(), 0, await told());
      assert.equal(await key(), predicted);

      // The other way stays closed, and says so.
      await sign();
      const both = await machine.run([
        ...['auxcred', 'reseal', '--tpm2-public-key=/run/systemd/tpm2-pcr-public-key.pem'],
      ]);
      assert.match(both.stderr, /any one of these opens the seed/);
      assert.doesNotMatch(both.stderr, /could not be tried/);
      index.define();
      await machine.run(['systemctl', 'stop', 'auxcred.service']);
      assert.match(await doctor(), /warning: PCR 4\+7 as predicted .*NV index 0x1930e9e is not the one/);
      assert.equal(await start(), 0, await told());
      await machine.run(['rm', stub]);
      await predict();
      assert.equal((await machine.run(['auxcred', 'unseal'])).status, 0);
      power.tpm?.tool('tpm2_pcrextend', `4:sha256=${'45'.repeat(32)}`);
      assert.match(
        (await machine.run(['auxcred', 'unseal'], { check: false })).stderr,
        /there is no signature of PCR 11.*; nor: /,
      );
    });

    alike('a push seals to the signatures of the image that booted', async () => {
      const device = machine.tpm?.device ?? '';
      await writeNoSsh(machine);
      await machine.shell(`
        systemctl stop a.service auxcred.service
        rm -rf /var/lib/auxcred/* /etc/auxcred/scopes.json
        mkdir -p -m 700 /root/vault/all
        age-keygen -o /root/identity 2>/dev/null
        auxcred init --vault=/root/vault --recipient="$(age-keygen -y /root/identity)"
        mv /etc/auxcred/secrets.d/web.toml /root/vault/all/
      `);
      await machine.write('/root/key.pem', signer.pem);
      await machine.write(
        '/root/vault/vault.toml',
        [
          'ssh = ["no-ssh"]',
          'identity = ["/root/identity"]',
          '[host.web1]',
          'with-key = "tpm2"',
          'tpm2-pcrs = "7"',
          'tpm2-public-key = "/root/key.pem"',
          'lock-after-unseal = true',
          '',
        ].join('\n'),
      );
      await sign();
      await machine.shell(`
        auxcred enroll --tpm2-device=${device} > /root/enrollment
        auxcred enroll web1 --vault=/root/vault --from=/root/enrollment
      `);
      const { status, stderr } = await pushHere(machine);
      assert.equal(status, 0, stderr);
      assert.match(
        stderr,
        /sealed the seed of host\/web1 to its TPM with PCR 11 as signed by \S+ and PCR 7; PCR 8 locks it/,
      );
      await machine.systemctl('start', 'a.service');
      const before = await key();
      assert.match(before ?? '', /^[0-9a-f]{64}$/);

      await machine.systemctl('restart', 'a.service');
      assert.equal(await key(), before);
    });

    /** Restarts the unit: what it gets. */
    const served = async (): Promise<Readonly<Record<string, Buffer>>> => {
      // A fast machine comes to the start limit.
      await machine.systemctl('reset-failed', 'a.service');
      await machine.systemctl('restart', 'a.service');
      return (await probed(machine, 'a.service')) ?? {};
    };
    const push = async (...args: string[]): Promise<{ status: number; result: string; said: string }> => {
      const { status, result, stderr } = await pushHere(machine, ...args);
      return { status, result, said: stderr };
    };
    const write = async (name: string): Promise<void> => {
      await machine.write(`/root/vault/all/${name}.toml`, secretToml(name, ['a.service']));
    };

    test('a push to a locked machine leaves its files for the next boot, or brings the seeds along', async () => {
      const before = await key();
      await write('more');
      const sealed = async (): Promise<string> =>
        (await machine.run(['sha256sum', '/var/lib/auxcred/seeds.age', '/etc/auxcred/scopes.json'])).stdout;
      const seeds = await sealed();
      assert.match(
        (await push('--dry-run')).said,
        /locked the seeds, so the files would become active at its next boot/,
      );
      for (let i = 0; i < 2; i++) {
        const { status, result, said } = await push();
        assert.deepEqual([status, result], [0, 'at next boot'], said);
        assert.match(said, /the files are written, and become active at its next boot/);
      }
      assert.equal(await sealed(), seeds);
      assert.equal((await machine.run(['test', '-e', manifestPath('more')], { check: false })).status, 0);
      assert.deepEqual(Object.keys(await served()), ['key-a']);

      await machine.write('/root/vault/all/lacking.toml', '[secret.lacking]\nkind = "fixed"\nunits = ["a.service"]\n');
      const lacking = await push();
      assert.equal(lacking.status, exitStatus['not-found'], lacking.said);
      assert.match(lacking.said, /lacking needs host\/web1\/lacking, which is not there/);
      assert.equal((await machine.run(['test', '-e', manifestPath('lacking')], { check: false })).status, 1);
      await machine.run(['rm', '/root/vault/all/lacking.toml']);

      const { status, result, said } = await push('--reseal');
      assert.deepEqual([status, result], [0, 'done'], said);
      const now = await served();
      assert.equal(now['key-a']?.toString(), before);
      assert.match(now['more']?.toString() ?? '', /^[0-9a-f]{64}$/);
      assert.equal((await push()).result, 'nothing to do');
      assert.equal((await machine.run(['auxcred', 'unseal'], { check: false })).status, exitStatus['until-boot']);
    });

    test('other seeds are refused before anything is written, and come without the lock', async () => {
      const before = await key();
      await machine.run(['auxcred', 'rekey', '--next', 'host/web1', '--vault=/root/vault']);
      await write('most');
      const state = async (): Promise<string> =>
        (await machine.run(['sh', '-c', 'find /etc/auxcred /var/lib/auxcred -type f -exec sha256sum {} + | sort']))
          .stdout;
      const untouched = await state();
      for (const more of [[], ['--reseal']]) {
        const refused = await push(...more);
        assert.equal(refused.status, exitStatus['until-boot'], refused.said);
        assert.match(refused.said, /no broker can open others before that; nothing was changed/);
        assert.match(refused.said, /hint: lock-after-unseal = false for this host in vault.toml/);
      }
      assert.equal(await state(), untouched);
      assert.equal((await served())['key-a']?.toString(), before);

      const lock = async (value: boolean): Promise<void> => {
        await machine.run([
          'sed',
          '-i',
          `s/^lock-after.*/lock-after-unseal = ${String(value)}/`,
          '/root/vault/vault.toml',
        ]);
      };
      await lock(false);
      const brought = await push();
      assert.deepEqual([brought.status, brought.result], [0, 'done'], brought.said);
      const now = await served();
      assert.notEqual(now['key-a']?.toString(), before);
      assert.match(now['most']?.toString() ?? '', /^[0-9a-f]{64}$/);
      await lock(true);
      const locked = await push('--reseal');
      assert.deepEqual([locked.status, locked.result], [0, 'done'], locked.said);
      assert.match(locked.said, /its lock opens only at the next boot/);
      assert.equal((await machine.run(['auxcred', 'unseal'], { check: false })).status, exitStatus['until-boot']);
    });
  });
