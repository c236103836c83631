import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parsePcrlock, predictionSteps } from '../../src/tpm2/pcrlock.ts';
import { assertRefused, assertServes, describeMachine, predictAlso, predictInstalled, sealInMachine } from './cases.ts';
import { MeasuredMachine } from './measured-machine.ts';

/** The policy that systemd-pcrlock wrote into its index is the one that auxcred computes from pcrlock.json. */
async function assertPredicted(machine: MeasuredMachine): Promise<void> {
  const { stdout: text } = await machine.run('cat /var/lib/systemd/pcrlock.json');
  const prediction = parsePcrlock(new TextEncoder().encode(text), 'pcrlock.json');
  const index = `0x${prediction.index.toString(16)}`;
  const { stdout: written } = await machine.run(
    `TPM2TOOLS_TCTI=device:/dev/tpmrm0 tpm2_nvread -C o -s 34 ${index} | od -An -v -tx1 | tr -d ' \\n'`,
  );
  assert.equal(written, `000b${Buffer.from(predictionSteps(prediction).digest).toString('hex')}`);
}

describeMachine('what systemd-pcrlock predicts', MeasuredMachine.installed, (life) => {
  test('opens the seed in this boot', async () => {
    const { machine } = life;
    assert.equal(await machine.on(), 'running', await machine.failed());
    await machine.run(predictInstalled);
    await assertPredicted(machine);
    life.first = await sealInMachine(machine, '--with-key=tpm2 --tpm2-pcrlock=/var/lib/systemd/pcrlock.json');
  });

  test('and in the next one, whose image it was told', async () => {
    const { machine, first } = life;
    await machine.run(`${predictAlso('uki', '/efi/EFI/new/system.efi')}
      cp /efi/EFI/new/system.efi /efi/EFI/Linux/system.efi; sync`);
    await assertPredicted(machine);
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
