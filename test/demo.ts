/**
 * `npm run demo`: the main job on a real Debian with systemd as PID 1, in a container with a software TPM.
 * Everything printed after `#` or `web1#` is the real output of a real command.
 */
import { auxcredMachine, firmware, manifestPath } from './auxcred-machine.ts';
import type { Machine } from './machine/machine.ts';
import { writeProbeUnit } from './machine/units.ts';

const bold = (text: string): string => (process.stdout.isTTY ? `\u001b[1m${text}\u001b[0m` : text);
const heading = (text: string): void => {
  console.log(`\n${bold(text)}`);
};
const note = (text: string): void => {
  console.log(`  ${text}`);
};

const manifest = `[secret.session-key]
kind  = "hex"
units = ["web.service"]

[secret.db-password]
kind   = "password"
length = 24
units  = ["db.service"]

[secret.api-id]
kind     = "uuid"
delivery = "stage"
units    = ["worker.service"]
`;
const units = ['web.service', 'db.service', 'worker.service'];

/** Runs a command in the machine, and shows it with its output. */
async function show(machine: Machine, command: string): Promise<void> {
  console.log(`  web1# ${command}`);
  const { stdout, stderr } = await machine.shell(`${command} 2>&1`, { check: false });
  for (const line of `${stdout}${stderr}`.trimEnd().split('\n')) if (line !== '') console.log(`  ${line}`);
}

/** Prints what each unit found, long after systemd removed the credentials again. */
const showSecrets = `#!/bin/sh
for file in /run/demo/*/*; do
    [ ! -e "$file" ] || printf '%-16s %-12s %s\\n' "$(basename "\${file%/*}")" "\${file##*/}" "$(cat "$file")"
done
`;

async function main(): Promise<void> {
  const started = Date.now();
  const tpm = firmware();
  heading('A machine: Debian 13, systemd as PID 1, a software TPM 2.0, auxcred from its .deb');
  const machine = await auxcredMachine({ systemd: '257', name: 'web1', tpm: tpm.start });
  try {
    for (const unit of units) {
      await writeProbeUnit(machine, unit, {
        service: [
          'DynamicUser=yes',
          `ExecStart=/bin/sh -c 'cp "$CREDENTIALS_DIRECTORY"/* /run/demo/%n/'`,
          'ReadWritePaths=/run/probe /run/demo',
        ],
        steps: [],
      });
    }
    await machine.write('/usr/local/bin/show-secrets', showSecrets, 0o755);
    await machine.write(
      '/etc/tmpfiles.d/demo.conf',
      units.map((unit) => `d /run/demo/${unit} 1777 root root\n`).join(''),
    );
    await machine.boot();
    note(`booted in a container, ${(await machine.run(['systemctl', '--version'])).stdout.split('\n')[0] ?? ''}`);

    heading('1. Seal: a new seed, locked to this TPM while PCR 7 and 14 are as they are now');
    const device = machine.tpm?.device ?? '';
    await show(machine, `auxcred seal --with-key=tpm2 --tpm2-device=${device} --tpm2-pcrs=7+14 --no-recovery`);

    heading('2. Declare: which unit gets which secret');
    await machine.write(manifestPath('demo'), manifest);
    await show(machine, `cat ${manifestPath('demo')}`);
    await show(machine, 'auxcred apply');
    await machine.systemctl('enable', ...units);

    heading('3. Reboot: nothing is on the network, nobody types a password');
    const state = await machine.reboot();
    note(`the machine is ${state}; each unit found its own secret in $CREDENTIALS_DIRECTORY, the last one staged:`);
    await show(machine, 'show-secrets');
    await show(machine, 'journalctl -b -u auxcred.service -o cat | grep released');
    note('no secret is on the disk, and the sealed seed is ciphertext:');
    await show(machine, 'grep -rlF -f /run/demo/web.service/session-key /etc /usr /var /root | wc -l');
    await show(machine, 'head -n 2 /var/lib/auxcred/seeds.age | cut -c 1-60');

    heading('4. Another boot chain: PCR 7 is extended before the machine starts, as a changed Secure Boot state would');
    tpm.measured[7]?.push('bb'.repeat(32));
    await machine.shell('rm -rf /run/demo/*/*');
    const tampered = await machine.reboot();
    note(`the machine is ${tampered}; its units refuse to start, and the journal says why:`);
    await show(machine, `systemctl list-units --all --plain --no-legend ${units.join(' ')}`);
    await show(machine, 'journalctl -b -u auxcred.service -o cat | grep -E "stay closed" | tail -n 1');
    await show(machine, 'journalctl -b -u auxcred.service AUXCRED_OUTCOME=refused -o cat | sort -u | head -n 4');
    await show(machine, 'show-secrets');

    heading('5. The old boot chain again');
    tpm.measured[7]?.pop();
    await machine.reboot();
    await show(machine, 'show-secrets');
    heading(`Done in ${String(Math.round((Date.now() - started) / 1000))} s. The machine is thrown away.`);
  } finally {
    await machine.destroy();
  }
}

await main();
