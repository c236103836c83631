/** Runs the commands of docs/operations.md, as they stand there, on machines whose TPM, disk or both are gone. */
import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import { auxcredMachine, firmware, manifestPath, secretToml } from '../auxcred-machine.ts';
import { cannotBoot, type Machine } from '../machine/machine.ts';
import { systemdVersions } from '../machine/root.ts';
import { forgetProbes, probed, writeProbeUnit } from '../machine/units.ts';
import { writeNoSsh } from './pushed-host.ts';

const document = readFileSync('docs/operations.md', 'utf8');
const done = new Set<string>();

/** The command blocks below a heading, in order. */
function blocks(heading: string): string[] {
  const section = document.split(/^## /m).find((text) => text.startsWith(`${heading}\n`));
  assert.ok(section !== undefined, `docs/operations.md has no ${heading}`);
  return [...section.matchAll(/(?:^ {4}.+\n)+/gm)].map(([block]) => block.replaceAll(/^ {4}/gm, ''));
}

for (const version of systemdVersions.filter((one) => one === '257'))
  describe(`docs/operations.md on systemd ${version}`, { skip: cannotBoot }, () => {
    const power = firmware();
    const saved = mkdtempSync(join(tmpdir(), 'saved-'));
    /** The board for a new disk; a new one if there is none. */
    const board = join(saved, 'board');
    let machine: Machine;
    let other: Machine | undefined;
    const recipients = { kept: '', lost: '' };
    let expected: Readonly<Record<string, string>> = {};

    const start = async (folder: string) => {
      if (existsSync(board) && !existsSync(join(folder, 'state')))
        cpSync(board, join(folder, 'state'), { recursive: true });
      return await power.start(folder);
    };
    const shell = async (script: string): Promise<void> => {
      await machine.shell(
        `export AUXCRED_TCTI=${machine.tpm?.device ?? ''} TPM2TOOLS_TCTI=${machine.tpm?.device ?? ''}\n${script}`,
      );
    };
    /** Runs a block of the document. What goes through ssh there runs on the same machine here. */
    const follow = async (heading: string, number = 0): Promise<void> => {
      const block = blocks(heading)[number];
      assert.ok(block !== undefined, `${heading} has no block ${String(number)}`);
      done.add(block);
      await shell(
        'set -o pipefail 2>/dev/null || true\n' +
          `${block.replaceAll('age1lost...', recipients.lost).replaceAll('age1...', recipients.kept).replaceAll('ssh root@web1 ', '')}`,
      );
    };
    const startUnit = async (): Promise<number> => {
      await machine.run(['systemctl', 'stop', 'a.service', 'auxcred.service'], { check: false });
      await machine.run(['systemctl', 'reset-failed'], { check: false });
      await forgetProbes(machine);
      return (await machine.run(['systemctl', 'start', 'a.service'], { check: false })).status;
    };
    const told = async (): Promise<string> =>
      (await machine.run(['journalctl', '-b', '-u', 'auxcred.service', '-o', 'cat', '--no-pager'])).stdout;
    const received = async (): Promise<unknown> =>
      Object.fromEntries(
        Object.entries((await probed(machine, 'a.service')) ?? {}).map(([id, value]) => [id, value.toString()]),
      );
    /** The unit starts with the same secrets as before the loss, now and after a reboot. */
    const isBack = async (): Promise<void> => {
      assert.equal(await startUnit(), 0, await told());
      assert.deepEqual(await received(), expected);
    };
    const isClosed = async (why: RegExp): Promise<void> => {
      assert.notEqual(await startUnit(), 0);
      assert.deepEqual(await received(), {});
      assert.match(await told(), why);
    };
    /** A freshly installed machine: it has auxcred's program and nothing else of it. */
    const forget = async (): Promise<void> => {
      await shell(`
        rm -rf /var/lib/auxcred/* /etc/auxcred/* /etc/systemd/system/auxcred.service.d
        mkdir -p /etc/auxcred/secrets.d
        systemctl daemon-reload
        systemctl stop auxcred.service
      `);
    };
    const newBoard = async (): Promise<void> => {
      await machine.shutdown();
      rmSync(join(power.tpm?.folder ?? '', 'state'), { recursive: true });
      rmSync(board, { recursive: true, force: true });
      await machine.boot();
    };
    const declare = async (): Promise<void> => {
      await machine.write(
        manifestPath('web'),
        `${secretToml('key-a', ['a.service'])}[secret.wifi]\nkind = "fixed"\nunits = ["a.service"]\n`,
      );
    };
    const newMachine = async (): Promise<Machine> => {
      const made = await auxcredMachine({ systemd: version, name: 'web1', tpm: start });
      await writeProbeUnit(made, 'a.service', {});
      await made.boot();
      return made;
    };

    before(async () => {
      machine = await newMachine();
      const keygen = async (file: string): Promise<string> => {
        await machine.run(['age-keygen', '-o', file]);
        return (await machine.run(['age-keygen', '-y', file])).stdout.trim();
      };
      recipients.kept = await keygen('/root/recovery.txt');
      recipients.lost = await keygen('/root/lost.txt');
      await declare();
      await shell(
        `auxcred seal --with-key=tpm2 --tpm2-pcrs=7+14 --print-words --recipient=${recipients.kept} > /root/words.txt`,
      );
      await shell('printf "correct horse" | auxcred put wifi; auxcred apply; mkdir -p /mnt/backup');
      assert.equal(await startUnit(), 0, await told());
      expected = Object.fromEntries(
        Object.entries((await probed(machine, 'a.service')) ?? {}).map(([id, value]) => [id, value.toString()]),
      );
      assert.equal(expected['wifi'], 'correct horse');
      await follow('What to back up');
      for (const file of ['recovery.txt', 'words.txt']) await shell(`cp /root/${file} /mnt/`);
    });
    after(async () => {
      await machine?.destroy();
      await other?.destroy();
      rmSync(saved, { recursive: true, force: true });
    });

    test('a firmware update, prepared for and not', async () => {
      const heading = 'An update of the firmware or the boot chain';
      await follow(heading, 2);
      power.measured[7]?.push('01'.repeat(32));
      await machine.reboot();
      await isBack();
      await follow(heading, 3);
      await isBack();
      power.measured[7]?.pop();
      await machine.reboot();
      await isClosed(/did not boot as it did when it was sealed: PCR 7 \(/);
      await follow(heading, 4);
      await isBack();
      await machine.reboot();
      await isBack();
    });

    test('/var was rolled back', async () => {
      await shell(`
        cp -a /var/lib/auxcred /root/then
        printf "battery staple" | auxcred put wifi --force
        auxcred apply --no-restart
      `);
      await shell('rm -rf /var/lib/auxcred; cp -a /root/then /var/lib/auxcred');
      await isClosed(
        /the store on this disk is older than the TPM remembers: it is number \d+, and number \d+ was active/,
      );
      assert.equal((await machine.run(['auxcred', 'provision'], { check: false })).status, exitStatus.older);
      await follow('/var was put back: snapshots of btrfs, ZFS, LVM or a virtual machine');
      await isBack();
    });

    test('a recovery key was lost', async () => {
      await shell(`auxcred reseal --add-recipient=${recipients.lost} --remove-recipient=${recipients.kept}`);
      await follow('A recovery key was lost, or got into other hands');
      const opens = async (key: string): Promise<number> =>
        (await machine.run(['age', '-d', '-o', '/dev/null', '-i', key, '/var/lib/auxcred/seeds.age'], { check: false }))
          .status;
      assert.deepEqual([await opens('/root/recovery.txt'), await opens('/root/lost.txt')], [0, 1]);
      await isBack();
    });

    test('the board died: recovery key, words, vault', async () => {
      const heading = 'The TPM or the board died, or the TPM was cleared';
      for (const number of [0, 1]) {
        await newBoard();
        await isClosed(/sealed to another TPM, or this one was cleared/);
        await follow(heading, number);
        await isBack();
      }
      await machine.reboot();
      await isBack();
    });

    test('the disk died', async () => {
      const { stdout } = await machine.run([
        'sh',
        '-euc',
        'cd /mnt && tar c backup recovery.txt words.txt | base64 -w0',
      ]);
      await machine.shutdown();
      cpSync(join(power.tpm?.folder ?? '', 'state'), board, { recursive: true });
      other = machine;
      machine = await newMachine();
      await machine.write('/mnt/saved.tar', Buffer.from(stdout, 'base64'));
      await shell('cd /mnt; tar xf saved.tar; cp recovery.txt words.txt /root');
      // Since the backup, the seed was resealed to another board.
      await assert.rejects(follow('The disk died'), /sealed to another TPM/);
      await shell('auxcred reseal --accept-older --identity=/root/recovery.txt; auxcred apply');
      await isBack();
      await follow('What to back up');
      await forget();
      await follow('The disk died');
      await isBack();
      await machine.reboot();
      await isBack();
    });

    test('both died: backup, words, vault', async () => {
      for (const number of [0, 1]) {
        await forget();
        await newBoard();
        if (number === 1)
          await shell(`
            cp -a /mnt/backup/etc/auxcred/secrets.d /etc/auxcred/
            mkdir -p /var/lib/auxcred
            cp -a /mnt/backup/var/lib/auxcred/fixed /var/lib/auxcred/
          `);
        await follow('Both died', number);
        await isBack();
      }
      await forget();
      await newBoard();
      await declare();
      await shell(`
        auxcred init --recipient=${recipients.kept}
        printf "[host.web1]\\n" >> "$HOME/.local/share/auxcred/vault.toml"
        export AUXCRED_IDENTITY=/root/recovery.txt
        printf token | auxcred put host/web1/wifi
        mkdir -p /var/lib/auxcred/fixed/host
        cp -a "$HOME/.local/share/auxcred/fixed/host/web1" /var/lib/auxcred/fixed/host/
      `);
      await shell('mkdir -p /root/.config/age; cp /root/recovery.txt /root/.config/age/keys.txt');
      await follow('Both died', 2);
      assert.equal(await startUnit(), 0, await told());
      expected = Object.fromEntries(
        Object.entries((await probed(machine, 'a.service')) ?? {}).map(([id, value]) => [id, value.toString()]),
      );
      assert.equal(expected['wifi'], 'token');
      await newBoard();
      await isClosed(/sealed to another TPM, or this one was cleared/);
      await follow('The TPM or the board died, or the TPM was cleared', 2);
      await isBack();
      await newBoard();
      await isClosed(/sealed to another TPM, or this one was cleared/);
      await writeNoSsh(machine);
      // The broker that refused is still there once the push is over.
      await shell(`
        vault="$HOME/.local/share/auxcred"
        sed -i '1i ssh = ["no-ssh"]' "$vault/vault.toml"
        printf 'with-key = "tpm2"\\ntpm2-pcrs = "7+14"\\n' >> "$vault/vault.toml"
        auxcred enroll | auxcred enroll web1 --replace --from=-
        auxcred push --reseal web1
        systemctl start a.service
      `);
      assert.deepEqual(await received(), expected);
    });

    test('the ssh host key was replaced, and the counter is removed', async () => {
      await shell(`
        auxcred reseal --with-key=host
        cp /etc/ssh/ssh_host_ed25519_key /root/old_ssh_host_ed25519_key
        rm /etc/ssh/ssh_host_ed25519_key*
        ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key
      `);
      await isClosed(/none of this machine's keys opens the file/);
      await follow('The ssh host key was replaced');
      await isBack();
      await follow('The counter in the TPM');
      await shell('! tpm2_getcap handles-nv-index | grep -i 1a0c4ed');
      await isBack();
      await shell('auxcred reseal --with-key=tpm2 --tpm2-pcrs=7+14; tpm2_nvundefine -C o 0x1a0c4ed');
      await isClosed(/the TPM's counter 0x1a0c4ed can't be read/);
      // The broker that refused is still there.
      await shell('auxcred reseal --accept-older; systemctl start a.service');
      assert.deepEqual(await received(), expected);
    });

    test('every block was run', () => {
      // kernels.test.ts installs kernels, and apt.test.ts upgrades from a repository.
      const elsewhere = [
        ...blocks('An update of the firmware or the boot chain').slice(0, 2),
        ...blocks('An upgrade of auxcred'),
      ];
      for (const block of elsewhere) done.add(block);
      const all = [...document.matchAll(/^## (.+)\n/gm)].flatMap(([, heading = '']) => blocks(heading));
      assert.deepEqual(
        all.filter((block) => !done.has(block)),
        [],
      );
    });
  });
