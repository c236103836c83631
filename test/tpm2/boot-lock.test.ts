import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import { chooseLockPcr, lockedValue, lockPcrs, lockUntilBoot } from '../../src/tpm2/boot-lock.ts';
import { literalPolicy, type PcrValues, policyDigest, type TpmPolicy } from '../../src/tpm2/policy.ts';
import { satisfy, sessionDigest } from '../../src/tpm2/policy-session.ts';
import { type SealedObject, seal, sessionTypes, startSession } from '../../src/tpm2/sealed-object.ts';
import { findSrk } from '../../src/tpm2/srk.ts';
import { type Swtpm, startSwtpm } from '../swtpm.ts';
import { enterPhase, entry, makeSigner, phaseValue, signedBy, valuesAt, writeSignatures } from './policies.ts';
import { digest, failsWith, hex, leftIn, secret, unsealAt, withTpm } from './sealing.ts';

const image = digest('b1');
const phases = ['enter-initrd', 'leave-initrd', 'sysinit', 'ready'] as const;
const lock = 8;
const isLocked = failsWith('until-boot', /locked until the next boot \(PCR 8\)/);

describe('a lock until the next boot', () => {
  let swtpm: Swtpm;
  const value = secret();
  const signer = makeSigner();
  const sealUnder = async (policy: TpmPolicy): Promise<SealedObject> =>
    await withTpm(swtpm.device, async (tpm) => await seal(tpm, value, policy));
  const lockIt = async (pcr = lock): Promise<void> => {
    await withTpm(swtpm.device, async (tpm) => {
      await lockUntilBoot(tpm, pcr);
    });
  };
  const opens = async (sealed: SealedObject): Promise<void> => {
    assert.equal(hex(await unsealAt(swtpm.device, sealed)), hex(value));
  };
  const signed = (): TpmPolicy => {
    const entries = [2, 3, 4].map((count) =>
      entry(signer, new Map([[11, phaseValue(image, ...phases.slice(0, count))]])),
    );
    return { ...signedBy(signer, writeSignatures(swtpm.folder, entries)), lock };
  };
  /** What the machine measures until its first units start. */
  const boot = async (): Promise<void> => {
    await swtpm.powerCut();
    for (const phase of ['enter-initrd', 'leave-initrd']) enterPhase(swtpm, phase);
  };

  before(async () => {
    swtpm = await startSwtpm({ pcrs: { 4: [digest('a4')], 7: [digest('a7')], 11: [image] } });
  });
  beforeEach(boot);
  after(async () => {
    await swtpm.stop();
  });

  test('the TPM computes the same digest, and the same value once it is locked', async () => {
    const elsewhere: PcrValues = new Map([[7, new Uint8Array(32).fill(1)]]);
    const now = await valuesAt(swtpm, [7]);
    const bare: TpmPolicy = { ...literalPolicy(new Map()), lock };
    for (const policy of [bare, { ...bare, branches: [now] }, { ...bare, branches: [elsewhere, now] }, signed()]) {
      const session = await withTpm(swtpm.device, async (tpm) => {
        const started = await startSession(tpm, await findSrk(tpm), sessionTypes.policy, { encrypted: false });
        await satisfy(tpm, started, policy, '');
        return hex(await sessionDigest(tpm, started));
      });
      assert.equal(session, hex(policyDigest(policy)));
    }
    await lockIt();
    assert.equal(hex((await valuesAt(swtpm, [lock])).get(lock) ?? new Uint8Array(0)), hex(lockedValue));
    const sha1 = (): string => swtpm.tool('tpm2_pcrread', `sha1:${String(lock)}`);
    assert.doesNotMatch(sha1(), /0x0{40}/, 'in every bank');
    const once = sha1();
    await lockIt();
    assert.equal(sha1(), once, 'only once');
  });

  test('nothing opens what is sealed with it until the TPM is reset, in whichever phase', async () => {
    const now = await valuesAt(swtpm, [4, 7]);
    const elsewhere: PcrValues = new Map([...now].map(([pcr]) => [pcr, new Uint8Array(32).fill(1)]));
    const policies: TpmPolicy[] = [
      { ...literalPolicy(new Map()), lock },
      { ...literalPolicy(now), lock },
      { ...literalPolicy(now), branches: [elsewhere, now], lock },
      signed(),
    ];
    const sealed: SealedObject[] = [];
    for (const policy of policies) sealed.push(await sealUnder(policy));
    const without = await sealUnder(literalPolicy(now));
    for (const phase of [undefined, 'sysinit', 'ready']) {
      await boot();
      for (const next of ['sysinit', 'ready'].slice(0, ['sysinit', 'ready'].indexOf(phase ?? '') + 1))
        enterPhase(swtpm, next);
      for (const object of sealed) await opens(object);
      await lockIt();
      for (const object of sealed) await assert.rejects(unsealAt(swtpm.device, object), isLocked);
      enterPhase(swtpm, 'shutdown');
      for (const object of sealed.slice(0, 3)) await assert.rejects(unsealAt(swtpm.device, object), isLocked);
      await opens(without);
    }
    assert.equal(leftIn(swtpm), '');
  });

  test('what is sealed while it is locked opens at the next boot', async () => {
    await lockIt();
    const sealed = await sealUnder(signed());
    await assert.rejects(unsealAt(swtpm.device, sealed), isLocked);
    await boot();
    await opens(sealed);
  });

  test('the first PCR that nothing measured into is chosen', async () => {
    const chosen = async (known?: number, taken: readonly number[] = []): Promise<number> =>
      await withTpm(swtpm.device, async (tpm) => await chooseLockPcr(tpm, { known, taken }));
    assert.equal(await chosen(), 8);
    assert.equal(await chosen(14), 14);
    assert.equal(await chosen(undefined, [8]), 13);
    await lockIt();
    assert.equal(await chosen(), 8, 'a locked one is still its own');
    await swtpm.powerCut();
    for (const pcr of lockPcrs) {
      assert.equal(await chosen(), pcr);
      swtpm.tool('tpm2_pcrextend', `${String(pcr)}:sha256=${digest('08')}`);
    }
    await assert.rejects(chosen(), failsWith('refused', /PCR 8, 13, 14.*none is left to lock/));
  });

  test('a PCR that something else extended is named as any other', async () => {
    const sealed = await sealUnder({ ...literalPolicy(new Map()), lock });
    swtpm.tool('tpm2_pcrextend', `8:sha256=${digest('08')}`);
    await assert.rejects(unsealAt(swtpm.device, sealed), failsWith('pcr-mismatch', /PCR 8 \(sealed at 0{16}, now /));
    await assert.rejects(lockIt(), failsWith('tpm', /PCR 8 does not have the value of a lock/));
  });
});
