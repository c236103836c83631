import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertRefused, assertServes, describeMachine, sealInMachine, signedPolicy } from './cases.ts';
import { MeasuredMachine } from './measured-machine.ts';

/** The four boots that decide most, in one machine's life. `npm run test:vm` has the others. */
describeMachine('the life of a measured machine', MeasuredMachine.installed, (life) => {
  test('it is installed, and binds its seed to the signed images of its owner', async () => {
    const { machine } = life;
    assert.equal(await machine.on(), 'running', await machine.failed());
    life.first = await sealInMachine(machine, signedPolicy);
  });

  test('with another command line under the old signatures it boots, and keeps its seed closed', async () => {
    const { machine } = life;
    await machine.off();
    await machine.boots('other-command-line');
    assert.equal(await machine.on(), 'degraded');
    assert.match((await machine.run('cat /proc/cmdline')).stdout, /auxcred\.test=tampered/);
    await assertRefused(machine, /PCR 11 has a value that no signature covers/);
  });

  test('on another TPM it boots, and the recovery key brings its secrets back', async () => {
    const { machine, first } = life;
    await machine.off();
    await machine.boots('installed');
    await machine.otherTpm();
    assert.equal(await machine.on(), 'degraded');
    await assertRefused(machine, /another TPM/);
    await machine.recover();
    await assertServes(machine, first);
  });

  test('the power is cut right after that, a signed update is booted, and every phase has its secrets', async () => {
    const { machine, first } = life;
    const before = await machine.probes();
    await machine.cut();
    await machine.boots('updated');
    assert.equal(await machine.on(), 'running', await machine.failed());
    await assertServes(machine, first);
    assert.match((await machine.run('cat /proc/cmdline')).stdout, /auxcred\.test=updated/);
    const { early, normal, late } = await machine.probes();
    const measured = [early, normal, late].map((probe) => probe?.pcrs['11']);
    assert.notEqual(measured[0], measured[2], 'the phases are measured');
    assert.notEqual(measured[2], before['late']?.pcrs['11'], 'the image is another one');
  });
});
