import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertRefused, assertServes, describeMachine, pushInMachine, sealInMachine } from './cases.ts';
import { MeasuredMachine } from './measured-machine.ts';

describeMachine('literal values of what booted', MeasuredMachine.installed, (life) => {
  test('get a branch for an update before it boots', async () => {
    const { machine } = life;
    assert.equal(await machine.on(), 'running', await machine.failed());
    life.first = await sealInMachine(machine, '--with-key=tpm2 --tpm2-pcrs=4+7');
    const { stderr } = await machine.run('auxcred reseal --predict=/efi/EFI/new/system.efi');
    assert.match(stderr, /sealed the seed of host\/machine to its TPM with PCR 4\+7/);
  });

  test('open with the image that was predicted', async () => {
    const { machine, first } = life;
    await machine.run('cp /efi/EFI/new/system.efi /efi/EFI/Linux/system.efi; sync');
    assert.equal(await machine.reboot(), 'running', await machine.failed());
    assert.match((await machine.run('cat /proc/cmdline')).stdout, /auxcred\.test=updated/);
    await assertServes(machine, first);
  });

  test('refuse an image that nobody signed or predicted, and name the PCR', async () => {
    const { machine } = life;
    await machine.off();
    await machine.boots('unsigned');
    assert.equal(await machine.on(), 'degraded');
    await assertRefused(machine, /in any of 2 accepted ways; in the closest: PCR 4 \(/);
    assert.equal((await machine.run('auxcred unseal', { check: false })).status, 12);
  });
});

describeMachine('a machine of a vault', MeasuredMachine.installed, (life) => {
  test('is sealed by a push to what booted', async () => {
    const { machine } = life;
    assert.equal(await machine.on(), 'running', await machine.failed());
    life.first = await pushInMachine(machine, ['with-key = "tpm2"', 'tpm2-pcrs = "4+7"']);
  });

  test('keeps its seed closed after an update that was not predicted, and is enrolled again', async () => {
    const { machine, first } = life;
    await machine.off();
    await machine.boots('updated');
    assert.equal(await machine.on(), 'degraded');
    await assertRefused(machine, /PCR 4 \(/);
    const again = `
      auxcred enroll > /root/enrollment
      auxcred enroll machine --vault=/root/vault --from=/root/enrollment
      auxcred push --vault=/root/vault --timeout=900 --reseal machine`;
    const { stderr } = await machine.run(again, { timeoutMs: 900_000 });
    assert.match(stderr, /sealed the seed of host\/machine to its TPM with PCR 4\+7/);
    await machine.run('systemctl reset-failed; systemctl restart early normal late');
    await assertServes(machine, first);
  });

  test('which opens the seed from then on', async () => {
    const { machine, first } = life;
    assert.equal(await machine.reboot(), 'running', await machine.failed());
    await assertServes(machine, first);
  });
});
