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

  test('the firmware starts no image that nobody signed, and says so', async () => {
    const { machine } = life;
    await machine.off();
    await machine.boots('unsigned');
    await assert.rejects(
      machine.begin({ secureBoot: true }),
      /the machine can't boot: (?:Access Denied|Security Violation)/i,
    );
    assert.doesNotMatch(machine.console, /auxcred\.test=unsigned/);
  });

  test("and the owner's image boots as before", async () => {
    const { machine, first } = life;
    await machine.cut();
    await machine.boots('installed');
    assert.equal(await machine.on({ secureBoot: true }), 'running', await machine.failed());
    await assertServes(machine, first);
  });
});
