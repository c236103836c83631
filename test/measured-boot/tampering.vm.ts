import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertRefused, assertServes, describeMachine } from './cases.ts';
import { MeasuredMachine } from './measured-machine.ts';

describeMachine('an image of somebody else', MeasuredMachine.sealed, (life) => {
  test('boots with another initrd and signatures for it, and the seed stays closed', async () => {
    const { machine } = life;
    await machine.boots('other-initrd');
    assert.equal(await machine.on(), 'degraded');
    await assertRefused(machine, /are by another key/);
  });

  test('and without any signature, too', async () => {
    const { machine } = life;
    await machine.off();
    await machine.boots('unsigned');
    assert.equal(await machine.on(), 'degraded');
    await assertRefused(machine, /there is no signature of PCR 11/);
  });

  test("the owner's image opens it again", async () => {
    const { machine, first } = life;
    await machine.off();
    await machine.boots('installed');
    assert.equal(await machine.on(), 'running', await machine.failed());
    await assertServes(machine, first);
  });
});
