import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parsePcrlock, predictionSteps } from '../../src/tpm2/pcrlock.ts';
import { assertRefused, assertServes, describeMachine, sealInMachine } from './cases.ts';
import { MeasuredMachine } from './measured-machine.ts';

/** PCR 4 would fall out: systemd-pcrlock does not recognize the kernel that systemd-stub starts. */
const pcrs = '0,2,7,11';
const pcrlock = '/usr/lib/systemd/systemd-pcrlock';

/** The policy that systemd-pcrlock wrote into its index is the one that auxcred computes from pcrlock.json. */
async function assertPredicted(machine: MeasuredMachine): Promise<void> {
  const { stdout: text } = await machine.run('cat /var/lib/systemd/pcrlock.json');
  const prediction = parsePcrlock(new TextEncoder().encode(text), 'pcrlock.json');
  const index = `0x${prediction.index.toString(16)}`;
  const { stdout: written } = await machine.run(
    `TPM2TOOLS_TCTI=device:/dev/tpmrm0 tpm2_nvread -C o -s 34 ${index} | od -An -v -tx1 | tr -d ' \\n'`,
  );
  assert.equal(written, `000b${Buffer.from(predictionSteps(prediction).digest).toString('hex')}`);
}

describeMachine('what systemd-pcrlock predicts', MeasuredMachine.installed, (life) => {
  test('opens the seed in this boot', async () => {
    const { machine } = life;
    assert.equal(await machine.on(), 'running', await machine.failed());
    await machine.run(`
      for part in firmware-code firmware-config secureboot-policy gpt machine-id; do ${pcrlock} lock-$part; done
      ${pcrlock} lock-pe --pcrlock=/var/lib/pcrlock.d/630-boot-loader.pcrlock.d/loader.pcrlock /efi/EFI/BOOT/BOOTX64.EFI
      mkdir -p /var/lib/pcrlock.d/650-uki.pcrlock.d
      ${pcrlock} lock-uki --pcrlock=/var/lib/pcrlock.d/650-uki.pcrlock.d/installed.pcrlock /efi/EFI/Linux/system.efi
      ${pcrlock} make-policy --pcr=${pcrs}`);
    await assertPredicted(machine);
    life.first = await sealInMachine(machine, '--with-key=tpm2 --tpm2-pcrlock=/var/lib/systemd/pcrlock.json');
  });

  test('and in the next one, whose image it was told', async () => {
    const { machine, first } = life;
    await machine.run(`
      ${pcrlock} lock-uki --pcrlock=/var/lib/pcrlock.d/650-uki.pcrlock.d/updated.pcrlock /efi/EFI/new/system.efi
      ${pcrlock} make-policy --pcr=${pcrs}
      cp /efi/EFI/new/system.efi /efi/EFI/Linux/system.efi; sync`);
    await assertPredicted(machine);
    assert.equal(await machine.reboot(), 'running', await machine.failed());
    await assertServes(machine, first);
  });

  test('but not in one that it was not told', async () => {
    const { machine } = life;
    await machine.off();
    await machine.boots('unsigned');
    assert.equal(await machine.on(), 'degraded');
    await assertRefused(machine, /pcrlock|predict/);
  });
});
