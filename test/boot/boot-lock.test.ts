import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import { auxcredMachine, firmware, manifestPath, secretToml } from '../auxcred-machine.ts';
import { cannotBoot, type Machine } from '../machine/machine.ts';
import { alikeOn, thoroughVersions } from '../machine/root.ts';
import { probed, writeProbeUnit } from '../machine/units.ts';
import { entry, makeSigner, phaseValue } from '../tpm2/policies.ts';

const image = 'b1'.repeat(32);
const phases = ['enter-initrd', 'leave-initrd', 'sysinit', 'ready'];
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

for (const version of thoroughVersions)
  describe(`a seed that is locked until the next boot on systemd ${version}`, { skip: cannotBoot }, () => {
    const alike = alikeOn(version);
    let machine: Machine;
    const power = firmware();
    const signer = makeSigner();
    const secretOf = async (unit: string): Promise<string | undefined> =>
      (await probed(machine, unit))?.['key']?.toString();
    const units = ['early.service', 'normal.service', 'late.service'];
    const auxcred = async (...args: string[]): Promise<{ status: number | null; stdout: string; stderr: string }> =>
      await machine.run(['auxcred', ...args], { check: false });
    const broker = async (): Promise<Readonly<Record<string, string>>> =>
      await machine.properties('auxcred.service', 'ActiveState', 'MainPID');
    const doctor = async (): Promise<string> => (await auxcred('doctor')).stdout;
    /** A unit that measures a boot phase as systemd-pcrphase does, which itself wants a measured boot. */
    const writePhase = async (word: string, order: readonly string[]): Promise<void> => {
      await machine.write(
        `/etc/systemd/system/phase-${word}.service`,
        [
          '[Unit]',
          'DefaultDependencies=no',
          ...order,
          '[Service]',
          'Type=oneshot',
          'RemainAfterExit=yes',
          `Environment=TPM2TOOLS_TCTI=${machine.tpm?.device ?? ''}`,
          `ExecStart=tpm2_pcrextend 11:sha256=${sha256(word)}`,
          '[Install]',
          'WantedBy=multi-user.target',
          '',
        ].join('\n'),
      );
      await machine.systemctl('enable', `phase-${word}.service`);
    };
    let keys: readonly (string | undefined)[] = [];

    before(async () => {
      machine = await auxcredMachine({ systemd: version, name: 'web1', tpm: power.start });
      power.measured[11] = [image, ...phases.slice(0, 2).map(sha256)];
      await writeProbeUnit(machine, 'early.service', {
        unit: ['DefaultDependencies=no', 'Before=sysinit.target phase-sysinit.service'],
        install: ['WantedBy=sysinit.target'],
      });
      await writeProbeUnit(machine, 'normal.service', {
        unit: ['After=phase-sysinit.service', 'Before=phase-ready.service'],
      });
      await writeProbeUnit(machine, 'late.service', { unit: ['After=phase-ready.service'] });
      await machine.write(
        manifestPath('web'),
        secretToml('key', units) + secretToml('to-file', [], { delivery: 'file' }).replace('units = []\n', ''),
      );
      await machine.boot();
      await writePhase('sysinit', ['After=sysinit.target', 'Before=basic.target']);
      await writePhase('ready', ['After=phase-sysinit.service basic.target']);
      await machine.systemctl('enable', ...units);
      const entries = [2, 3, 4].map((count) =>
        entry(signer, new Map([[11, phaseValue(image, ...phases.slice(0, count))]])),
      );
      await machine.write('/etc/systemd/tpm2-pcr-signature.json', JSON.stringify({ sha256: entries }));
      await machine.write('/root/key.pem', signer.pem);
      await machine.run(['sh', '-c', 'age-keygen -o /root/recovery.txt 2>/dev/null']);
      const recipient = (await machine.run(['age-keygen', '-y', '/root/recovery.txt'])).stdout.trim();
      const { stderr } = await machine.run([
        'auxcred',
        'seal',
        '--with-key=tpm2',
        `--tpm2-device=${machine.tpm?.device ?? ''}`,
        '--tpm2-public-key=/root/key.pem',
        '--tpm2-pcrs=7',
        '--lock-after-unseal',
        `--recipient=${recipient}`,
      ]);
      assert.match(stderr, /with PCR 11 as signed by \S+ and PCR 7; PCR 8 locks it until the next boot/);
      assert.match(stderr, /nobody can open the seed until the next boot.* hooks do not run/);
      await machine.run(['auxcred', 'apply', '--no-restart']);
      await machine.shell('auxcred audit --key > /root/audit.keys');
      await machine.reboot();
    });
    after(async () => {
      await machine?.destroy();
    });

    test('units of each phase of the boot and files get their secrets, and then nobody opens the seed', async () => {
      keys = await Promise.all(units.map(secretOf));
      for (const key of keys) assert.match(key ?? '', /^[0-9a-f]{64}$/, machine.console);
      assert.match((await machine.run(['cat', '/run/auxcred/files/to-file'])).stdout, /^[0-9a-f]{64}$/);
      for (const verb of ['unseal', 'apply', 'provision', 'plan', 'files', 'reseal']) {
        const { status, stderr } = await auxcred(verb);
        assert.equal(status, exitStatus['until-boot'], `${verb}: ${stderr}`);
        assert.match(
          stderr,
          /locked until the next boot \(PCR 8\)\n.*changed manifest becomes active at the next boot/,
        );
      }
      assert.equal((await auxcred('provision', '--due')).status, 0);
      assert.match(
        (await auxcred('doctor', '--all')).stdout,
        /the seed is locked until the next boot, and the broker serves it/,
      );
      assert.equal((await auxcred('status')).status, 0);
    });

    alike('the audit is checked with the keys that were printed before', async () => {
      const { status, stderr } = await auxcred('audit', '--verify');
      assert.equal(status, exitStatus['until-boot']);
      assert.match(stderr, /hint: auxcred audit --verify --public-key=FILE, with what auxcred audit --key printed/);
      const given = await auxcred('audit', '--verify', '--public-key=/root/audit.keys');
      assert.equal(given.status, 0, given.stdout);
      assert.match(given.stdout, /^intact /m);
    });

    test('the broker goes on serving, and nobody stops it by mistake', async () => {
      const { MainPID } = await broker();
      const stopped = await machine.run(['systemctl', 'stop', 'auxcred.service'], { check: false });
      assert.match(stopped.stderr, /refused/);
      await machine.systemctl('restart', 'normal.service');
      assert.equal(await secretOf('normal.service'), keys[1]);
      // What dpkg does for an upgrade.
      await machine.run(['/var/lib/dpkg/info/auxcred.postinst', 'configure', '0.0.1']);
      await machine.systemctl('restart', 'normal.service');
      assert.deepEqual(await broker(), { ActiveState: 'active', MainPID: MainPID ?? '' });
    });

    test('a changed manifest becomes active at the next boot', async () => {
      await machine.write(manifestPath('new'), secretToml('new', ['late.service']));
      await machine.reboot();
      assert.match((await probed(machine, 'late.service'))?.['new']?.toString() ?? '', /^[0-9a-f]{64}$/);
      assert.equal((await auxcred('unseal')).status, exitStatus['until-boot']);
    });

    alike('a recovery key takes the lock away now, and puts it on again', async () => {
      const reseal = async (...args: string[]): Promise<string> =>
        (await machine.run(['auxcred', 'reseal', ...args, '--identity=/root/recovery.txt'])).stderr;
      assert.match(await reseal(), /could not be test-opened, because its lock opens only at the next boot/);
      await reseal('--no-lock-after-unseal');
      await machine.write(manifestPath('newer'), secretToml('newer', ['normal.service']));
      await machine.run(['auxcred', 'apply']);
      assert.match((await probed(machine, 'normal.service'))?.['newer']?.toString() ?? '', /^[0-9a-f]{64}$/);
      await reseal('--lock-after-unseal');
      assert.equal((await auxcred('unseal')).status, exitStatus['until-boot']);
      await machine.reboot();
      assert.deepEqual(await Promise.all(units.map(secretOf)), keys);
      assert.equal((await auxcred('unseal')).status, exitStatus['until-boot']);
    });

    test('without that broker no unit starts until the machine reboots, and doctor says so', async () => {
      const { MainPID } = await broker();
      await machine.run(['kill', '-9', MainPID ?? '']);
      await machine.waitFor('auxcred.service', ['failed', 'inactive']);
      assert.notEqual((await machine.run(['systemctl', 'restart', 'normal.service'], { check: false })).status, 0);
      const told = (await machine.run(['journalctl', '-b', '-u', 'auxcred.service', '-o', 'cat', '--no-pager'])).stdout;
      assert.match(told, /the seeds stay closed: the seed is locked until the next boot/);
      await machine.waitFor('auxcred.service', ['failed', 'inactive']);
      assert.match(await doctor(), /the broker that had it is gone/);
      await machine.reboot();
      assert.deepEqual(await Promise.all(units.map(secretOf)), keys);
    });
  });
