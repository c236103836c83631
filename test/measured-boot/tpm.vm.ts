import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertRefused, assertServes, describeMachine } from './cases.ts';
import { MeasuredMachine } from './measured-machine.ts';

describeMachine("a machine's TPM", MeasuredMachine.sealed, (life) => {
  test('is switched off in the setup: the machine boots, and the seed stays closed', async () => {
    const { machine } = life;
    assert.equal(await machine.on({ withoutTpm: true }), 'degraded');
    await assertRefused(machine, /TPM/);
    assert.equal((await machine.run('auxcred unseal', { check: false })).status, 10);
  });

  test('is cleared there: another TPM to the seed, which the recovery key seals to it', async () => {
    const { machine, first } = life;
    await machine.off();
    await machine.clearTpm();
    assert.equal(await machine.on(), 'degraded');
    await assertRefused(machine, /another TPM|was cleared/);
    assert.equal((await machine.run('auxcred unseal', { check: false })).status, 11);
    await machine.recover();
    await assertServes(machine, first);
  });

  test('and three power cuts at the moment when the seed is opened lock nothing', async () => {
    const { machine, first } = life;
    await machine.cut();
    for (let cuts = 0; cuts < 3; cuts++) {
      // The agent is up just when the first unit asks for its secret.
      await machine.begin();
      await machine.cut();
    }
    assert.equal(await machine.on(), 'running', await machine.failed());
    await assertServes(machine, first);
  });
});
