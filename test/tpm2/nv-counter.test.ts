import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, afterEach, before, describe, test } from 'node:test';
import { counterAt, firstCounterIndex, incrementCounter, makeCounter, readCounter } from '../../src/tpm2/nv-counter.ts';
import { readPcrs } from '../../src/tpm2/pcr.ts';
import { literalPolicy } from '../../src/tpm2/policy.ts';
import { TpmError } from '../../src/tpm2/response.ts';
import { seal, unseal } from '../../src/tpm2/sealed-object.ts';
import { indexText } from '../../src/tpm2/wire.ts';
import { type Swtpm, startSwtpm } from '../swtpm.ts';
import { startTpmProxy } from '../tpm-proxy.ts';
import {
  commandCodes,
  createPrimary,
  failsWith,
  hex,
  leftIn,
  makePersistent,
  removePersistent,
  sealTo,
  secret,
  withTpm,
} from './sealing.ts';

/** auxcred's counter as tpm2-tools show it. */
const friendly = /friendly: authwrite\|nt=0x1\|authread\|no_da\|written\n/;

describe('a counter in the TPM', () => {
  let swtpm: Swtpm;
  before(async () => {
    swtpm = await startSwtpm();
  });
  after(async () => {
    await swtpm.stop();
  });
  const indices = (): number[] =>
    [...swtpm.tool('tpm2_getcap', 'handles-nv-index').matchAll(/0x[0-9A-Fa-f]+/g)]
      .map(([index]) => Number(index))
      .filter((index) => index >>> 16 === firstCounterIndex >>> 16);
  afterEach(() => {
    for (const index of indices()) swtpm.tool('tpm2_nvundefine', '-C', 'o', indexText(index));
    assert.equal(leftIn(swtpm), '');
  });
  const make = async () => await withTpm(swtpm.device, async (tpm) => await makeCounter(tpm, undefined));
  const raise = async (index: number): Promise<void> => {
    await withTpm(swtpm.device, async (tpm) => {
      await incrementCounter(tpm, index, undefined);
    });
  };
  /** As it is read on the way to a seed. */
  const read = async (index: number, device = swtpm.device): Promise<number | undefined> => {
    const value = secret();
    return await withTpm(device, async (tpm) => {
      let found: number | undefined;
      const sealed = await seal(tpm, value, literalPolicy(await readPcrs(tpm, [])));
      assert.equal(
        hex(
          await unseal(tpm, sealed, undefined, async (session) => {
            found = await readCounter(tpm, index, session);
          }),
        ),
        hex(value),
      );
      return found;
    });
  };
  /** After an answer that is not the TPM's, the TSS gives up the connection and can flush nothing. */
  const forgetBrokenSessions = (): void => {
    for (const kind of ['-t', '-l', '-s']) swtpm.tool('tpm2_flushcontext', kind);
  };
  const readByTool = (index: number): number =>
    Number(
      `0x${Buffer.from(swtpm.tool('tpm2_nvread', '-C', indexText(index), '-s', '8', indexText(index)), 'latin1').toString('hex')}`,
    );

  test('agrees with tpm2-tools, and counts as they read', async () => {
    const { index, value } = await make();
    assert.equal(index, firstCounterIndex);
    assert.match(swtpm.tool('tpm2_nvreadpublic', indexText(index)), friendly);
    assert.equal(readByTool(index), value);
    await raise(index);
    assert.equal(readByTool(index), value + 1);
    assert.equal(await read(index), value + 1);
    swtpm.tool('tpm2_nvincrement', '-C', indexText(index), indexText(index));
    assert.equal(await read(index), value + 2);
    assert.equal(await withTpm(swtpm.device, async (tpm) => await counterAt(tpm, index, undefined)), value + 2);
  });

  test("can't be written, nor turned back by creating it again", async () => {
    const { index } = await make();
    for (let i = 0; i < 5; i++) await raise(index);
    const value = (await read(index)) ?? Number.NaN;
    assert.throws(() => swtpm.tool('tpm2_nvwrite', '-C', 'o', '-i', '/proc/version', indexText(index)));
    swtpm.tool('tpm2_nvundefine', '-C', 'o', indexText(index));
    assert.equal(await read(index), undefined);
    await assert.rejects(raise(index), failsWith('tpm', /counter 0x1a0c4ed is gone/));
    const again = await make();
    assert.equal(again.index, index);
    assert.ok(again.value > value, `${String(again.value)} after ${String(value)}`);
  });

  test("leaves existing indices alone, and mistakes none for auxcred's counter", async () => {
    swtpm.tool('tpm2_nvdefine', '-C', 'o', '-s', '8', '-a', 'authread|authwrite|no_da', indexText(firstCounterIndex));
    swtpm.tool(
      'tpm2_nvdefine',
      '-C',
      'o',
      '-s',
      '8',
      '-a',
      'authread|authwrite|ownerwrite|no_da|nt=counter',
      indexText(firstCounterIndex + 1),
    );
    swtpm.tool('tpm2_nvincrement', '-C', 'o', indexText(firstCounterIndex + 1));
    for (const index of [firstCounterIndex, firstCounterIndex + 1]) assert.equal(await read(index), undefined);
    assert.equal((await make()).index, firstCounterIndex + 2);
    assert.equal((await make()).index, firstCounterIndex + 3, "another system's counter is left to it");
  });

  test("that can't be created fails with the reason", async () => {
    createPrimary(swtpm);
    makePersistent(swtpm);
    swtpm.tool('tpm2_changeauth', '-c', 'o', 'password');
    try {
      await assert.rejects(make(), failsWith('tpm', /the owner hierarchy of this TPM, or its SRK, has a password/));
    } finally {
      swtpm.tool('tpm2_changeauth', '-c', 'o', '-p', 'password');
      removePersistent(swtpm);
    }
    for (let i = 0; i < 16; i++)
      swtpm.tool('tpm2_nvdefine', '-C', 'o', '-s', '8', '-a', 'authread|authwrite', indexText(firstCounterIndex + i));
    await assert.rejects(make(), failsWith('tpm', /all of the TPM's indices from 0x1a0c4ed on are taken/));
    for (const index of indices()) swtpm.tool('tpm2_nvundefine', '-C', 'o', indexText(index));
    const proxy = await startTpmProxy(swtpm.device, undefined, undefined, (code, response) =>
      code === commandCodes.nvDefineSpace ? failing(0x14b) : response,
    );
    try {
      await assert.rejects(
        withTpm(proxy.device, async (tpm) => await makeCounter(tpm, undefined)),
        failsWith('tpm', /no room left for a counter/),
      );
    } finally {
      await proxy.stop();
      forgetBrokenSessions();
    }
  });

  test("can't be forged by an attacker on the bus", async () => {
    const { index } = await make();
    const other = index + 1;
    swtpm.tool(
      'tpm2_nvdefine',
      '-C',
      'o',
      '-s',
      '8',
      '-a',
      'authread|authwrite|ownerwrite|no_da|nt=counter',
      indexText(other),
    );
    swtpm.tool('tpm2_nvincrement', '-C', 'o', indexText(other));
    let kept: Buffer | undefined;
    const lies: Record<string, (code: number, response: Buffer) => Buffer> = {
      'another value': (code, response) =>
        code === commandCodes.nvRead ? Buffer.from(response.map((byte, i) => (i === 20 ? byte ^ 1 : byte))) : response,
      'an answer of before': (code, response) =>
        code === commandCodes.nvRead ? (kept ??= Buffer.from(response)) : response,
      'an answer without a session': (code, response) =>
        code === commandCodes.nvRead ? Buffer.from('80010000001400000000000800000000000000ff', 'hex') : response,
      'the public area of ours': (code, response) =>
        code === commandCodes.nvReadPublic ? otherArea(response) : response,
    };
    for (const [lie, answer] of Object.entries(lies)) {
      const proxy = await startTpmProxy(swtpm.device, undefined, undefined, answer);
      try {
        if (lie === 'an answer of before') await read(index, proxy.device);
        await assert.rejects(
          read(lie === 'the public area of ours' ? other : index, proxy.device),
          (error) => failsWith('tpm')(error) || failsWith('malformed')(error) || error instanceof TpmError,
          lie,
        );
      } finally {
        await proxy.stop();
        forgetBrokenSessions();
      }
    }
    const proxy = await startTpmProxy(swtpm.device, undefined, undefined, (code, response) =>
      code === commandCodes.nvIncrement ? failing(0) : response,
    );
    try {
      await assert.rejects(
        withTpm(proxy.device, async (tpm) => {
          await incrementCounter(tpm, index, undefined);
        }),
      );
    } finally {
      await proxy.stop();
      forgetBrokenSessions();
    }
  });

  test('costs two commands per unseal', async () => {
    const { index, value } = await make();
    createPrimary(swtpm);
    makePersistent(swtpm);
    const sealed = await sealTo(swtpm.device, secret(), [7, 14]);
    const proxy = await startTpmProxy(swtpm.device);
    try {
      let found: number | undefined;
      await withTpm(proxy.device, async (tpm) => {
        await unseal(tpm, sealed, undefined, async (session) => {
          found = await readCounter(tpm, index, session);
        });
      });
      assert.equal(found, value);
      assert.ok(proxy.commands.length <= 12, proxy.commands.map((code) => code.toString(16)).join(' '));
    } finally {
      await proxy.stop();
      removePersistent(swtpm);
    }
  });
});

/** A response of nothing but a code (part 1, section 18.4). */
function failing(code: number): Buffer {
  const response = Buffer.from('80010000000a00000000', 'hex');
  response.writeUInt32BE(code, 6);
  return response;
}

/**
 * TPM2_NV_ReadPublic's answer for a counter that the owner may also write, with that attribute removed and a matching
 * Name: nothing in it is signed.
 */
function otherArea(response: Buffer): Buffer {
  const changed = Buffer.from(response);
  const area = 12;
  const length = changed.readUInt16BE(10);
  changed.writeUInt32BE(changed.readUInt32BE(area + 6) ^ 2, area + 6);
  const name = createHash('sha256')
    .update(changed.subarray(area, area + length))
    .digest();
  name.copy(changed, area + length + 4);
  return changed;
}
