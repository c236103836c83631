import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { withSealingKeys } from '../../src/machine/keys.ts';
import { closedAlternatives } from '../../src/seeds/open.ts';
import type { Sealing } from '../../src/seeds/payload.ts';
import { sealPayload } from '../../src/seeds/seal.ts';
import { pathsUnder } from '../../src/system/paths.ts';
import type { TpmPolicy } from '../../src/tpm2/policy.ts';
import { parseSigningKey } from '../../src/tpm2/signing-key.ts';
import { type Swtpm, startSwtpm } from '../swtpm.ts';
import { entry, makeSigner, phaseValue, valuesAt, writeSignatures } from '../tpm2/policies.ts';
import { digest, failsWith } from '../tpm2/sealing.ts';

const machineId = 'ab'.repeat(16);
const image = digest('b1');

describe('what the bound PCRs hold decides', () => {
  let swtpm: Swtpm;
  let root = '';
  const signer = makeSigner();
  const publicKey = parseSigningKey(new TextEncoder().encode(signer.pem), 'key').spki;
  const sealing = (more: Partial<Sealing>): Sealing => ({
    withKey: 'tpm2',
    recovery: [],
    pcrs: [],
    pcrsAtFirstBoot: [],
    device: swtpm.device,
    ...more,
  });
  const sealedWith = async (how: Sealing, acceptWeak = false): Promise<{ file: Uint8Array; policies: TpmPolicy[] }> => {
    const payload = {
      counter: 1,
      scopes: [{ kind: 'host' as const, name: 'web1', epoch: 1, seed: new Uint8Array(32).fill(7) }],
      sealing: how,
    };
    return await withSealingKeys(
      pathsUnder(root),
      how,
      { sealedKey: undefined, srk: undefined, acceptWeak },
      async (locks) => ({
        file: await sealPayload(payload, locks),
        policies: [...(locks.tpm?.policies ?? [])],
      }),
    );
  };
  before(async () => {
    root = mkdtempSync(join(tmpdir(), 'binding-'));
    mkdirSync(join(root, 'etc'));
    writeFileSync(join(root, 'etc/machine-id'), `${machineId}\n`);
    swtpm = await startSwtpm({
      pcrs: {
        7: [digest('a7')],
        11: [image],
        15: [createHash('sha256').update(`machine-id:${machineId}`).digest('hex')],
      },
    });
  });
  after(async () => {
    await swtpm?.stop();
    rmSync(root, { recursive: true, force: true });
  });

  test('PCRs that nothing was measured into, or only the machine-id, are refused alone, unless they are accepted', async () => {
    for (const pcrs of [[14], [15], [4, 14, 15]]) {
      await assert.rejects(
        sealedWith(sealing({ pcrs })),
        failsWith('refused', new RegExp(`PCR ${pcrs.join('\\+')} would bind nothing`)),
      );
      assert.equal((await sealedWith(sealing({ pcrs }), true)).policies.length, 1);
      await sealedWith(sealing({ pcrs: [...pcrs, 7] }));
    }
    await sealedWith(sealing({}));
    await sealedWith(sealing({ lock: 8 }));
    await assert.rejects(
      sealedWith(sealing({ pcrs: [14], lock: 8 })),
      failsWith('refused', /PCR 14 would bind nothing/),
    );
  });

  test('so are PCRs that are signed', async () => {
    const signed = { publicKey, pcrs: [12], signature: writeSignatures(swtpm.folder, []) };
    await assert.rejects(sealedWith(sealing({ signed })), failsWith('refused', /PCR 12 would bind nothing/));
    await sealedWith(sealing({ signed: { ...signed, pcrs: [11, 12] } }));
    await sealedWith(sealing({ signed, pcrs: [7] }));
  });

  test('each alternative is tried, and the one that does not open says why', async () => {
    const eleven = await valuesAt(swtpm, [11]);
    const signature = writeSignatures(swtpm.folder, [entry(signer, eleven)]);
    const { file } = await sealedWith(sealing({ signed: { publicKey, pcrs: [11], signature }, pcrs: [7] }));
    const openers = { keys: { ssh: undefined, age: undefined }, device: swtpm.device };
    assert.deepEqual(await closedAlternatives(file, openers), []);
    writeSignatures(swtpm.folder, [entry(signer, new Map([[11, phaseValue(image, 'ready')]]))]);
    const [closed, ...more] = await closedAlternatives(file, openers);
    assert.equal(more.length, 0);
    assert.equal(closed?.policy.authority?.kind, 'signed');
    assert.match(closed.failure.message, /PCR 11 has a value that no signature covers/);
  });
});
