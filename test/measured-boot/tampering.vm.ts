import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { cannotBoot } from '../machine/machine.ts';
import { assertRefused, assertServes } from './cases.ts';
import { MeasuredMachine, type Probes } from './measured-machine.ts';

describe('an image of somebody else', { skip: cannotBoot }, () => {
  let machine: MeasuredMachine;
  let first: Probes;
  before(async () => {
    ({ machine, first } = await MeasuredMachine.sealed());
  });
  after(async () => {
    await machine?.[Symbol.asyncDispose]();
  });

  test('boots with another initrd and signatures for it, and the seed stays closed', async () => {
    await machine.boots('other-initrd');
    assert.equal(await machine.on(), 'degraded');
    await assertRefused(machine, /are by another key/);
  });

  test('and without any signature, too', async () => {
    await machine.off();
    await machine.boots('unsigned');
    assert.equal(await machine.on(), 'degraded');
    await assertRefused(machine, /there is no signature of PCR 11/);
  });

  test("the owner's image opens it again", async () => {
    await machine.off();
    await machine.boots('installed');
    assert.equal(await machine.on(), 'running', await machine.failed());
    await assertServes(machine, first);
  });
});
