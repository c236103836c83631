import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { parseHeader } from '../../src/age/header.ts';
import {
  type EnrolledTpm,
  encodeEnrollment,
  parseEnrollment,
  sealForHost,
  sealingFor,
} from '../../src/seeds/enrollment.ts';
import { openSeeds } from '../../src/seeds/open.ts';
import { encodePayload, type Payload, parsePayload, type Sealing } from '../../src/seeds/payload.ts';
import { policiesOf, policiesText } from '../../src/seeds/policies.ts';
import { sealPayload } from '../../src/seeds/seal.ts';
import { encodePolicy, parsePolicy } from '../../src/seeds/stanza-policy.ts';
import { parseStanza } from '../../src/seeds/tpm-stanza.ts';
import { canonicalJson } from '../../src/system/json.ts';
import { readPresentPcrs } from '../../src/tpm2/pcr.ts';
import { literalPolicy, type PcrValues, policyDigest, type TpmPolicy } from '../../src/tpm2/policy.ts';
import { seal } from '../../src/tpm2/sealed-object.ts';
import { parseSigningKey } from '../../src/tpm2/signing-key.ts';
import { readSrkPublic } from '../../src/tpm2/srk.ts';
import { type Swtpm, startSwtpm } from '../swtpm.ts';
import { entry, fingerprintOf, makeSigner, signedBy, valuesAt, writeSignatures } from '../tpm2/policies.ts';
import { digest, failsWith, withTpm } from '../tpm2/sealing.ts';

interface PolicyVectors {
  readonly policies: readonly { readonly what: string; readonly policy: string; readonly digest: string }[];
}
const vectors: PolicyVectors = JSON.parse(readFileSync('test/vectors/policies.json', 'utf8'));
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (of: Uint8Array): string => new TextDecoder().decode(of);

describe('the policy in a TPM stanza', () => {
  for (const { what, policy, digest: expected } of vectors.policies)
    test(`is that of the published vectors: ${what}`, () => {
      const parsed = parsePolicy(bytes(policy));
      assert.equal(text(encodePolicy(parsed)), policy);
      assert.equal(Buffer.from(policyDigest(parsed)).toString('hex'), expected);
    });

  test('anything else is malformed', () => {
    for (const { policy } of vectors.policies)
      for (const [from, to] of [
        ['sha256', 'sha1'],
        ['"version":1', '"version":2'],
        ['"kind":"', '"kind":"x'],
        [':"', ':"zz'],
        ['"pcrs":[', '"pcrs":[24,'],
        ['"branches":[', '"branches":[{},'],
      ] as const)
        if (policy.includes(from))
          assert.throws(
            () => parsePolicy(bytes(policy.replace(from, to))),
            failsWith('malformed'),
            `${from} in ${policy}`,
          );
    const value = 'aa'.repeat(32);
    const branches = (list: readonly unknown[]): Uint8Array =>
      bytes(canonicalJson({ version: 1, bank: 'sha256', kind: 'literal', branches: list }));
    assert.equal(parsePolicy(branches(Array(8).fill({ 7: value }))).branches.length, 8);
    for (const list of [Array(9).fill({ 7: value }), [{ 7: value }, { 4: value }], [{}]])
      assert.throws(
        () => parsePolicy(branches(list)),
        failsWith('malformed', /at most 8 sets of values of the same PCRs/),
      );
  });
});

describe('seeds under several policies', () => {
  let swtpm: Swtpm;
  let folder = '';
  const signer = makeSigner();
  const publicKey = parseSigningKey(bytes(signer.pem), 'key').spki;
  const sealing = (more: Partial<Sealing>): Sealing => ({
    withKey: 'tpm2',
    recovery: [],
    pcrs: [],
    pcrsAtFirstBoot: [],
    device: undefined,
    ...more,
  });
  const payload = (how: Sealing): Payload => ({
    counter: 1,
    scopes: [{ kind: 'host', name: 'web1', epoch: 1, seed: new Uint8Array(32).fill(7) }],
    sealing: how,
  });
  const opened = async (file: Uint8Array) =>
    await openSeeds(file, { keys: { ssh: undefined, age: undefined }, device: swtpm.device });
  const sealNatively = async (policies: readonly TpmPolicy[]): Promise<Uint8Array> =>
    await withTpm(
      swtpm.device,
      async (tpm) =>
        await sealPayload(payload(sealing({})), {
          sshHostKey: undefined,
          ageHostKey: undefined,
          tpm: { policies, seal: async (secret, policy) => await seal(tpm, secret, policy) },
        }),
    );
  const enrolled = async (more: Partial<EnrolledTpm> = {}): Promise<EnrolledTpm> =>
    await withTpm(swtpm.device, async (tpm) => ({
      device: swtpm.device,
      srk: await readSrkPublic(tpm),
      pcrs: await readPresentPcrs(tpm),
      ...more,
    }));
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'policies-'));
    swtpm = await startSwtpm({ pcrs: { 7: [digest('a7')], 11: [digest('b1')] } });
  });
  beforeEach(async () => {
    await swtpm.powerCut();
  });
  after(async () => {
    await swtpm?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  test('a sealing with a key and a prediction survives a round trip', () => {
    const how = sealing({ signed: { publicKey, pcrs: [11], signature: '/etc/signature.json' }, pcrlock: '/x.json' });
    for (const one of [
      how,
      { ...how, authorityAtFirstBoot: true, signed: { publicKey, pcrs: [11, 12], signature: undefined } },
    ])
      assert.deepEqual(parsePayload(encodePayload(payload(one))).sealing, one);
    for (const path of ['relative', '', '/a\nb'])
      assert.throws(
        () => parsePayload(encodePayload(payload({ ...how, pcrlock: path }))),
        failsWith('malformed', /absolute path/),
      );
  });

  test('the first alternative that is satisfied opens them, and a failure says why each does not', async () => {
    const now = await valuesAt(swtpm, [7]);
    const eleven = await valuesAt(swtpm, [11]);
    const file = writeSignatures(folder, [entry(signer, eleven)]);
    const literal = literalPolicy(now);
    const sealed = await sealNatively([literal, signedBy(signer, file)]);
    assert.deepEqual(
      parseHeader(sealed).stanzas.map((stanza) => parseStanza(stanza).sealed.policy.authority?.kind),
      [undefined, 'signed'],
    );
    assert.equal((await opened(sealed)).policy?.authority?.kind, 'signed');
    rmSync(file);
    assert.deepEqual((await opened(sealed)).policy, literal);
    swtpm.tool('tpm2_pcrextend', `7:sha256=${digest('77')}`);
    await assert.rejects(
      opened(sealed),
      failsWith('pcr-mismatch', /there is no signature of PCR 11.*; nor: the machine did not boot as it did.*PCR 7 /),
    );
  });

  test('an operator seals under each policy to a TPM that is elsewhere', async () => {
    const signature = writeSignatures(folder, [entry(signer, await valuesAt(swtpm, [11]))]);
    const machine = { host: 'web1', sshHostKey: undefined, tpm: await enrolled() };
    const how = sealingFor(
      { withKey: 'tpm2', pcrs: [7], signed: { publicKey, pcrs: [11], signature }, pcrlock: undefined, recipients: [] },
      machine,
    );
    const sealed = await sealForHost(payload(how), machine);
    const { policy } = await opened(sealed);
    assert.equal(
      policiesText(policy ? [policy] : []),
      `PCR 11 as signed by ${fingerprintOf(signer).slice(0, 16)}, and PCR 7`,
    );
    swtpm.tool('tpm2_pcrextend', `11:sha256=${digest('12')}`);
    await assert.rejects(opened(sealed), failsWith('pcr-mismatch', /no signature covers/));
    writeSignatures(folder, [entry(signer, await valuesAt(swtpm, [11]))]);
    await opened(sealed);
    swtpm.tool('tpm2_pcrextend', `7:sha256=${digest('77')}`);
    await assert.rejects(opened(sealed), failsWith('pcr-mismatch', /PCR 7 /));
  });

  test('a prediction is enrolled, and refused if it says too little', async () => {
    const pcrlock = {
      index: 0x1930e9e,
      name: Uint8Array.from([0, 0x0b, ...new Uint8Array(32)]),
      pcrs: [4, 7],
      file: '/p.json',
    };
    const machine = { host: 'web1', sshHostKey: undefined, tpm: await enrolled({ pcrlock }) };
    assert.deepEqual(parseEnrollment(encodeEnrollment(machine), 'web1.json'), machine);
    const how = sealing({
      pcrlock: '/var/lib/systemd/pcrlock.json',
      signed: { publicKey, pcrs: [11], signature: undefined },
    });
    const seven: PcrValues = new Map([[7, new Uint8Array(32)]]);
    const policies = policiesOf(how, { branches: [seven], pcrlock });
    assert.match(
      policiesText(policies),
      /^PCR 11 as signed by [0-9a-f]{16}, and PCR 7 or PCR 4\+7 as predicted by systemd-pcrlock \(0x1930e9e\), and PCR 7$/,
    );
    assert.equal(parseHeader(await sealForHost(payload(how), machine)).stanzas.length, 2);
    assert.throws(
      () => policiesOf(how, { branches: [], pcrlock: { ...pcrlock, pcrs: [4] } }),
      failsWith('refused', /left PCR 7 out of/),
    );
    assert.throws(
      () => policiesOf(how, { branches: [], pcrlock: undefined }),
      failsWith('not-found', /predicted nothing/),
    );
  });

  test('what is not bound yet opens without a signature', async () => {
    const machine = { host: 'web1', sshHostKey: undefined, tpm: await enrolled({ pcrs: undefined }) };
    const how = sealingFor(
      {
        withKey: 'tpm2',
        pcrs: [7],
        signed: { publicKey, pcrs: [11], signature: '/nowhere' },
        pcrlock: undefined,
        recipients: [],
      },
      machine,
    );
    assert.equal(how.authorityAtFirstBoot, true);
    const { policy } = await opened(await sealForHost(payload(how), machine));
    assert.deepEqual(policy, literalPolicy(new Map()));
  });
});
