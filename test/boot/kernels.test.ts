/**
 * Updates of the kernel on a machine with systemd-boot: the real kernel-install and Debian's hooks, a log of a real boot,
 * and a TPM whose PCRs are what firmware, systemd-boot and kernel would measure.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { parseLog } from '../../src/measured/measured-log.ts';
import { auxcredMachine, firmware, manifestPath, secretToml } from '../auxcred-machine.ts';
import { cannotBoot, type Machine } from '../machine/machine.ts';
import { alikeOn, thoroughVersions } from '../machine/root.ts';
import { probed, writeProbeUnit } from '../machine/units.ts';
import { bootLoader, makeUki, read, run, stub } from '../measured/images.ts';
import { bytesOf, hex, sampleFile } from '../measured/samples.ts';

const firmwareLog = sampleFile('entry-1', 'binary_bios_measurements');
const { events } = parseLog(bytesOf(firmwareLog), undefined);
const loggedIn = (pcr: number): string[] =>
  events.flatMap((event) => (event.pcr === pcr ? [hex(event.digests.get('sha256'))] : []));
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const authenticode = (file: string): string => /hash: ([0-9a-f]{64})/.exec(run('pesign', '-h', '-i', file))?.[1] ?? '';

for (const version of thoroughVersions)
  describe(`updates of the kernel on systemd ${version}`, { skip: cannotBoot }, () => {
    const alike = alikeOn(version);
    const power = firmware();
    const scratch = mkdtempSync(join(tmpdir(), 'auxcred-kernels-'));
    let machine: Machine;
    const said = async (...command: string[]): Promise<string> => {
      const { stdout, stderr } = await machine.run(command, { check: false });
      return `${stdout}${stderr}`;
    };
    const shell = async (line: string): Promise<string> => {
      const { status, stdout, stderr } = await machine.shell(`{ ${line}; } 2>&1`, { check: false });
      assert.equal(status, 0, `${line}: ${stdout}${stderr}`);
      return stdout;
    };
    const branches = async (): Promise<number> => {
      const report: { seed: { policies: { branches: unknown[] }[] } } = JSON.parse(
        (await machine.run(['auxcred', 'status', '--json'], { check: false })).stdout,
      );
      return report.seed.policies[0]?.branches.length ?? 0;
    };
    /** Boots with the log of the sample, whatever the TPM has. */
    const reboot = async (): Promise<void> => {
      await machine.shell('rm -rf /var/kept-boot; cp -a /boot /var/kept-boot');
      await machine.reboot();
      await machine.write('/root/log', bytesOf(firmwareLog));
      await machine.shell(`
        mount -t tmpfs none /boot
        cp -a /var/kept-boot/. /boot
        mount -t tmpfs none /sys/kernel/security
        mkdir /sys/kernel/security/tpm0
        mv /root/log /sys/kernel/security/tpm0/binary_bios_measurements
      `);
    };
    /** Has the next boots be of a kernel that kernel-install added. */
    const boots = async (kernel: string, release: string): Promise<void> => {
      const entry = await shell(`cat /boot/loader/entries/*-${release}.conf`);
      const of = (key: string): string => new RegExp(`^${key}\\s+(.*?)\\s*$`, 'm').exec(entry)?.[1] ?? '';
      const commandLine = `initrd=${of('initrd').replaceAll('/', '\\')} ${of('options')}`;
      const [action = '', separator = ''] = loggedIn(4);
      power.measured[4] = [action, separator, authenticode(bootLoader), authenticode(kernel)];
      power.measured[12] = [sha256(Buffer.from(`${commandLine}\0`, 'utf16le'))];
    };
    const kernels = { '6.98.0': bootLoader, '6.99.0': stub };

    before(async () => {
      for (const pcr of [0, 1, 2, 3, 4, 5, 6, 7, 9, 12]) power.measured[pcr] = loggedIn(pcr);
      machine = await auxcredMachine({ systemd: version, tpm: power.start });
      await machine.boot();
      await machine.write(manifestPath('web'), secretToml('key', ['web.service']));
      await writeProbeUnit(machine, 'web.service', { install: ['WantedBy=multi-user.target'] });
      await machine.shell('systemctl daemon-reload; systemctl enable web.service');
      // Paths in an entry start at the mount point of a file system of its own.
      await machine.shell('mount -t tmpfs none /boot; mkdir -p /boot/loader/entries /boot/EFI/BOOT /etc/kernel');
      // A package of its own in Debian, but not in 254, whose root lacks the Python that it needs.
      await machine.shell('mkdir -p /etc/kernel/install.d; ln -s /dev/null /etc/kernel/install.d/60-ukify.install');
      await machine.write('/etc/kernel/cmdline', 'root=LABEL=root  quiet\n');
      await machine.write('/etc/kernel/install.conf', 'layout=bls\n');
      await machine.write('/boot/EFI/BOOT/BOOTX64.EFI', read(bootLoader));
      await machine.write('/boot/loader/loader.conf', 'timeout 0\n');
      for (const [release, file] of Object.entries(kernels)) await machine.write(`/root/linux-${release}`, read(file));
      await machine.write('/root/initrd', 'an initrd');
      await machine.shell('age-keygen -o /root/recovery.txt 2>/dev/null');
    });
    after(async () => {
      await machine?.destroy();
      rmSync(scratch, { recursive: true, force: true });
    });
    const install = async (release: string): Promise<string> =>
      await shell(`BOOT_ROOT=/boot kernel-install add ${release} /root/linux-${release} /root/initrd`);

    test('a kernel is installed as ever without a seed, and with one that no kernel changes', async () => {
      assert.doesNotMatch(await install('6.98.0'), /auxcred|the seed/);
      const recipient = (await machine.run(['age-keygen', '-y', '/root/recovery.txt'])).stdout.trim();
      const device = power.tpm?.device ?? '';
      await machine.run(['auxcred', 'seal', '--with-key=tpm2', `--tpm2-device=${device}`, `--recipient=${recipient}`]);
      await machine.run(['auxcred', 'apply']);
      assert.match(await install('6.98.0'), /no literal PCR is bound that another kernel changes/);
    });

    test('a new kernel opens the seed at its first boot, and the old one still does', async () => {
      await reboot();
      await machine.run(['auxcred', 'reseal', '--tpm2-pcrs=4+12', '--with-key=tpm2']);
      assert.equal(await branches(), 1);
      assert.match(
        await said('auxcred', 'doctor'),
        /the seed (?:will|would) not open at the next boot \(\S+-6\.98\.0\.conf\)/,
      );
      const installed = await install('6.98.0');
      assert.match(installed, /^auxcred: sealed the seed of host\/\S+ to its TPM with PCR 4\+12/m);
      assert.match(installed, /^auxcred: added 1 branch: \S+-6\.98\.0\.conf$/m);
      assert.match(installed, /^auxcred: the seed has 2 branches now: this boot.*, \S+-6\.98\.0\.conf$/m);
      assert.equal(await branches(), 2);
      assert.match(
        await shell('auxcred reseal --predict=$(ls /boot/loader/entries/*-6.98.0.conf)'),
        /^auxcred: no branch was added: the seed has them already\nauxcred: the seed has 2 branches now: /m,
      );
      assert.doesNotMatch(await said('auxcred', 'doctor'), /next boot/);
      const before = { ...power.measured };
      await boots(bootLoader, '6.98.0');
      await reboot();
      await machine.waitFor('web.service', 'active');
      assert.ok((await probed(machine, 'web.service'))?.['key']);
      Object.assign(power.measured, before);
      await reboot();
      await machine.waitFor('web.service', 'active');
    });

    test("another one beside it too, by Debian's hook, and nothing is sealed twice", async () => {
      // As from a tool of Debian's that is not kernel-install.
      await shell(
        `BOOT_ROOT=/boot kernel-install add 6.99.0 /root/linux-6.99.0 /root/initrd && auxcred reseal --tpm2-pcrs=4+12`,
      );
      assert.equal(await branches(), 1);
      assert.match(await shell('run-parts --arg=6.99.0 /etc/kernel/postinst.d'), /sealed the seed/);
      assert.equal(await branches(), 3);
      const again = await shell('run-parts --arg=6.99.0 /etc/initramfs/post-update.d');
      assert.match(again, /the seed opens with every kernel that is installed \(3 branches\)/);
      assert.doesNotMatch(again, /sealed the seed/);
      await boots(stub, '6.99.0');
      await reboot();
      await machine.waitFor('web.service', 'active');
    });

    alike('the branch of a kernel that is removed goes', async () => {
      await shell('BOOT_ROOT=/boot kernel-install remove 6.98.0');
      // That of the boot of the log stays: its values are unlike those that this TPM has now.
      const left = await branches();
      assert.ok(left >= 1 && left <= 2, String(left));
      await boots(stub, '6.99.0');
      await reboot();
      await machine.waitFor('web.service', 'active');
    });

    alike('a failure does not stop the installation, is said, and shown until it is mended', async () => {
      await shell('umount /sys/kernel/security');
      const output = await install('6.98.0');
      assert.match(output, /there is no log of a measured boot/);
      assert.match(output, /^auxcred: WARNING: the seed is not prepared for the installed kernels$/m);
      await shell('ls /boot/loader/entries/*-6.98.0.conf');
      assert.match(
        await said('auxcred', 'doctor'),
        /^warning: the seed was not prepared for the kernels that are installed \(.*\): there is no log of .* \[kernels\]$/m,
      );
      assert.match(await said('auxcred', 'status'), /warnings?: auxcred doctor says what to do/);
      await reboot();
      await shell('auxcred reseal --installed');
      assert.doesNotMatch(await said('auxcred', 'doctor'), /\[kernels\]/);
    });

    alike('a UKI beside the entries is one of them', async () => {
      const { file } = makeUki(scratch, 'z.efi', {
        '.linux': read(bootLoader),
        '.osrel': 'ID=debian\nVERSION_ID=13\n',
      });
      await machine.write('/boot/EFI/Linux/z.efi', read(file));
      const before = await branches();
      assert.match(
        await shell('auxcred reseal --installed'),
        /PCR 4 of z\.efi is not sure: .*this boot started no UKI/,
      );
      assert.equal(await branches(), before + 1);
    });
  });
