import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { parseHeader } from '../../src/age/header.ts';
import { utf8 } from '../../src/bytes.ts';
import { parseEnrollment, sealForHost, sealingFor } from '../../src/seeds/enrollment.ts';
import { openSeeds } from '../../src/seeds/open.ts';
import { parseStanza } from '../../src/seeds/tpm-stanza.ts';
import type { PcrValues } from '../../src/tpm2/policy.ts';
import { auxcredMachine, firmware, manifestPath, secretToml } from '../auxcred-machine.ts';
import { cannotBoot, type Machine } from '../machine/machine.ts';
import { alikeOn, systemdVersions } from '../machine/root.ts';
import { forgetProbes, probed, writeProbeUnit } from '../machine/units.ts';
import { entry, makeSigner } from '../tpm2/policies.ts';
import { runFree, takeOver } from './takeover.ts';

/** What code in the broker's process can do: no more than the broker needs. */
const inherent = [
  'connect to /run/systemd/journal/socket',
  'connect to /run/systemd/notify',
  'open /dev/full',
  'open /dev/null',
  'open /dev/random',
  'open /dev/urandom',
  'open /dev/zero',
  // The kernel has to start Node and the dynamic linker.
  'execute /usr/bin/node',
  // The control group of a client is read from /proc.
  "see the machine's mounts and processes",
  // No other process has the broker's user.
  'read the environment of its-own-user',
  'read the memory of its-own-user',
  'signal its-own-user',
];
/** What not even root can do in a systemd-nspawn container, so it can't be tested here. */
const impossibleHere = [
  'ask for a key',
  'count events',
  'keep a key in the kernel',
  'load a BPF program',
  'lock memory',
  'make a secret file in memory',
  "read the kernel's log",
  'set the clock',
  "use the kernel's ciphers",
  'watch a whole file system',
];

for (const version of systemdVersions)
  describe(`a seed in the TPM on systemd ${version}`, { skip: cannotBoot }, () => {
    const alike = alikeOn(version);
    let machine: Machine;
    const power = firmware();
    const key = async (): Promise<string | undefined> => (await probed(machine, 'a.service'))?.['key-a']?.toString();
    const start = async (): Promise<number> => {
      await machine.run(['systemctl', 'stop', 'a.service', 'auxcred.service'], { check: false });
      await machine.run(['systemctl', 'reset-failed'], { check: false });
      await forgetProbes(machine);
      return (await machine.run(['systemctl', 'start', 'a.service'], { check: false })).status;
    };
    const told = async (): Promise<string> =>
      (await machine.run(['journalctl', '-b', '-u', 'auxcred.service', '-o', 'cat', '--no-pager'])).stdout;
    const seeds = async (): Promise<Uint8Array> =>
      Buffer.from((await machine.run(['base64', '/var/lib/auxcred/seeds.age'])).stdout, 'base64');
    before(async () => {
      machine = await auxcredMachine({ systemd: version, name: 'web1', tpm: power.start });
      await writeProbeUnit(machine, 'a.service', {});
      await writeProbeUnit(machine, 'simple.service', { service: ['Type=simple'] });
      await machine.write(
        '/etc/systemd/system/storm@.service',
        [
          '[Unit]',
          'StartLimitIntervalSec=0',
          '[Service]',
          'Type=oneshot',
          'RemainAfterExit=yes',
          'Restart=on-failure',
          'RestartSec=100ms',
          'SetCredential=key-storm:fallback',
          `ExecStart=/bin/sh -c 'mkdir -p /run/storm; { cat "$$CREDENTIALS_DIRECTORY/key-storm"; echo; } >> /run/storm/%i'`,
          '',
        ].join('\n'),
      );
      await machine.write(
        manifestPath('web'),
        secretToml('key-a', ['a.service', 'simple.service']) + secretToml('key-storm', ['storm@.service']),
      );
      await machine.boot();
    });
    after(async () => {
      await machine?.destroy();
    });

    /**
     * What code in the broker's process can do beyond what is inherent; it may run what is in the libraries' folder.
     */
    const escapes = async (): Promise<string[]> => {
      const { could } = await takeOver(machine);
      for (const one of inherent) assert.ok(could.includes(one), one);
      const limited =
        (await machine.shell('grep -cw pids /sys/fs/cgroup/cgroup.controllers || true')).stdout.trim() === '1';
      return could.filter(
        (one) =>
          !inherent.includes(one) &&
          !/^execute \/usr\/lib(?:64|\/[a-z0-9_]+-linux-gnu)\//.test(one) &&
          (limited || one !== 'start a hundred processes'),
      );
    };
    test("code in the broker's process can do only what the broker needs", async () => {
      assert.deepEqual(await escapes(), []);
      const { tried, could } = await runFree(machine);
      assert.deepEqual(
        tried.filter((one) => !could.includes(one)),
        impossibleHere,
        'every other attempt works where nothing denies it',
      );
      const { TasksMax, MemoryMax } = await machine.properties('auxcred.service', 'TasksMax', 'MemoryMax');
      assert.deepEqual({ TasksMax, MemoryMax }, { TasksMax: '32', MemoryMax: String(512 * 1024 * 1024) });
    });

    let sealedKey: string | undefined;
    alike('seal asks for a recovery, and refuses what can not work', async () => {
      const seal = async (...args: string[]) => await machine.run(['auxcred', 'seal', ...args], { check: false });
      const missing = await seal('--with-key=tpm2', `--tpm2-device=${machine.tpm?.device ?? ''}`);
      assert.equal(missing.status, 2);
      assert.match(missing.stderr, /needs a way to recover it.*\n.*--recipient=age1/);
      assert.match(
        (
          await seal(
            '--with-key=tpm2',
            '--tpm2-pcrs=7+11',
            '--no-recovery',
            `--tpm2-device=${machine.tpm?.device ?? ''}`,
          )
        ).stderr,
        /PCR 11 changes during boot/,
      );
      const absent = await seal('--with-key=tpm2', '--no-recovery');
      assert.equal(absent.status, 10);
      assert.match(absent.stderr, /there is no TPM at \/dev\/tpmrm0/);
      assert.match(
        (await seal('--with-key=tmp2', '--no-recovery')).stderr,
        /one of host, tpm2, tpm2\+host, systemd-creds, auto/,
      );
    });

    test('seal warns of weak bindings', async () => {
      const { stderr } = await machine.run([
        'auxcred',
        'seal',
        '--with-key=tpm2',
        `--tpm2-device=${machine.tpm?.device ?? ''}`,
        '--tpm2-pcrs=4+15',
        '--no-recovery',
      ]);
      assert.match(stderr, /^auxcred: the TPM is IBM SW TPM, firmware [0-9.]+$/m);
      assert.match(stderr, /warning: PCR 15 measures the machine's identity/);
      assert.match(stderr, /warning: PCR 4 has never been extended/);
    });

    for (const [withKey, declare] of [
      ['tpm2', test],
      ['tpm2+host', alike],
    ] as const)
      declare(`${withKey}: the same secret at every boot with the same measurements`, async () => {
        const sealed = await machine.run([
          'auxcred',
          'seal',
          '--replace',
          `--with-key=${withKey}`,
          `--tpm2-device=${machine.tpm?.device ?? ''}`,
          '--tpm2-pcrs=7+14',
          '--no-recovery',
        ]);
        assert.match(sealed.stderr, /sealed the seed of host\/web1 to its TPM.* with PCR 7\+14/);
        // No restart: a broker that is stopped while unsealing leaves its objects in a TPM without a resource manager.
        await machine.run(['auxcred', 'apply', '--no-restart']);
        assert.match(
          (await machine.run(['auxcred', 'unseal'])).stderr,
          new RegExp(`opens with ${withKey.replace('+', '\\+')}`),
        );
        assert.equal(await start(), 0, await told());
        sealedKey = await key();
        assert.match(sealedKey ?? '', /^[0-9a-f]{64}$/);
        await machine.reboot();
        assert.equal(await start(), 0, await told());
        assert.equal(await key(), sealedKey);
      });

    test('one unseal serves every unit', async () => {
      await machine.systemctl('stop', 'auxcred.service');
      await machine.systemctl('start', 'auxcred.service');
      power.tpm?.signal('SIGSTOP');
      try {
        await machine.systemctl('restart', 'a.service');
        assert.equal(await key(), sealedKey);
      } finally {
        power.tpm?.signal('SIGCONT');
      }
    });

    test("with access to the TPM, code in the broker's process can do nothing more than use it", async () => {
      const socket = machine.tpm?.device.replace('swtpm:path=', '') ?? '';
      // It has the machine's own /dev then, and a systemd in a container is not allowed to enforce its DevicePolicy=.
      assert.deepEqual(
        (await escapes()).filter((one) => !one.startsWith('open /dev/')),
        [`connect to ${socket}`, `connect to ${socket}.ctrl`],
      );
      const { DevicePolicy, DeviceAllow } = await machine.properties('auxcred.service', 'DevicePolicy', 'DeviceAllow');
      assert.deepEqual({ DevicePolicy, DeviceAllow }, { DevicePolicy: 'closed', DeviceAllow: 'char-tpm rw' });
      assert.equal(await start(), 0, await told());
    });

    test("no other process of the broker's user can look into its memory", async () => {
      await machine.systemctl('start', 'auxcred.service');
      const { MainPID = '' } = await machine.properties('auxcred.service', 'MainPID');
      for (const file of ['mem', 'environ', 'maps']) {
        const read = async (pid: string): Promise<number> =>
          (
            await machine.run(
              [
                'systemd-run',
                '--quiet',
                '--wait',
                '--collect',
                '--property=User=auxcred',
                'sh',
                '-c',
                `exec 3< /proc/${pid}/${file}`,
              ],
              { check: false },
            )
          ).status;
        assert.equal(await read('self'), 0);
        assert.notEqual(await read(MainPID), 0, file);
      }
    });

    alike('other measurements: no unit starts, and the reason names the PCR', async () => {
      power.measured[14]?.push('01'.repeat(32));
      await machine.reboot();
      assert.notEqual(await start(), 0);
      assert.equal(await key(), undefined);
      assert.match(
        await told(),
        /the seeds stay closed: the machine did not boot as it did when it was sealed: PCR 14 \(/,
      );
      power.measured[14]?.pop();
      await machine.reboot();
      assert.equal(await start(), 0, await told());
      assert.equal(await key(), sealedKey);
    });

    alike(
      'a TPM that hangs holds nobody up beyond the deadline, and units that try again get their secret later',
      async () => {
        const { stdout: expected } = await machine.run(['auxcred', 'get', 'key-storm']);
        await machine.run(['systemctl', 'stop', 'auxcred.service', 'a.service']);
        // Each of them starts again and again.
        const units = Array.from({ length: 40 }, (_, i) => `storm@${String(i)}.service`);
        power.tpm?.signal('SIGSTOP');
        try {
          await forgetProbes(machine);
          const started = Date.now();
          await machine.systemctl('start', '--no-block', 'simple.service', ...units);
          assert.notEqual((await machine.run(['systemctl', 'start', 'a.service'], { check: false })).status, 0);
          assert.ok(Date.now() - started < 30_000, `${String(Date.now() - started)} ms`);
          await machine.waitFor('simple.service', 'failed');
          assert.equal(await probed(machine, 'simple.service'), undefined);
          assert.match(await told(), /could not be opened within 20 s/);
        } finally {
          power.tpm?.signal('SIGCONT');
        }
        for (const unit of units) await machine.waitFor(unit, 'active', 60_000);
        const got = (await machine.shell('cat /run/storm/*')).stdout;
        assert.deepEqual([...new Set(got.trimEnd().split('\n'))], [expected]);
        const refused = await machine.journal('-b', 'AUXCRED_OUTCOME=refused', 'AUXCRED_CREDENTIAL=key-storm');
        assert.ok(refused.length >= 40, String(refused.length));
        await machine.systemctl('stop', 'storm@*.service');
        assert.equal(await start(), 0, await told());
      },
    );

    alike('a TPM that is gone refuses at once', async () => {
      await power.tpm?.stop();
      assert.notEqual(await start(), 0);
      assert.match(await told(), /the TPM at swtpm:path=\S+ can't be opened/);
      await machine.reboot();
      assert.equal(await start(), 0, await told());
    });

    alike('sealed by the operator without this TPM: the same secret at the next boot', async () => {
      const enrolled = parseEnrollment(
        utf8((await machine.run(['auxcred', 'enroll', `--tpm2-device=${machine.tpm?.device ?? ''}`])).stdout),
        'enrollment',
      );
      const { payload: own } = await openSeeds(await seeds(), {
        keys: { ssh: join(machine.root, 'etc/ssh/ssh_host_ed25519_key'), age: undefined },
        device: machine.tpm?.device,
      });
      await machine.write(
        '/var/lib/auxcred/seeds.age',
        await sealForHost(
          {
            ...own,
            counter: own.counter + 1,
            sealing: sealingFor({ withKey: 'tpm2+host', pcrs: [7, 14], recipients: [] }, enrolled),
          },
          enrolled,
        ),
      );
      await machine.run([
        'sh',
        '-c',
        'chgrp auxcred /var/lib/auxcred/seeds.age && chmod 640 /var/lib/auxcred/seeds.age',
      ]);
      await machine.reboot();
      assert.equal(await start(), 0, await told());
      assert.equal(await key(), sealedKey);
      // Other measurements keep it closed as they do a native one.
      power.measured[7]?.push('02'.repeat(32));
      await machine.reboot();
      assert.notEqual(await start(), 0);
      assert.match(await told(), /the machine did not boot as it did when it was sealed: PCR 7 \(/);
      power.measured[7]?.pop();
      await machine.reboot();
      // The machine reseals it natively: fixed to its TPM.
      assert.match(
        (await machine.run(['auxcred', 'reseal', `--tpm2-device=${machine.tpm?.device ?? ''}`])).stderr,
        /sealed the seed of host\/web1 to its TPM.* with PCR 7\+14/,
      );
      assert.ok('private' in parseStanza(parseHeader(await seeds()).stanzas[0] ?? assert.fail()).sealed);
      assert.equal(await start(), 0, await told());
      assert.equal(await key(), sealedKey);
    });

    alike('another TPM is said to be another TPM', async () => {
      await machine.shutdown();
      rmSync(join(power.tpm?.folder ?? '', 'state'), { recursive: true });
      await machine.boot();
      assert.notEqual(await start(), 0);
      assert.match(await told(), /sealed to another TPM, or this one was cleared/);
    });

    test('a signed policy opens in the sandbox, with the signatures of the image that booted', async () => {
      const signer = makeSigner();
      const stub = '/run/systemd/tpm2-pcr-signature.json';
      const eleven = (): PcrValues => {
        const said = power.tpm?.tool('tpm2_pcrread', 'sha256:11') ?? '';
        return new Map([[11, Uint8Array.from(Buffer.from(/0x([0-9A-F]{64})/.exec(said)?.[1] ?? '', 'hex'))]]);
      };
      const sign = async (): Promise<void> => {
        await machine.write(stub, JSON.stringify({ sha256: [entry(signer, eleven())] }));
      };
      await machine.systemctl('stop', 'auxcred.service');
      await sign();
      await machine.write('/run/systemd/tpm2-pcr-public-key.pem', signer.pem);
      const options = ['--replace', '--with-key=tpm2', `--tpm2-device=${machine.tpm?.device ?? ''}`, '--no-recovery'];
      const unbound = await machine.run(['auxcred', 'seal', ...options]);
      assert.match(
        unbound.stderr,
        /booted a measured image\nauxcred: hint: --tpm2-public-key=\/run\/systemd\/tpm2-pcr-public-key\.pem/,
      );
      const { stderr } = await machine.run([
        'auxcred',
        'seal',
        ...options,
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
  });
