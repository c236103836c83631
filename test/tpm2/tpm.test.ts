import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Failure } from '../../src/failure.ts';
import { encodeSelection, parsePcrs, pcrAdvice, policyDigest, readPcrs } from '../../src/tpm2/pcr.ts';
import { baseCode } from '../../src/tpm2/response.ts';
import { seal, type SealedObject, unseal } from '../../src/tpm2/sealed-object.ts';
import { openTpm, parseDevice, type Tpm } from '../../src/tpm2/tpm.ts';
import { startSwtpm, type Swtpm } from '../swtpm.ts';
import { startTpmProxy } from '../tpm-proxy.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const failsWith = (code: string, text?: RegExp) => (error: unknown): boolean => error instanceof Failure && error.code === code && (text === undefined || text.test(error.message));
const digest = (byte: string): string => byte.repeat(32);
const secret = (): Uint8Array => new Uint8Array(randomBytes(32));

async function withTpm<T>(device: string, work: (tpm: Tpm) => Promise<T>): Promise<T> {
  const tpm = await openTpm(device);
  try {
    return await work(tpm);
  } finally {
    await tpm.close();
  }
}

const sealTo = async (device: string, value: Uint8Array, pcrs: readonly number[]): Promise<SealedObject> => await withTpm(device, async (tpm) => await seal(tpm, value, await readPcrs(tpm, pcrs)));
const unsealAt = async (device: string, sealed: SealedObject): Promise<Uint8Array> => await withTpm(device, async (tpm) => await unseal(tpm, sealed));

describe('without a TPM', () => {
  test('PCR lists', () => {
    assert.deepEqual(parsePcrs('7+14'), [7, 14]);
    assert.deepEqual(parsePcrs('14+7+7+0'), [0, 7, 14]);
    assert.deepEqual(parsePcrs(''), []);
    for (const text of ['24', '-1', '7,14', 'x', '7+', '07', '1.5']) assert.throws(() => parsePcrs(text), failsWith('usage'), text);
  });
  test('PCRs that can not work are refused, risky ones are warned of', () => {
    assert.throws(() => pcrAdvice([7, 11]), failsWith('usage', /PCR 11 changes while the machine boots/));
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
  test('response codes lose what they complain about', () => {
    assert.equal(baseCode(0x99d), 0x9d);
    assert.equal(baseCode(0x1df), 0x9f);
    assert.equal(baseCode(0x128), 0x128);
    assert.equal(baseCode(0x921), 0x921);
  });
  test('a missing device is said to be missing', async () => {
    await assert.rejects(openTpm('device:/dev/tpm-not-here'), failsWith('no-tpm', /no TPM at \/dev\/tpm-not-here/));
    await assert.rejects(openTpm('swtpm:path=/nonexistent'), failsWith('no-tpm'));
  });
});

describe('with a TPM', () => {
  let swtpm: Swtpm;
  before(async () => { swtpm = await startSwtpm({ pcrs: { 7: [digest('a7')], 14: [digest('ae')] } }); });
  after(async () => { await swtpm.stop(); });

  const loaded = (): string => ['handles-transient', 'handles-loaded-session', 'handles-saved-session'].map((kind) => swtpm.tool('tpm2_getcap', kind)).join('');
  const lockoutCounter = (): number => Number(/TPM2_PT_LOCKOUT_COUNTER: (0x[0-9A-Fa-f]+)/.exec(swtpm.tool('tpm2_getcap', 'properties-variable'))?.[1]);

  /** The SRK as systemd and tpm2-tools make it, in srk.ctx. */
  const createSrk = (): void => {
    swtpm.tool('tpm2_createprimary', '-C', 'o', '-G', 'ecc256:null:aes128cfb', '-a', 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt', '-c', 'srk.ctx');
    swtpm.tool('tpm2_flushcontext', '-t');
  };

  test('what is sealed comes back, with PCRs and without', async () => {
    for (const pcrs of [[], [7], [7, 14], [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 14]]) {
      const value = secret();
      assert.equal(hex(await unsealAt(swtpm.device, await sealTo(swtpm.device, value, pcrs))), hex(value));
    }
    assert.equal(loaded(), '');
  });

  test('the policy digest is the TPM\'s own', async () => {
    for (const pcrs of [[7], [7, 14], [0, 23], [1, 2, 3, 4, 5, 6, 7, 8], [16, 17, 18]]) {
      swtpm.tool('tpm2_startauthsession', '-S', join(swtpm.folder, 'trial.ctx'));
      swtpm.tool('tpm2_policypcr', '-S', 'trial.ctx', '-l', `sha256:${pcrs.join(',')}`, '-L', 'policy.bin');
      swtpm.tool('tpm2_flushcontext', 'trial.ctx');
      const ours = await withTpm(swtpm.device, async (tpm) => policyDigest(await readPcrs(tpm, pcrs)));
      assert.equal(hex(ours), readFileSync(join(swtpm.folder, 'policy.bin')).toString('hex'), String(pcrs));
    }
  });

  test('tpm2-tools unseal the same object under the same policy', async () => {
    const value = secret();
    const sealed = await sealTo(swtpm.device, value, [7, 14]);
    writeFileSync(join(swtpm.folder, 'object.pub'), sealed.public);
    writeFileSync(join(swtpm.folder, 'object.priv'), sealed.private);
    createSrk();
    swtpm.tool('tpm2_load', '-C', 'srk.ctx', '-u', 'object.pub', '-r', 'object.priv', '-c', 'object.ctx');
    swtpm.tool('tpm2_flushcontext', '-t');
    swtpm.tool('tpm2_unseal', '-c', 'object.ctx', '-p', 'pcr:sha256:7,14', '-o', 'secret.bin');
    swtpm.tool('tpm2_flushcontext', '-t');
    assert.equal(readFileSync(join(swtpm.folder, 'secret.bin')).toString('hex'), hex(value));
    assert.match(swtpm.tool('tpm2_print', '-t', 'TPM2B_PUBLIC', 'object.pub'), /value: fixedtpm\|fixedparent\|noda\n/);
  });

  test('the persistent SRK is taken where there is one, and found again where it is gone', async () => {
    const value = secret();
    const before = await sealTo(swtpm.device, value, [7]);
    swtpm.tool('tpm2_evictcontrol', '-C', 'o', '-c', 'srk.ctx', '0x81000001');
    swtpm.tool('tpm2_flushcontext', '-t');
    const during = await sealTo(swtpm.device, value, [7]);
    assert.equal(hex(during.srkName), hex(before.srkName));
    assert.equal(hex(await unsealAt(swtpm.device, before)), hex(value));
    swtpm.tool('tpm2_evictcontrol', '-C', 'o', '-c', '0x81000001');
    assert.equal(hex(await unsealAt(swtpm.device, during)), hex(value));
    assert.equal(loaded(), '');
  });

  test('a persistent key that is not the SRK is not sealed to', async () => {
    const value = secret();
    const sealed = await sealTo(swtpm.device, value, []);
    swtpm.tool('tpm2_createprimary', '-C', 'o', '-G', 'rsa2048', '-c', 'other.ctx');
    swtpm.tool('tpm2_flushcontext', '-t');
    swtpm.tool('tpm2_evictcontrol', '-C', 'o', '-c', 'other.ctx', '0x81000001');
    swtpm.tool('tpm2_flushcontext', '-t');
    assert.equal(hex(await unsealAt(swtpm.device, sealed)), hex(value));
    swtpm.tool('tpm2_evictcontrol', '-C', 'o', '-c', '0x81000001');
  });

  test('a changed PCR is named, and nothing stays behind in the TPM', async () => {
    const sealed = await sealTo(swtpm.device, secret(), [7, 14, 16]);
    swtpm.tool('tpm2_pcrextend', `16:sha256=${digest('01')}`);
    await assert.rejects(unsealAt(swtpm.device, sealed), failsWith('pcr-mismatch', /: PCR 16 \(sealed at 0{16}, now [0-9a-f]{16}\)$/));
    swtpm.tool('tpm2_pcrreset', '16');
    await unsealAt(swtpm.device, sealed);
    assert.equal(loaded(), '');
  });

  test('a PCR that changes between the policy and the unsealing is tried again', async () => {
    const value = secret();
    const sealed = await sealTo(swtpm.device, value, [7]);
    let unsealings = 0;
    // A PCR outside of the policy is enough: the TPM counts the changes of all of them.
    const proxy = await startTpmProxy(swtpm.device, (code) => (code === commandCodes.unseal && unsealings++ < 3 ? pcrExtend(10) : undefined));
    try {
      assert.equal(hex(await unsealAt(proxy.device, sealed)), hex(value));
      assert.equal(unsealings, 4);
    } finally {
      await proxy.stop();
    }
    assert.equal(loaded(), '');
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
    assert.equal(lockoutCounter(), 0);
    assert.equal(hex(await unsealAt(swtpm.device, sealed)), hex(value));
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
    const flip = (bytes: Uint8Array, at: number): Uint8Array => Uint8Array.from(bytes, (byte, i) => (i === at ? byte ^ 1 : byte));
    for (const tampered of [{ private: flip(sealed.private, 20) }, { public: flip(sealed.public, 30) }, { private: sealed.private.slice(0, -1) }, { public: Uint8Array.from([...sealed.public, 0]) }, { private: new Uint8Array(0) }, { srkTemplate: flip(sealed.srkTemplate, 9) }, { srkName: flip(sealed.srkName, 5) }]) {
      await assert.rejects(unsealAt(swtpm.device, { ...sealed, ...tampered }), Failure);
    }
    assert.equal(loaded(), '');
  });

  test('the secret never crosses the bus in the clear', async () => {
    const value = secret();
    const cross = async (encrypted: boolean): Promise<boolean> => {
      const proxy = await startTpmProxy(swtpm.device);
      try {
        const sealed = await withTpm(proxy.device, async (tpm) => await seal(tpm, value, await readPcrs(tpm, [7, 14]), { encrypted }));
        assert.equal(hex(await withTpm(proxy.device, async (tpm) => await unseal(tpm, sealed, { encrypted }))), hex(value));
        return proxy.traffic().includes(Buffer.from(value));
      } finally {
        await proxy.stop();
      }
    };
    assert.equal(await cross(true), false);
    assert.equal(await cross(false), true, 'the test would notice');
  });

  test('the TSS\'s own capture does not hold the secret either', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'bus-'));
    const capture = join(folder, 'capture.pcap');
    process.env['TCTI_PCAP_FILE'] = capture;
    try {
      const value = secret();
      for (const encrypted of [true, false]) {
        rmSync(capture, { force: true });
        await withTpm(`pcap:${swtpm.device}`, async (tpm) => {
          const sealed = await seal(tpm, value, await readPcrs(tpm, [7]), { encrypted });
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
    createSrk();
    swtpm.tool('tpm2_evictcontrol', '-C', 'o', '-c', 'srk.ctx', '0x81000001');
    const sealed = await sealTo(swtpm.device, secret(), [7, 14]);
    const proxy = await startTpmProxy(swtpm.device);
    try {
      await unsealAt(proxy.device, sealed);
      assert.ok(proxy.commands.length <= 10, proxy.commands.map((code) => code.toString(16)).join(' '));
    } finally {
      await proxy.stop();
      swtpm.tool('tpm2_evictcontrol', '-C', 'o', '-c', '0x81000001');
    }
  });
});

const commandCodes = { unseal: 0x15e, pcrExtend: 0x182 } as const;

/** TPM2_PCR_Extend with an empty password (TPM 2.0 part 3, section 22.2), as it goes over the wire. */
function pcrExtend(pcr: number): Buffer {
  const body = Buffer.concat([
    Buffer.from([0, 0, 0, pcr, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0]),
    Buffer.from([0, 0, 0, 1, 0, 0x0b]), Buffer.alloc(32, 1),
  ]);
  const header = Buffer.alloc(10);
  header.writeUInt16BE(0x8002);
  header.writeUInt32BE(10 + body.length, 2);
  header.writeUInt32BE(commandCodes.pcrExtend, 6);
  return Buffer.concat([header, body]);
}
