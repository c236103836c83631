import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertRefused, assertServes, describeMachine, enrollSecureBoot } from './cases.ts';
import { MeasuredMachine } from './measured-machine.ts';

describeMachine('Secure Boot', MeasuredMachine.sealed, (life) => {
  test('is enrolled after the seed was sealed: PCR 7 is another one, and the recovery key binds it', async () => {
    const { machine, first } = life;
    await enrollSecureBoot(machine);
    assert.equal(await machine.on({ secureBoot: true }), 'degraded');
    assert.match((await machine.run('bootctl status')).stdout, /Secure Boot: enabled/);
    await assertRefused(machine, /PCR 7/);
    await machine.recover();
    await assertServes(machine, first);
  });

  test('and a signed update opens the seed after that', async () => {
    const { machine, first } = life;
    await machine.off();
    await machine.boots('updated');
    assert.equal(await machine.on({ secureBoot: true }), 'running', await machine.failed());
    await assertServes(machine, first);
  });
});
