import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { type Swtpm, startSwtpm } from '../swtpm.ts';
import { startTpmProxy } from '../tpm-proxy.ts';
import {
  command,
  commandCodes,
  createPrimary,
  failsWith,
  hex,
  leftIn,
  lockoutCounter,
  makePersistent,
  removePersistent,
  sealTo,
  secret,
  srkAttributes,
  unsealAt,
} from './sealing.ts';

const handles = { owner: 0x40000001, platform: 0x4000000c } as const;

/** TPM2_HierarchyControl by the platform (TPM 2.0 part 3, section 24.2): the owner hierarchy switched on or off. */
const ownerHierarchy = (on: boolean): Buffer => {
  const parameters = Buffer.alloc(5);
  parameters.writeUInt32BE(handles.owner);
  parameters[4] = Number(on);
  return command(commandCodes.hierarchyControl, handles.platform, parameters);
};

describe('the storage root key', () => {
  let swtpm: Swtpm;
  beforeEach(async () => {
    swtpm = await startSwtpm();
  });
  afterEach(async () => {
    await swtpm.stop();
  });

  for (const algorithm of ['ecc256:null:aes128cfb', 'rsa2048:null:aes128cfb']) {
    test(`a persistent ${algorithm} one is used, and made again if it is gone`, async () => {
      const value = secret();
      createPrimary(swtpm, algorithm);
      const name = makePersistent(swtpm);
      const sealed = await sealTo(swtpm.device, value, [7]);
      assert.equal(hex(sealed.srkName), name);
      assert.equal(hex(await unsealAt(swtpm.device, sealed)), hex(value));
      removePersistent(swtpm);
      assert.equal(hex(await unsealAt(swtpm.device, sealed)), hex(value));
      assert.equal(leftIn(swtpm), '');
    });
  }

  test('one made for a sealing is the one that an installed system stores later', async () => {
    const value = secret();
    const sealed = await sealTo(swtpm.device, value, [7]);
    createPrimary(swtpm);
    assert.equal(makePersistent(swtpm), hex(sealed.srkName));
    assert.equal(hex(await unsealAt(swtpm.device, sealed)), hex(value));
  });

  test('a persistent key that counts power cuts, or is no parent, is left alone', async () => {
    const value = secret();
    for (const [algorithm, attributes] of [
      ['ecc256:null:aes128cfb', srkAttributes.replace('|noda', '')],
      ['ecc256', 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|sign'],
    ] as const) {
      createPrimary(swtpm, algorithm, attributes);
      const name = makePersistent(swtpm);
      const sealed = await sealTo(swtpm.device, value, []);
      assert.notEqual(hex(sealed.srkName), name);
      for (let cut = 0; cut < 4; cut++) {
        assert.equal(hex(await unsealAt(swtpm.device, sealed)), hex(value));
        await swtpm.powerCut();
      }
      assert.equal(lockoutCounter(swtpm), 0);
      removePersistent(swtpm);
    }
    assert.equal(leftIn(swtpm), '');
  });

  test('if the TPM refuses the ECC template, an RSA one is made', async () => {
    const value = secret();
    let attempts = 0;
    // The first CreatePrimary finds the hierarchy switched off, the second one on again.
    const proxy = await startTpmProxy(swtpm.device, (code) =>
      code === commandCodes.createPrimary && attempts < 2 ? ownerHierarchy(attempts++ === 1) : undefined,
    );
    const rsa = 0x0001;
    try {
      const sealed = await sealTo(proxy.device, value, []);
      assert.equal(attempts, 2);
      assert.equal(Buffer.from(sealed.srkTemplate).readUInt16BE(2), rsa);
      assert.equal(hex(await unsealAt(proxy.device, sealed)), hex(value));
    } finally {
      await proxy.stop();
    }
    assert.equal(leftIn(swtpm), '');
  });

  test('an owner password is named, and a persistent SRK needs none', async () => {
    const value = secret();
    createPrimary(swtpm);
    makePersistent(swtpm);
    swtpm.tool('tpm2_changeauth', '-c', 'o', 'owner');
    const sealed = await sealTo(swtpm.device, value, [7]);
    assert.equal(hex(await unsealAt(swtpm.device, sealed)), hex(value));
    swtpm.tool('tpm2_evictcontrol', '-C', 'o', '-P', 'owner', '-c', '0x81000001');
    await assert.rejects(sealTo(swtpm.device, value, [7]), failsWith('tpm', /has a password/));
    await assert.rejects(unsealAt(swtpm.device, sealed), failsWith('tpm', /has a password/));
    assert.equal(leftIn(swtpm), '');
  });

  test('nothing is encrypted to the key of another TPM, persistent or not', async () => {
    const sealed = await sealTo(swtpm.device, secret(), []);
    const other = await startSwtpm();
    try {
      for (const persistent of [false, true]) {
        if (persistent) {
          createPrimary(other);
          makePersistent(other);
        }
        const proxy = await startTpmProxy(other.device);
        await assert.rejects(unsealAt(proxy.device, sealed), failsWith('other-tpm'));
        await proxy.stop();
        assert.ok(proxy.commands.includes(commandCodes.createPrimary));
        assert.ok(!proxy.commands.includes(commandCodes.startAuthSession));
        assert.equal(leftIn(other), '');
      }
    } finally {
      await other.stop();
    }
  });
});
