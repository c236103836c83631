import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { parsePcrSignatures } from '../../src/tpm2/pcr-signature.ts';
import { leftOut, parsePcrlock, predictionSteps, refuseNarrow } from '../../src/tpm2/pcrlock.ts';
import { afterPcrs, type PcrValues, startDigest } from '../../src/tpm2/policy.ts';
import { parseSigningKey } from '../../src/tpm2/signing-key.ts';
import { makeSigner } from './policies.ts';
import { failsWith, hex } from './sealing.ts';

const sample = (name: string): Uint8Array =>
  new Uint8Array(readFileSync(new URL(`../../../test/vectors/measured-boot/${name}`, import.meta.url)));

describe("what a real machine's systemd wrote", () => {
  test('the signatures are by their keys, and cover three phases of PCR 11', () => {
    const signatures = parsePcrSignatures(sample('tpm2-pcr-signature.json'), 'tpm2-pcr-signature.json');
    const key = parseSigningKey(sample('pcr-system.pub'), 'pcr-system.pub');
    const initrd = parseSigningKey(sample('pcr-initrd.pub'), 'pcr-initrd.pub');
    assert.deepEqual(
      signatures.map(({ fingerprint }) => fingerprint),
      [initrd, key, key, key].map(({ fingerprint }) => fingerprint),
    );
    for (const [i, { policy, signature }] of signatures.entries())
      assert.ok(
        verify(
          'sha256',
          policy,
          createPublicKey(new TextDecoder().decode(sample(i === 0 ? 'pcr-initrd.pub' : 'pcr-system.pub'))),
          signature,
        ),
      );
    // Once the machine is up, it is in the phase that was signed last.
    const now = afterPcrs(startDigest, new Map([[11, sampleValues().get(11) ?? startDigest]]));
    assert.equal(
      signatures.findIndex(({ policy }) => hex(policy) === hex(now)),
      3,
    );
  });

  test('the prediction names the index that the machine has, and its values', () => {
    const prediction = parsePcrlock(sample('pcrlock.json'), 'pcrlock.json');
    assert.equal(prediction.index, 0x1930e9e);
    // The Name in nvHandle of the same file, which libtss2 wrote after the first write.
    assert.equal(hex(prediction.name), nameInHandle());
    assert.deepEqual(prediction.pcrs, [0, 1, 2, 3, 7, 11, 13, 14, 15]);
    assert.deepEqual(leftOut(prediction), [4, 5]);
    refuseNarrow(prediction);
    assert.throws(
      () => {
        refuseNarrow({ ...prediction, pcrs: [0, 7, 14] });
      },
      failsWith('refused', /left PCR 4 and 11 out of/),
    );
    assert.throws(
      () => {
        refuseNarrow({ ...prediction, pcrs: [4, 11] });
      },
      failsWith('refused', /left PCR 7 out of/),
    );
    for (const [pcr, values] of prediction.values)
      assert.ok(
        values.some((value) => hex(value) === hex(sampleValues().get(pcr) ?? startDigest)),
        `PCR ${String(pcr)}`,
      );
  });

  test('the steps of a prediction lead to the digest that systemd-pcrlock put into its index', () => {
    const made: { pcrlock: unknown; digest: string; name: string } = JSON.parse(
      new TextDecoder().decode(sample('pcrlock-policy.json')),
    );
    const prediction = parsePcrlock(new Uint8Array(Buffer.from(JSON.stringify(made.pcrlock))), 'pcrlock.json');
    const { steps, digest: computed } = predictionSteps(prediction);
    assert.deepEqual(
      steps.map(({ pcrs, branches }) => [pcrs.join(), branches.length]),
      [['14', 0], ...['0', '1', '2', '3'].map((pcr) => [pcr, 2])],
    );
    assert.equal(hex(computed), made.digest);
    assert.equal(hex(prediction.name), made.name);
  });

  test('other keys and files are refused', () => {
    const { privateKey } = makeSigner();
    for (const text of ['', 'no key', privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(), ecKey()])
      assert.throws(
        () => parseSigningKey(new Uint8Array(Buffer.from(text)), 'key'),
        failsWith('malformed', /^key is not a public key/),
      );
    const text = new TextDecoder().decode(sample('pcrlock.json'));
    for (const [from, to] of [
      ['sha256', 'sha1'],
      ['26414750', '26414751'],
      ['"pcr":7', '"pcr":24'],
      ['3e695b', 'XX695b'],
    ] as const)
      assert.throws(
        () => parsePcrlock(new Uint8Array(Buffer.from(text.replace(from, to))), 'f'),
        failsWith('malformed'),
      );
  });
});

const ecKey = (): string =>
  generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'pem', type: 'spki' }).toString();
const sampleValues = (): PcrValues =>
  new Map(
    new TextDecoder()
      .decode(sample('pcrs.sha256'))
      .trim()
      .split('\n')
      .map((line): [number, Uint8Array] => {
        const [pcr = '', value = ''] = line.split(' ');
        return [Number(pcr), new Uint8Array(Buffer.from(value, 'hex'))];
      }),
  );
/** The Name in a TR that Esys_TR_Serialize wrote: after the handle, as a TPM2B. */
function nameInHandle(): string {
  const { nvHandle } = JSON.parse(new TextDecoder().decode(sample('pcrlock.json'))) as { nvHandle: string };
  return Buffer.from(nvHandle, 'base64').subarray(6, 40).toString('hex');
}
