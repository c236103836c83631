import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { cannotBoot } from '../machine/machine.ts';
import { assertRefused, assertServes, sealInMachine } from './cases.ts';
import { MeasuredMachine, type Probes } from './measured-machine.ts';

describe('literal values of what booted', { skip: cannotBoot }, () => {
  let machine: MeasuredMachine;
  let first: Probes;
  before(async () => {
    machine = await MeasuredMachine.installed();
  });
  after(async () => {
    await machine?.[Symbol.asyncDispose]();
  });

  test('get a branch for an update before it boots', async () => {
    assert.equal(await machine.on(), 'running', await machine.failed());
    first = await sealInMachine(machine, '--with-key=tpm2 --tpm2-pcrs=4+7');
    const { stderr } = await machine.run('auxcred reseal --predict=/efi/EFI/new/system.efi');
    assert.match(stderr, /branch/);
  });

  test('open with the image that was predicted', async () => {
    await machine.run('cp /efi/EFI/new/system.efi /efi/EFI/Linux/system.efi; sync');
    assert.equal(await machine.reboot(), 'running', await machine.failed());
    assert.match((await machine.run('cat /proc/cmdline')).stdout, /auxcred\.test=updated/);
    await assertServes(machine, first);
  });

  test('refuse an image that nobody signed or predicted, and name the PCR', async () => {
    await machine.off();
    await machine.boots('unsigned');
    assert.equal(await machine.on(), 'degraded');
    await assertRefused(machine, /did not boot as it did when it was sealed: PCR 4/);
    assert.equal((await machine.run('auxcred unseal', { check: false })).status, 12);
  });
});
