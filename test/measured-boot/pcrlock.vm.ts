import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertRefused, assertServes, describeMachine, sealInMachine } from './cases.ts';
import { MeasuredMachine } from './measured-machine.ts';

/** PCR 4 would fall out: systemd-pcrlock does not recognize the kernel that systemd-stub starts. */
const pcrs = '0,2,7,11';
const pcrlock = '/usr/lib/systemd/systemd-pcrlock';

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
    life.first = await sealInMachine(machine, '--with-key=tpm2 --tpm2-pcrlock=/var/lib/systemd/pcrlock.json');
  });

  test('and in the next one, whose image it was told', async () => {
    const { machine, first } = life;
    await machine.run(`
      ${pcrlock} lock-uki --pcrlock=/var/lib/pcrlock.d/650-uki.pcrlock.d/updated.pcrlock /efi/EFI/new/system.efi
      ${pcrlock} make-policy --pcr=${pcrs}
      cp /efi/EFI/new/system.efi /efi/EFI/Linux/system.efi; sync`);
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
