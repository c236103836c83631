/** Every cell of docs/comparison.md, on one machine that holds all sealings. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import { describeMachine, enrollSecureBoot, predictAlso, predictInstalled } from './cases.ts';
import { type Change, changes, type Outcome, type Sealing, sealings } from './comparison-page.ts';
import { MeasuredMachine, type Power } from './measured-machine.ts';

const all = sealings();
const titleOf = ({ program, name }: Sealing): string => `${program}, ${name}`;
const folderOf = (sealing: Sealing): string => `/var/lib/compared/${titleOf(sealing).replaceAll(/[ ,]+/g, '-')}`;

/** Runs auxcred with a store and pins of this sealing's own, as if it were the machine's only one. */
const inStore = (sealing: Sealing, command: string): string => {
  const folder = folderOf(sealing);
  return `unshare --mount bash -euc '
    mount --bind ${folder}/store /var/lib/auxcred; mount --bind ${folder}/pins /etc/auxcred; ${command}'`;
};

async function seal(machine: MeasuredMachine, sealing: Sealing): Promise<void> {
  const folder = folderOf(sealing);
  const { program, command } = sealing;
  await machine.run(
    program === 'auxcred'
      ? `mkdir -p ${folder}/store ${folder}/pins; ${inStore(sealing, `${command} --no-recovery`)}`
      : `mkdir -p ${folder}; echo -n secret | ${command} --name=compared - ${folder}/credential`,
  );
}

/** Tries to open each of them, two at a time since the machine has two processors. */
async function opened(machine: MeasuredMachine): Promise<Map<string, { outcome: Outcome; said: string }>> {
  const scripts = all.map((sealing, i) => {
    const open =
      sealing.program === 'auxcred'
        ? inStore(sealing, 'auxcred unseal')
        : `[ "$(systemd-creds decrypt --name=compared ${folderOf(sealing)}/credential -)" = secret ]`;
    return `cat > /run/open-${String(i)} << 'END'\n${open}\nEND`;
  });
  const { stdout } = await machine.run(`${scripts.join('\n')}
    open() { bash -eu /run/open-$1 > /dev/null 2> /run/said-$1; echo $1 $? $(cat /run/said-$1); }
    export -f open
    seq 0 ${String(all.length - 1)} | xargs -P 2 -I N bash -c 'open N'`);
  return new Map(
    [...stdout.matchAll(/^(\d+) (\d+) ?(.*)$/gm)].map(([, i, status, said = '']) => {
      const sealing = all[Number(i)];
      assert.ok(sealing, stdout);
      const isRefusal =
        sealing.program === 'auxcred'
          ? [exitStatus['pcr-mismatch'], exitStatus['other-tpm']].some((refusal) => refusal === Number(status))
          : said.includes('Failed to unseal secret using TPM2');
      assert.ok(status === '0' || isRefusal, `${titleOf(sealing)}: ${said}`);
      return [titleOf(sealing), { outcome: status === '0' ? 'opens' : 'refuses', said }];
    }),
  );
}

const resealPredicted = (entry = ''): string =>
  all
    .filter(({ name }) => name === 'predicted')
    .map((sealing) => inStore(sealing, `auxcred reseal --predict${entry}`))
    .join('\n');

/** Changes it while it is off, and switches it on. */
async function whileOff(machine: MeasuredMachine, change: () => Promise<void>, power: Power = {}): Promise<void> {
  await machine.off();
  await change();
  await machine.on(power);
}

/** What somebody with the disk can read of it, and brings along to a system of their own. */
const stolen = 'var/lib/compared var/lib/systemd etc/machine-id';

/** What the firmware and systemd-stub measured of what boots: PCR 4 and 11. */
const measuredNow = async (machine: MeasuredMachine): Promise<string[]> =>
  (await machine.run('cat /sys/class/tpm/tpm0/pcr-sha256/{4,11}')).stdout.trim().split('\n');

/** How each change is made, in the order of the machine's life. */
const making: Readonly<Record<string, (machine: MeasuredMachine) => Promise<void>>> = {
  'new kernel, prepared': async (machine) => {
    await machine.run(predictAlso('uki', '/efi/EFI/new/kernel.efi'));
    await machine.run(resealPredicted('=/efi/EFI/new/kernel.efi'));
    await machine.run('cp /efi/EFI/new/kernel.efi /efi/EFI/Linux/system.efi; sync');
    const [loaded, image] = await measuredNow(machine);
    await machine.reboot();
    const [loadedNow, imageNow] = await measuredNow(machine);
    assert.notEqual(loadedNow, loaded);
    assert.notEqual(imageNow, image);
  },
  'new boot loader, prepared': async (machine) => {
    await machine.run(predictAlso('pe', '/efi/EFI/new/loader.efi'));
    await machine.run(`for loader in BOOT/BOOTX64.EFI systemd/systemd-bootx64.efi; do
      cp /efi/EFI/new/loader.efi /efi/EFI/$loader; done; sync`);
    await machine.run(resealPredicted());
    await machine.reboot();
    assert.match((await machine.run('bootctl status')).stdout, /systemd-boot 258/);
  },
  'new command line, signed, not prepared': async (machine) => {
    await whileOff(machine, async () => {
      await machine.place(join(machine.system.folder, 'loader.efi'), 'EFI/BOOT/BOOTX64.EFI');
      await machine.boots('updated');
    });
    assert.match((await machine.run('cat /proc/cmdline')).stdout, /auxcred\.test=updated/);
  },
  "somebody else's command line": async (machine) => {
    await whileOff(machine, async () => await machine.boots('other-command-line'));
    assert.match((await machine.run('cat /proc/cmdline')).stdout, /auxcred\.test=tampered/);
  },
  'Secure Boot newly on': async (machine) => {
    await whileOff(
      machine,
      async () => {
        await machine.boots('installed');
        await enrollSecureBoot(machine);
      },
      { secureBoot: true },
    );
    assert.match((await machine.run('bootctl status')).stdout, /Secure Boot: enabled/);
  },
  'same files on another disk': async (machine) => {
    const disk = async (): Promise<string> => (await machine.run('lsblk -no PARTUUID /dev/vda')).stdout;
    const before = await disk();
    await whileOff(machine, async () => await machine.otherDisk());
    assert.notEqual(await disk(), before);
  },
  'same disk, another TPM': async (machine) => {
    await whileOff(machine, async () => {
      await machine.keepTpm();
      await machine.otherTpm();
    });
  },
  'cleared TPM': async (machine) => {
    await whileOff(machine, async () => {
      await machine.returnTpm();
      await machine.clearTpm();
    });
  },
  'nothing: every part as it was': async (machine) => {
    await whileOff(machine, async () => await machine.returnTpm());
  },
  "somebody else's root file system": async (machine) => {
    const { stdout } = await machine.run(`tar -C / -cz ${stolen} | base64`);
    await whileOff(machine, async () => await machine.otherRoot());
    assert.notEqual((await machine.run('ls /var/lib/compared', { check: false })).status, 0);
    await machine.run(`base64 -d << 'END' | tar -C / -xz\n${stdout}END`);
  },
};

describeMachine('sealings beside each other', MeasuredMachine.installed, (life) => {
  test('are all open in the boot in which they are made', async () => {
    const { machine } = life;
    await machine.place(join(machine.system.folder, 'new-kernel.efi'), 'EFI/new/kernel.efi');
    await machine.place(join(machine.system.folder, 'new-loader.efi'), 'EFI/new/loader.efi');
    await machine.on();
    await machine.run(predictInstalled);
    for (const sealing of all) await seal(machine, sealing);
    const found = await opened(machine);
    for (const sealing of all)
      assert.equal(found.get(titleOf(sealing))?.outcome, 'opens', found.get(titleOf(sealing))?.said);
  });

  test('are changed as the page says', () => {
    assert.deepEqual(
      changes()
        .map(({ title }) => title)
        .sort(),
      Object.keys(making).sort(),
    );
  });

  for (const { title, outcomes } of inOrder(changes()))
    test(title, async () => {
      await making[title]?.(life.machine);
      const found = await opened(life.machine);
      for (const [sealing, { outcome, said }] of found)
        assert.equal(outcome, outcomes.get(sealing), `${sealing}: ${said}`);
      assert.equal(found.size, outcomes.size);
    });
});

function inOrder(rows: readonly Change[]): Change[] {
  const order = Object.keys(making);
  return rows.toSorted((one, other) => order.indexOf(one.title) - order.indexOf(other.title));
}
