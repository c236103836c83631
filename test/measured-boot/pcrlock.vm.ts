import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertRefused, assertServes, describeMachine, predictAlso, predictInstalled, sealInMachine } from './cases.ts';
import { MeasuredMachine } from './measured-machine.ts';

describeMachine('what systemd-pcrlock predicts', MeasuredMachine.installed, (life) => {
  test('opens the seed in this boot', async () => {
    const { machine } = life;
    assert.equal(await machine.on(), 'running', await machine.failed());
    await machine.run(predictInstalled);
    life.first = await sealInMachine(machine, '--with-key=tpm2 --tpm2-pcrlock=/var/lib/systemd/pcrlock.json');
  });

  test('and in the next one, whose image it was told', async () => {
    const { machine, first } = life;
    await machine.run(`${predictAlso('uki', '/efi/EFI/new/system.efi')}
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
