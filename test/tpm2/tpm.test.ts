import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { parsePcrs, pcrAdvice, readPcrs } from '../../src/tpm2/pcr.ts';
import { encodeSelection, literalPolicy, policyDigest } from '../../src/tpm2/policy.ts';
import { baseCode, TpmError, tpmFailure } from '../../src/tpm2/response.ts';
import { seal, unseal } from '../../src/tpm2/sealed-object.ts';
import { openTpm, parseDevice } from '../../src/tpm2/tpm.ts';
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
  sealTo,
  secret,
  unsealAt,
  withTpm,
} from './sealing.ts';

describe('without a TPM', () => {
  test('PCR lists', () => {
    assert.deepEqual(parsePcrs('7+14'), [7, 14]);
    assert.deepEqual(parsePcrs('14+7+7+0'), [0, 7, 14]);
    assert.deepEqual(parsePcrs(''), []);
    for (const text of ['24', '-1', '7,14', 'x', '7+', '07', '1.5'])
      assert.throws(() => parsePcrs(text), failsWith('usage'), text);
  });
  test('PCRs that can not work are refused, risky ones are warned of', () => {
    assert.throws(() => pcrAdvice([7, 11]), failsWith('usage', /PCR 11 changes during boot/));
    assert.match(pcrAdvice([7])[0] ?? '', /PCR 7 alone/);
    assert.equal(pcrAdvice([12, 15]).length, 2);
    assert.deepEqual(pcrAdvice([7, 14]), []);
  });
  test('a selection is the one of TPM 2.0 part 2, section 10.6.2', () => {
    assert.equal(hex(encodeSelection([0, 7, 14, 23])), '00000001000b03814080');
  });
  test('devices', () => {
    assert.equal(parseDevice('/dev/tpmrm0'), 'device:/dev/tpmrm0');
    assert.equal(parseDevice('swtpm:path=/x'), 'swtpm:path=/x');
    assert.throws(() => parseDevice('tpmrm0'), failsWith('usage'));
  });
  test('response codes lose their parameter, handle or session number', () => {
    assert.equal(baseCode(0x99d), 0x9d);
    assert.equal(baseCode(0x1df), 0x9f);
    assert.equal(baseCode(0x128), 0x128);
    assert.equal(baseCode(0x921), 0x921);
  });
  test('response codes become failures', () => {
    const codes = {
      0x921: 'tpm-lockout',
      0x903: 'tpm',
      0x1df: 'other-tpm',
      0x9a2: 'tpm',
      0xa000a: 'no-tpm',
      0x90006: 'malformed',
      0x70018: 'tpm',
      0x101: 'tpm',
    } as const;
    for (const [code, expected] of Object.entries(codes))
      assert.ok(failsWith(expected)(tpmFailure(new TpmError('Esys_Unseal', Number(code)))), code);
    const other = new Error("not the TPM's");
    assert.equal(tpmFailure(other), other);
  });
  test('a missing device is said to be missing', async () => {
    await assert.rejects(openTpm('device:/dev/tpm-not-here'), failsWith('no-tpm', /no TPM at \/dev\/tpm-not-here/));
    await assert.rejects(openTpm('swtpm:path=/nonexistent'), failsWith('no-tpm'));
  });
});

describe('with a TPM', () => {
  let swtpm: Swtpm;
  before(async () => {
    swtpm = await startSwtpm({ pcrs: { 7: [digest('a7')], 14: [digest('ae')] } });
  });
  after(async () => {
    await swtpm.stop();
  });

  test('what is sealed comes back, with PCRs and without', async () => {
    for (const pcrs of [[], [7], [7, 14], [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 14]]) {
      const value = secret();
      assert.equal(hex(await unsealAt(swtpm.device, await sealTo(swtpm.device, value, pcrs))), hex(value));
    }
    assert.equal(leftIn(swtpm), '');
  });

  test("the policy digest is the TPM's own", async () => {
    const random = (): number[] =>
      parsePcrs(Array.from({ length: randomInt(1, 9) }, () => String(randomInt(24))).join('+'));
    for (const pcrs of [
      [7],
      [7, 14],
      [0, 23],
      [1, 2, 3, 4, 5, 6, 7, 8],
      [16, 17, 18],
      ...Array.from({ length: 8 }, random),
    ]) {
      swtpm.tool('tpm2_startauthsession', '-S', join(swtpm.folder, 'trial.ctx'));
      swtpm.tool('tpm2_policypcr', '-S', 'trial.ctx', '-l', `sha256:${pcrs.join(',')}`, '-L', 'policy.bin');
      swtpm.tool('tpm2_flushcontext', 'trial.ctx');
      const ours = await withTpm(swtpm.device, async (tpm) => policyDigest(literalPolicy(await readPcrs(tpm, pcrs))));
      assert.equal(hex(ours), readFileSync(join(swtpm.folder, 'policy.bin')).toString('hex'), String(pcrs));
    }
  });

  test('tpm2-tools unseal the same object under the same policy', async () => {
    const value = secret();
    const sealed = await sealTo(swtpm.device, value, [7, 14]);
    writeFileSync(join(swtpm.folder, 'object.pub'), sealed.public);
    writeFileSync(join(swtpm.folder, 'object.priv'), sealed.private);
    createPrimary(swtpm);
    swtpm.tool('tpm2_load', '-C', 'srk.ctx', '-u', 'object.pub', '-r', 'object.priv', '-c', 'object.ctx');
    swtpm.tool('tpm2_flushcontext', '-t');
    swtpm.tool('tpm2_unseal', '-c', 'object.ctx', '-p', 'pcr:sha256:7,14', '-o', 'secret.bin');
    swtpm.tool('tpm2_flushcontext', '-t');
    assert.equal(readFileSync(join(swtpm.folder, 'secret.bin')).toString('hex'), hex(value));
    assert.match(swtpm.tool('tpm2_print', '-t', 'TPM2B_PUBLIC', 'object.pub'), /value: fixedtpm\|fixedparent\|noda\n/);
  });

  test('a changed PCR is named, and nothing stays behind in the TPM', async () => {
    const sealed = await sealTo(swtpm.device, secret(), [7, 14, 16]);
    swtpm.tool('tpm2_pcrextend', `16:sha256=${digest('01')}`);
    await assert.rejects(
      unsealAt(swtpm.device, sealed),
      failsWith('pcr-mismatch', /: PCR 16 \(sealed at 0{16}, now [0-9a-f]{16}\)$/),
    );
    swtpm.tool('tpm2_pcrreset', '16');
    await unsealAt(swtpm.device, sealed);
    assert.equal(leftIn(swtpm), '');
  });

  test('a PCR that changes between the policy and the unsealing is tried again', async () => {
    const value = secret();
    const sealed = await sealTo(swtpm.device, value, [7]);
    let unsealings = 0;
    // A PCR outside of the policy is enough: the TPM counts the changes of all of them.
    const proxy = await startTpmProxy(swtpm.device, (code) =>
      code === commandCodes.unseal && unsealings++ < 3 ? pcrExtend(10) : undefined,
    );
    try {
      assert.equal(hex(await unsealAt(proxy.device, sealed)), hex(value));
      assert.equal(unsealings, 4);
    } finally {
      await proxy.stop();
    }
    assert.equal(leftIn(swtpm), '');
  });

  test('a PCR of the policy that changes in between ends in a mismatch', async () => {
    const sealed = await sealTo(swtpm.device, secret(), [13]);
    let unsealings = 0;
    const proxy = await startTpmProxy(swtpm.device, (code) =>
      code === commandCodes.unseal && unsealings++ === 0 ? pcrExtend(13) : undefined,
    );
    try {
      await assert.rejects(unsealAt(proxy.device, sealed), failsWith('pcr-mismatch', /: PCR 13 /));
      assert.equal(unsealings, 2);
    } finally {
      await proxy.stop();
    }
    assert.equal(leftIn(swtpm), '');
  });

  test('PCRs that keep changing end the attempts', async () => {
    const sealed = await sealTo(swtpm.device, secret(), [7]);
    let unsealings = 0;
    const proxy = await startTpmProxy(swtpm.device, (code) => {
      if (code !== commandCodes.unseal) return undefined;
      unsealings++;
      return pcrExtend(10);
    });
    try {
      await assert.rejects(unsealAt(proxy.device, sealed), failsWith('tpm', /0x128/));
      assert.equal(unsealings, 31);
    } finally {
      await proxy.stop();
    }
    assert.equal(leftIn(swtpm), '');
  });

  test('power cuts after unsealing do not count as wrong guesses', async () => {
    const value = secret();
    const sealed = await sealTo(swtpm.device, value, [7, 14]);
    for (let cut = 0; cut < 3; cut++) {
      const tpm = await openTpm(swtpm.device);
      assert.equal(hex(await unseal(tpm, sealed)), hex(value));
      await swtpm.powerCut();
      await tpm.close();
    }
    assert.equal(lockoutCounter(swtpm), 0);
    assert.equal(hex(await unsealAt(swtpm.device, sealed)), hex(value));
  });

  test('what is sealed opens even while the TPM is in lockout', async () => {
    const value = secret();
    const sealed = await sealTo(swtpm.device, value, [7]);
    createPrimary(swtpm);
    swtpm.tool('tpm2_dictionarylockout', '--setup-parameters', '--max-tries=1');
    swtpm.tool(
      'tpm2_create',
      '-C',
      'srk.ctx',
      '-G',
      'ecc256',
      '-p',
      'pin',
      '-u',
      'guessed.pub',
      '-r',
      'guessed.priv',
      '-c',
      'guessed.ctx',
    );
    swtpm.tool('tpm2_flushcontext', '-t');
    const sign = (pin: string): string =>
      swtpm.tool('tpm2_sign', '-c', 'guessed.ctx', '-p', pin, '-o', 'signature', 'guessed.pub');
    assert.throws(() => sign('wrong'));
    swtpm.tool('tpm2_flushcontext', '-t');
    assert.throws(() => sign('pin'), /lockout/);
    swtpm.tool('tpm2_flushcontext', '-t');
    assert.equal(hex(await unsealAt(swtpm.device, sealed)), hex(value));
    swtpm.tool('tpm2_dictionarylockout', '--clear-lockout');
    assert.equal(leftIn(swtpm), '');
  });

  test('another TPM is said to be another TPM', async () => {
    const sealed = await sealTo(swtpm.device, secret(), [7]);
    const other = await startSwtpm({ pcrs: { 7: [digest('a7')] } });
    try {
      await assert.rejects(unsealAt(other.device, sealed), failsWith('other-tpm'));
    } finally {
      await other.stop();
    }
  });

  test('what was tampered with does not open', async () => {
    const sealed = await sealTo(swtpm.device, secret(), [7]);
    const flip = (bytes: Uint8Array, at: number): Uint8Array =>
      Uint8Array.from(bytes, (byte, i) => (i === at ? byte ^ 1 : byte));
    const cases = [
      [{ private: flip(sealed.private, 20) }, 'other-tpm'],
      [{ public: flip(sealed.public, 30) }, 'other-tpm'],
      [{ private: sealed.private.slice(0, -1) }, 'malformed'],
      [{ private: new Uint8Array(0) }, 'malformed'],
      [{ private: Uint8Array.from([...sealed.private, 0]) }, 'malformed'],
      [{ public: Uint8Array.from([...sealed.public, 0]) }, 'malformed'],
      [{ srkTemplate: sealed.srkTemplate.slice(0, -1) }, 'malformed'],
      [{ srkTemplate: flip(sealed.srkTemplate, 7) }, 'other-tpm'],
      [{ srkName: flip(sealed.srkName, 5) }, 'other-tpm'],
      [{ policy: literalPolicy(new Map([[14, new Uint8Array(32)]])) }, 'pcr-mismatch'],
      [{ policy: literalPolicy(new Map()) }, 'malformed'],
    ] as const;
    for (const [tampered, code] of cases) {
      await assert.rejects(
        unsealAt(swtpm.device, { ...sealed, ...tampered }),
        failsWith(code),
        `${Object.keys(tampered).join()} ${code}`,
      );
      assert.equal(leftIn(swtpm), '');
    }
  });

  test('a secret too long to come back is not sealed', async () => {
    const longest = new Uint8Array(64).fill(1);
    assert.equal(hex(await unsealAt(swtpm.device, await sealTo(swtpm.device, longest, []))), hex(longest));
    await assert.rejects(sealTo(swtpm.device, new Uint8Array(65), []), RangeError);
    assert.equal(leftIn(swtpm), '');
  });

  test('the secret never crosses the bus in the clear', async () => {
    const value = secret();
    const cross = async (encrypted: boolean): Promise<boolean> => {
      const proxy = await startTpmProxy(swtpm.device);
      try {
        const sealed = await withTpm(
          proxy.device,
          async (tpm) => await seal(tpm, value, literalPolicy(await readPcrs(tpm, [7, 14])), { encrypted }),
        );
        assert.equal(
          hex(await withTpm(proxy.device, async (tpm) => await unseal(tpm, sealed, { encrypted }))),
          hex(value),
        );
        return proxy.traffic().includes(Buffer.from(value));
      } finally {
        await proxy.stop();
      }
    };
    assert.equal(await cross(true), false);
    assert.equal(await cross(false), true, 'the test would notice');
  });

  test("the TSS's own capture does not contain the secret either", async () => {
    const folder = mkdtempSync(join(tmpdir(), 'bus-'));
    const capture = join(folder, 'capture.pcap');
    process.env['TCTI_PCAP_FILE'] = capture;
    try {
      const value = secret();
      for (const encrypted of [true, false]) {
        rmSync(capture, { force: true });
        await withTpm(`pcap:${swtpm.device}`, async (tpm) => {
          const sealed = await seal(tpm, value, literalPolicy(await readPcrs(tpm, [7])), { encrypted });
          assert.equal(hex(await unseal(tpm, sealed, { encrypted })), hex(value));
        });
        assert.equal(readFileSync(capture).includes(Buffer.from(value)), !encrypted);
      }
    } finally {
      delete process.env['TCTI_PCAP_FILE'];
      rmSync(folder, { recursive: true });
    }
  });

  test('unsealing takes at most ten commands', async () => {
    createPrimary(swtpm);
    makePersistent(swtpm);
    const sealed = await sealTo(swtpm.device, secret(), [7, 14]);
    const proxy = await startTpmProxy(swtpm.device);
    try {
      await unsealAt(proxy.device, sealed);
      assert.ok(proxy.commands.length <= 10, proxy.commands.map((code) => code.toString(16)).join(' '));
    } finally {
      await proxy.stop();
      removePersistent(swtpm);
    }
  });
});
