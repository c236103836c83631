/** Boots that measure something else than the one that sealed the seed, with logs that say what. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { firmware } from '../auxcred-machine.ts';
import type { Machine } from '../machine/machine.ts';
import { bootLoader, makeUki, read } from '../measured/images.ts';
import { bytesOf, firmwareOf, hex, logOf, type Sample } from '../measured/samples.ts';

/**
 * The logs of the samples take the place of the machine's own, and its TPM gets what they say.
 * @param call - runs auxcred
 * @param wrong - what doctor finds
 */
export async function explainOtherBoots({
  machine,
  power,
  call,
  wrong,
}: {
  readonly machine: Machine;
  readonly power: ReturnType<typeof firmware>;
  readonly call: (...args: string[]) => Promise<{ readonly stdout: string }>;
  readonly wrong: () => Promise<string>;
}): Promise<void> {
  const boots = async (sample: Sample): Promise<void> => {
    await machine.write('/root/log', bytesOf(firmwareOf(sample)));
    await machine.shell(
      'mount -t tmpfs none /sys/kernel/security; mkdir /sys/kernel/security/tpm0; ' +
        'mv /root/log /sys/kernel/security/tpm0/binary_bios_measurements',
    );
  };
  const measuredIn = (sample: Sample, into: number): string[] =>
    logOf(sample).events.flatMap(({ pcr, digests }) => (pcr === into ? [hex(digests.get('sha256'))] : []));
  power.measured[4] = measuredIn('a-boot1', 4);
  power.measured[5] = measuredIn('a-boot1', 5);
  await machine.reboot();
  await boots('a-boot1');
  await machine.run(['auxcred', 'reseal', '--tpm2-pcrs=4']);
  assert.match((await call('measured')).stdout, /^PCR 4 +38949f60265f9b41 .*; sealed, and matches$/m);

  // Before the reboot that would lock the seed.
  const scratch = mkdtempSync(join(tmpdir(), 'auxcred-uki-'));
  try {
    const { file } = makeUki(scratch, 'uki1.efi', { '.linux': read(bootLoader) });
    await machine.write('/efi/EFI/Linux/uki1.efi', read(file));
  } finally {
    rmSync(scratch, { recursive: true });
  }
  await machine.run(['auxcred', 'reseal', '--tpm2-pcrs=5']);
  await machine.write('/efi/loader/loader.conf', 'timeout 0\n');
  assert.equal(await wrong(), '');
  await machine.write('/efi/loader/loader.conf', 'timeout 5\n');
  assert.match(
    await wrong(),
    /^warning: the seed will not open at the next boot \(uki1\.efi\): PCR 5 changes \(sure: from loader\.conf, .* \[next-boot\]$/m,
  );
  assert.match((await call('status')).stdout, /^1 warning: auxcred doctor says what to do$/m);
  await machine.run(['auxcred', 'reseal', '--predict=uki1.efi']);
  assert.equal(await wrong(), '');
  const predicted = createHash('sha256').update('timeout 5\n').digest('hex');
  power.measured[5] = measuredIn('a-boot1', 5).map((digest, i) => (i === 2 ? predicted : digest));
  await machine.reboot();
  await machine.waitFor('web.service', 'active');
  assert.equal(await wrong(), '');
  await machine.shell('rm -r /efi');
  await boots('a-boot1');
  await machine.run(['auxcred', 'reseal', '--tpm2-pcrs=4']);

  power.measured[4] = measuredIn('c-secure-boot-uki2', 4);
  await machine.reboot();
  await boots('c-secure-boot-uki2');
  const change = 'the UKI \\\\EFI\\\\Linux\\\\uki2\\.efi replaces \\\\EFI\\\\Linux\\\\uki1\\.efi';
  assert.match(
    await wrong(),
    new RegExp(`^problem: PCR 4: ${change}, the kernel inside the UKI is gone \\[pcrs\\]$`, 'm'),
  );
  const { stdout } = await call('measured');
  assert.match(stdout, /^PCR 4 +6370878651952479 .*; sealed to another value$/m);
  assert.match(stdout, new RegExp(`^ +since the seal: ${change}$`, 'm'));
  // The log of the samples is not that of this TPM's other registers.
  assert.match(stdout, /^PCR 7 .*\n +the log does not account for it: it leads to 6ee73683796ed6bf$/m);
  await machine.run(['systemctl', 'restart', 'web.service'], { check: false });
  await machine.shell('auxcred reseal --identity=/root/recovery.txt --tpm2-pcrs=7+14');
  await machine.run(['systemctl', 'restart', 'web.service', 'site@blue.service']);
  assert.equal(await wrong(), '');
  delete power.measured[4];
  delete power.measured[5];
}
