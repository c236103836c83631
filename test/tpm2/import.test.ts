import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { Failure } from '../../src/failure.ts';
import { sealForImport } from '../../src/tpm2/duplicate.ts';
import { readPresentPcrs, valuesOf } from '../../src/tpm2/pcr.ts';
import { literalPolicy, type TpmPolicy } from '../../src/tpm2/policy.ts';
import { type ImportableObject, unseal } from '../../src/tpm2/sealed-object.ts';
import { nameOfPublic, parseSrkPublic, readSrkPublic, type SrkPublic } from '../../src/tpm2/srk.ts';
import { type Swtpm, startSwtpm } from '../swtpm.ts';
import { startTpmProxy } from '../tpm-proxy.ts';
import {
  commandCodes,
  createPrimary,
  digest,
  failsWith,
  hex,
  leftIn,
  lockoutCounter,
  makePersistent,
  pcrExtend,
  removePersistent,
  secret,
  unsealAt,
  withTpm,
} from './sealing.ts';

/** What an operator has of a machine. */
const enroll = async (device: string): Promise<{ srk: SrkPublic; pcrs: ReadonlyMap<number, Uint8Array> }> =>
  await withTpm(device, async (tpm) => ({ srk: await readSrkPublic(tpm), pcrs: await readPresentPcrs(tpm) }));
async function sealFor(device: string, value: Uint8Array, pcrs: readonly number[]): Promise<ImportableObject> {
  const { srk, pcrs: known } = await enroll(device);
  return sealForImport(srk, value, literalPolicy(valuesOf(known, pcrs)));
}
/** Runs `work` with a key of this kind as the persistent SRK; passes its Name. */
async function withPersistent(swtpm: Swtpm, algorithm: string, work: (name: string) => Promise<void>): Promise<void> {
  createPrimary(swtpm, algorithm);
  const name = makePersistent(swtpm);
  try {
    await work(name);
  } finally {
    removePersistent(swtpm);
  }
}
const pcrValues = (pcrs: ReadonlyMap<number, Uint8Array>): ReadonlyMap<number, string> =>
  new Map([...pcrs].map(([pcr, value]) => [pcr, hex(value)]));
/** What tpm2-tools read. */
const pcrsByTool = (swtpm: Swtpm): ReadonlyMap<number, string> =>
  new Map(
    [...swtpm.tool('tpm2_pcrread', 'sha256').matchAll(/^ +(\d+) *: 0x([0-9A-F]{64})$/gm)].map(
      ([, pcr = '', value = '']): [number, string] => [Number(pcr), value.toLowerCase()],
    ),
  );
const algorithms = ['ecc256:null:aes128cfb', 'rsa2048:null:aes128cfb'] as const;
const flip = (bytes: Uint8Array, at: number, by = 1): Uint8Array =>
  Uint8Array.from(bytes, (byte, i) => (i === at ? byte ^ by : byte));

describe('sealed without the TPM, to its storage root key', () => {
  let swtpm: Swtpm;
  before(async () => {
    swtpm = await startSwtpm({ pcrs: { 7: [digest('a7')], 14: [digest('ae')] } });
  });
  after(async () => {
    await swtpm.stop();
  });

  for (const algorithm of algorithms)
    test(`opens with a persistent ${algorithm} key, and with one that is made again`, async () => {
      const sealed: { value: Uint8Array; object: ImportableObject }[] = [];
      await withPersistent(swtpm, algorithm, async (name) => {
        const { srk, pcrs } = await enroll(swtpm.device);
        assert.equal(hex(srk.name), name);
        for (const chosen of [[], [7], [7, 14], [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 14, 23]]) {
          const value = secret();
          sealed.push({ value, object: sealForImport(srk, value, literalPolicy(valuesOf(pcrs, chosen))) });
        }
        for (const { value, object } of sealed) assert.equal(hex(await unsealAt(swtpm.device, object)), hex(value));
      });
      for (const { value, object } of sealed) assert.equal(hex(await unsealAt(swtpm.device, object)), hex(value));
      assert.equal(leftIn(swtpm), '');
      assert.equal(lockoutCounter(swtpm), 0);
    });

  test('the key and its Name are what tpm2-tools read, the PCRs too', async () => {
    const { srk, pcrs } = await enroll(swtpm.device);
    await withPersistent(swtpm, algorithms[0], async (name) => {
      assert.equal(hex(srk.name), name);
      swtpm.tool('tpm2_readpublic', '-c', '0x81000001', '-o', 'srk.pub');
    });
    assert.equal(hex(srk.public), readFileSync(join(swtpm.folder, 'srk.pub')).toString('hex'));
    assert.equal(hex(srk.name), hex(nameOfPublic(srk.public.subarray(2))));
    assert.equal(pcrs.size, 24);
    assert.deepEqual(pcrValues(pcrs), pcrsByTool(swtpm));
  });

  test('a missing PCR is not read as another one', async () => {
    const lacking = await startSwtpm();
    try {
      lacking.tool('tpm2_pcrallocate', 'sha1:all+sha256:0,2,7,16,23');
      await lacking.powerCut();
      lacking.tool('tpm2_pcrextend', `7:sha256=${digest('a7')}`, `23:sha256=${digest('a8')}`);
      const { pcrs } = await enroll(lacking.device);
      assert.deepEqual(pcrValues(pcrs), pcrsByTool(lacking));
      assert.deepEqual([...pcrs.keys()], [0, 2, 7, 16, 23]);
      const value = secret();
      assert.equal(hex(await unsealAt(lacking.device, await sealFor(lacking.device, value, [7, 23]))), hex(value));
      await assert.rejects(sealFor(lacking.device, value, [7, 14]), failsWith('usage', /no SHA-256 value for PCR 14/));
    } finally {
      await lacking.stop();
    }
  });

  const store = (files: Readonly<Record<string, Uint8Array>>): void => {
    for (const [name, content] of Object.entries(files)) writeFileSync(join(swtpm.folder, name), content);
  };

  for (const algorithm of algorithms)
    test(`tpm2-tools import, load and unseal it with ${algorithm}`, async () => {
      const value = secret();
      await withPersistent(swtpm, algorithm, async () => {
        const object = await sealFor(swtpm.device, value, [7, 14]);
        store({ 'object.pub': object.public, 'object.dup': object.duplicate, 'object.seed': object.encryptedSeed });
        swtpm.tool(
          'tpm2_import',
          '-C',
          '0x81000001',
          '-u',
          'object.pub',
          '-i',
          'object.dup',
          '-s',
          'object.seed',
          '-r',
          'object.priv',
        );
        swtpm.tool('tpm2_load', '-C', '0x81000001', '-u', 'object.pub', '-r', 'object.priv', '-c', 'object.ctx');
        swtpm.tool('tpm2_flushcontext', '-t');
        swtpm.tool('tpm2_unseal', '-c', 'object.ctx', '-p', 'pcr:sha256:7,14', '-o', 'secret.bin');
        swtpm.tool('tpm2_flushcontext', '-t');
        assert.equal(readFileSync(join(swtpm.folder, 'secret.bin')).toString('hex'), hex(value));
        assert.match(swtpm.tool('tpm2_print', '-t', 'TPM2B_PUBLIC', 'object.pub'), /value: noda\n/);
        // Nobody gets it out again: its policy has no way to authorize that.
        swtpm.tool('tpm2_startauthsession', '--policy-session', '-S', 'duplicate.ctx');
        swtpm.tool('tpm2_policypcr', '-S', 'duplicate.ctx', '-l', 'sha256:7,14');
        const duplicate = (): string =>
          swtpm.tool(
            'tpm2_duplicate',
            '-C',
            '0x81000001',
            '-c',
            'object.ctx',
            '-G',
            'null',
            '-p',
            'session:duplicate.ctx',
            '-r',
            'again.dup',
            '-s',
            'again.seed',
          );
        assert.throws(duplicate, /Esys_Duplicate/);
        swtpm.tool('tpm2_policycommandcode', '-S', 'duplicate.ctx', 'TPM2_CC_Duplicate');
        assert.throws(duplicate, /Esys_Duplicate/);
        swtpm.tool('tpm2_flushcontext', 'duplicate.ctx');
        swtpm.tool('tpm2_flushcontext', '-t');
      });
    });

  test('another PCR value is named, and nothing stays behind', async () => {
    const value = secret();
    const object = await sealFor(swtpm.device, value, [7, 14, 16]);
    swtpm.tool('tpm2_pcrextend', `16:sha256=${digest('01')}`);
    await assert.rejects(
      unsealAt(swtpm.device, object),
      (error) =>
        failsWith('pcr-mismatch', /: PCR 16 \(sealed at 0{16}, now [0-9a-f]{16}\)$/)(error) &&
        error instanceof Failure &&
        /enroll this machine again and push/.test(error.hint ?? ''),
    );
    assert.equal(leftIn(swtpm), '');
    swtpm.tool('tpm2_pcrreset', '16');
    assert.equal(hex(await unsealAt(swtpm.device, object)), hex(value));
  });

  test('a PCR that changes between the policy and the unsealing is tried again', async () => {
    const value = secret();
    const object = await sealFor(swtpm.device, value, [7]);
    let unsealings = 0;
    const proxy = await startTpmProxy(swtpm.device, (code) =>
      code === commandCodes.unseal && unsealings++ < 2 ? pcrExtend(10) : undefined,
    );
    try {
      assert.equal(hex(await unsealAt(proxy.device, object)), hex(value));
    } finally {
      await proxy.stop();
    }
    assert.equal(proxy.commands.filter((code) => code === commandCodes.import).length, 1);
    assert.equal(leftIn(swtpm), '');
  });

  test('another TPM is asked nothing and given nothing', async () => {
    const object = await sealFor(swtpm.device, secret(), []);
    const other = await startSwtpm();
    const proxy = await startTpmProxy(other.device);
    try {
      await assert.rejects(unsealAt(proxy.device, object), failsWith('other-tpm'));
      assert.ok(
        !proxy.commands.includes(commandCodes.import) && !proxy.commands.includes(commandCodes.startAuthSession),
      );
      await proxy.stop();
      // Even with a matching Name, the seed in it is only for the first one.
      const { srk } = await enroll(other.device);
      await assert.rejects(unsealAt(other.device, { ...object, srkName: srk.name }), failsWith('malformed'));
      assert.equal(leftIn(other), '');
    } finally {
      await proxy.stop();
      await other.stop();
    }
  });

  for (const algorithm of algorithms)
    test(`what was tampered with does not open with ${algorithm}`, async () => {
      await withPersistent(swtpm, algorithm, async () => {
        const object = await sealFor(swtpm.device, secret(), [7]);
        const none: TpmPolicy = literalPolicy(new Map());
        const cases = [
          [{ duplicate: flip(object.duplicate, 10) }, 'malformed'],
          [{ duplicate: flip(object.duplicate, 60) }, 'malformed'],
          [{ duplicate: object.duplicate.slice(0, -1) }, 'malformed'],
          [{ duplicate: new Uint8Array(0) }, 'malformed'],
          [{ duplicate: Uint8Array.of(0, 0) }, 'malformed'],
          [{ encryptedSeed: flip(object.encryptedSeed, 20) }, 'malformed'],
          [{ encryptedSeed: flip(object.encryptedSeed, object.encryptedSeed.length - 1) }, 'malformed'],
          [{ encryptedSeed: Uint8Array.of(0, 0) }, 'malformed'],
          [{ encryptedSeed: Uint8Array.from([...object.encryptedSeed, 0]) }, 'malformed'],
          [{ public: flip(object.public, 1, 2) }, 'malformed'],
          [{ public: flip(object.public, 30) }, 'malformed'],
          [{ public: flip(object.public, 9, 0x02) }, 'malformed'],
          [{ public: flip(object.public, object.public.length - 1) }, 'malformed'],
          [{ srkTemplate: flip(object.srkTemplate, 7), srkName: flip(object.srkName, 3) }, 'other-tpm'],
          [{ srkName: flip(object.srkName, 5) }, 'other-tpm'],
          [{ policy: none }, 'malformed'],
          [{ policy: literalPolicy(new Map([[14, new Uint8Array(32)]])) }, 'pcr-mismatch'],
        ] as const;
        for (const [tampered, code] of cases) {
          await assert.rejects(
            unsealAt(swtpm.device, { ...object, ...tampered }),
            failsWith(code),
            `${Object.entries(tampered)
              .map(([key, value]) => `${key} ${value instanceof Uint8Array ? hex(value) : ''}`)
              .join()} ${code}`,
          );
          assert.equal(leftIn(swtpm), '');
        }
      });
    });

  for (const algorithm of algorithms)
    test(`anything else in its place is reported as damaged, with ${algorithm}`, async () => {
      await withPersistent(swtpm, algorithm, async () => {
        const object = await sealFor(swtpm.device, secret(), []);
        await withTpm(swtpm.device, async (tpm) => {
          const fields = fc.constantFrom('public', 'duplicate', 'encryptedSeed');
          await fc.assert(
            fc.asyncProperty(fields, fc.nat(), fc.integer({ min: 1, max: 255 }), async (field, at, by) => {
              await assert.rejects(
                unseal(tpm, { ...object, [field]: flip(object[field], at % object[field].length, by) }),
                failsWith('malformed'),
              );
            }),
            { numRuns: 40 },
          );
          await fc.assert(
            fc.asyncProperty(fields, fc.uint8Array({ maxLength: 300 }), async (field, bytes) => {
              await assert.rejects(unseal(tpm, { ...object, [field]: bytes }), failsWith('malformed'));
            }),
            { numRuns: 30 },
          );
        });
        assert.equal(leftIn(swtpm), '');
      });
    });

  test('the secret never crosses the bus in the clear', async () => {
    const value = secret();
    const object = await sealFor(swtpm.device, value, [7, 14]);
    for (const encrypted of [true, false]) {
      const proxy = await startTpmProxy(swtpm.device);
      try {
        assert.equal(
          hex(await withTpm(proxy.device, async (tpm) => await unseal(tpm, object, { encrypted }))),
          hex(value),
        );
        assert.equal(proxy.traffic().includes(Buffer.from(value)), !encrypted, 'the test would notice');
        assert.ok(proxy.commands.includes(commandCodes.import));
      } finally {
        await proxy.stop();
      }
    }
  });

  test('importing takes one command more than unsealing', async () => {
    await withPersistent(swtpm, algorithms[0], async () => {
      const object = await sealFor(swtpm.device, secret(), [7, 14]);
      const proxy = await startTpmProxy(swtpm.device);
      try {
        await unsealAt(proxy.device, object);
      } finally {
        await proxy.stop();
      }
      assert.ok(proxy.commands.length <= 11, proxy.commands.map((code) => code.toString(16)).join(' '));
    });
  });

  test('power cuts afterwards do not count as wrong guesses', async () => {
    const value = secret();
    const object = await sealFor(swtpm.device, value, [7, 14]);
    for (let cut = 0; cut < 2; cut++) {
      await withTpm(swtpm.device, async (tpm) => {
        assert.equal(hex(await unseal(tpm, object)), hex(value));
        await swtpm.powerCut();
      });
    }
    assert.equal(lockoutCounter(swtpm), 0);
  });

  test('two seals of one secret have nothing in common but the policy', async () => {
    const value = secret();
    const [one, other] = [await sealFor(swtpm.device, value, [7]), await sealFor(swtpm.device, value, [7])];
    for (const field of ['public', 'duplicate', 'encryptedSeed'] as const)
      assert.notEqual(hex(one[field]), hex(other[field]));
    const longest = new Uint8Array(64).fill(1);
    assert.equal(hex(await unsealAt(swtpm.device, await sealFor(swtpm.device, longest, []))), hex(longest));
    await assert.rejects(sealFor(swtpm.device, new Uint8Array(65), []), RangeError);
  });

  test('a key that is not a standard SRK, or not a key at all, is not sealed to', async () => {
    for (const algorithm of algorithms)
      await withPersistent(swtpm, algorithm, async () => {
        const { srk } = await enroll(swtpm.device);
        for (const [at, by] of [
          [3, 2],
          [5, 1],
          [7, 2],
          [9, 0x40],
          [20, 1],
        ] as const)
          assert.equal(parseSrkPublic(flip(srk.public, at, by)), undefined, String(at));
        for (const wrong of [
          srk.public.slice(0, -1),
          Uint8Array.from([...srk.public, 0]),
          new Uint8Array(0),
          flip(srk.public, 1),
        ])
          assert.equal(parseSrkPublic(wrong), undefined);
        // A template alone, a point beside the curve, an even modulus.
        for (const wrong of [srk.template, flip(srk.public, srk.public.length - 1)]) {
          const parsed = parseSrkPublic(wrong);
          assert.ok(parsed);
          assert.throws(
            () => sealForImport(parsed, secret(), literalPolicy(new Map())),
            failsWith('malformed', /the SRK is not a usable key/),
          );
        }
      });
  });
});
