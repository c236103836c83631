/** What an answer proves: a real boot's log in a real TPM, and everything that somebody may change about it. */
import assert from 'node:assert/strict';
import { generateKeyPairSync, sign, X509Certificate } from 'node:crypto';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { challengeAge, challengeTo, type Expected } from '../../src/attestation/challenge.ts';
import { checkedCertificate } from '../../src/attestation/ek-certificate.ts';
import {
  type Answer,
  type Endorsement,
  encodeAnswer,
  encodeChallenge,
  encodeStatement,
  parseAnswer,
  parseChallenge,
  parseStatement,
  quotedPcrs,
  type Statement,
} from '../../src/attestation/messages.ts';
import { attestationPolicyOf } from '../../src/attestation/policy.ts';
import { prove } from '../../src/attestation/proof.ts';
import { requireAttested, type Verdict, verdictOn } from '../../src/attestation/verdict.ts';
import { utf8 } from '../../src/bytes.ts';
import { Failure } from '../../src/failure.ts';
import { answerTo, statementOf } from '../../src/machine/attesting.ts';
import { pathsUnder } from '../../src/system/paths.ts';
import { createAk } from '../../src/tpm2/attestation-key.ts';
import { lockUntilBoot } from '../../src/tpm2/boot-lock.ts';
import { certify, quote } from '../../src/tpm2/quote.ts';
import { readSrkPublic, type SrkPublic } from '../../src/tpm2/srk.ts';
import { openTpm, type Tpm } from '../../src/tpm2/tpm.ts';
import { u16 } from '../../src/tpm2/wire.ts';
import { bytesOf, firmwareOf, sampleFile, userspaceOf } from '../measured/samples.ts';
import { type CertifiedTpm, measure, startCertifiedTpm } from './attested-tpm.ts';

const sample = 'c-secure-boot-uki2';
const host = 'web1';
const folder = mkdtempSync(join(tmpdir(), 'proof-'));
const paths = pathsUnder(folder);
let [certified, other]: CertifiedTpm[] = [];
let statement: Statement;
let srk: SrkPublic;
let expected: Expected;
let answer: Answer;
let endorsement: Endorsement;

async function within<T>({ tpm: { device } }: CertifiedTpm, work: (tpm: Tpm) => Promise<T>): Promise<T> {
  const tpm = await openTpm(device);
  try {
    return await work(tpm);
  } finally {
    await tpm.close();
  }
}

const given = (tpm: CertifiedTpm | undefined): CertifiedTpm => {
  assert.ok(tpm);
  return tpm;
};

before(async () => {
  [certified, other] = await Promise.all([startCertifiedTpm(sample), startCertifiedTpm(sample)]);
  for (const [from, to] of [
    [firmwareOf(sample), paths.firmwareLog],
    [userspaceOf(sample), paths.userspaceLog],
    [sampleFile(sample, 'tpm2-pcr-signature.json'), join(folder, 'run/systemd/tpm2-pcr-signature.json')],
  ] as const) {
    mkdirSync(dirname(to), { recursive: true });
    copyFileSync(from, to);
  }
  const { device } = given(certified).tpm;
  // Each message goes through its line, as between two machines.
  statement = parseStatement(encodeStatement(await statementOf(device)), host);
  endorsement = statement;
  srk = await within(given(certified), readSrkPublic);
  const made = challengeTo(host, endorsement, statement);
  expected = made.expected;
  const challenge = parseChallenge(encodeChallenge(made.challenge), 'challenge');
  answer = parseAnswer(encodeAnswer(await answerTo(challenge, paths, device)), host);
});
after(async () => {
  await certified?.tpm.stop();
  await other?.tpm.stop();
  rmSync(folder, { recursive: true });
});

const proven = (changes: Partial<Answer> = {}, expects: Partial<Expected> = {}): unknown =>
  prove(host, { ...answer, ...changes }, { ...expected, ...expects }, { srk, now: expects.since ?? expected.since });
const refused = (message: RegExp, changes: Partial<Answer>, expects: Partial<Expected> = {}): void => {
  assert.throws(
    () => proven(changes, expects),
    (error) => error instanceof Failure && error.code === 'refused' && message.test(error.message),
  );
};

const policyOf = (text: string): ReturnType<typeof attestationPolicyOf> =>
  attestationPolicyOf(utf8(text), sampleFile(sample, 'attestation.toml'));
const judged = (policy: string, changes: Partial<Answer> = {}, issuers = issuerChain()): Verdict =>
  verdictOn(
    { ...answer, ...changes },
    expected,
    { host, endorsement, srk, policy: policyOf(policy), issuers },
    expected.since,
  );
const issuerChain = (): X509Certificate[] =>
  [given(certified).issuer, given(certified).root].map((pem) => new X509Certificate(pem));
const resultOf = ({ checks }: Verdict, name: string): string | undefined =>
  checks.find((check) => check.name === name)?.result;
const textOf = ({ checks }: Verdict, name: string): string => checks.find((check) => check.name === name)?.text ?? '';

describe('an answer', () => {
  test('proves the PCRs of its machine, and its log accounts for all of them', () => {
    const { pcrs, unexplained, log } = prove(host, answer, expected, { srk, now: Date.now() });
    assert.equal(pcrs.size, 16);
    assert.deepEqual(unexplained, []);
    assert.ok(log && log.events.length > 30);
  });

  test('is refused after ten minutes, and before its challenge', () => {
    for (const [now, text] of [
      [expected.since + challengeAge + 1, /stale: it was made 10 minutes ago/],
      [expected.since - 1, /the clock here has gone back/],
    ] as const)
      assert.throws(() => prove(host, answer, expected, { srk, now }), text);
  });

  test('is refused for another challenge: a replay', () => {
    const { expected: next } = challengeTo(host, endorsement, statement);
    refused(/the quote answers another challenge: it is a replay/, {}, next);
  });

  test('is refused if an event of its log is changed, left out or added', () => {
    const { firmwareLog, userspaceLog } = answer;
    assert.ok(firmwareLog && userspaceLog);
    // A digest of the last event of the firmware, which is in PCR 5.
    const at = Buffer.from(firmwareLog).lastIndexOf(Buffer.from('0b00', 'hex')) + 2;
    const changed = firmwareLog.map((byte, i) => (i === at ? byte ^ 1 : byte));
    refused(/its log does not lead to PCR 5: it was altered, or is of another boot/, { firmwareLog: changed });
    refused(/does not lead to PCR 11, PCR 15/, { userspaceLog: undefined });
    refused(/does not lead to PCR 11/, {
      userspaceLog: userspaceLog.slice(Buffer.from(userspaceLog).indexOf(0x1e, 1)),
    });
    refused(/does not lead to PCR 0, .*PCR 7/, { firmwareLog: bytesOf(firmwareOf('a-boot1')) });
  });

  test('is refused with PCR values that were not quoted', () => {
    const pcrs = new Map([...answer.pcrs, [4, new Uint8Array(32)]]);
    refused(/the PCR values that it sent are not those that its TPM quoted/, { pcrs });
  });

  test("is refused with another machine's quote", async () => {
    const theirs = await within(
      given(other),
      async (tpm) => await quote(tpm, (await createAk(tpm)).handle, expected.nonce, quotedPcrs),
    );
    refused(/the quote is not signed by the key .*: another machine made it/, { quote: theirs });
  });

  test('is refused with a quote over other PCRs', async () => {
    const fewer = await within(
      given(certified),
      async (tpm) => await quote(tpm, (await createAk(tpm)).handle, expected.nonce, quotedPcrs.slice(0, 8)),
    );
    refused(/the quote does not cover exactly PCR 0 to 15/, { quote: fewer });
  });

  test('is refused with a signature that is wrong, damaged, or of a key outside', () => {
    const { attest, signature } = answer.quote;
    const wrong = signature.map((byte, i) => (i === signature.length - 1 ? byte ^ 1 : byte));
    refused(/the signature of the quote is wrong/, { quote: { attest, signature: wrong } });
    refused(/the signature of the quote is wrong/, { quote: { attest, signature: signature.slice(0, 9) } });
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const own = sign('sha256', attest, { key: privateKey, dsaEncoding: 'ieee-p1363' });
    const [r, s] = [own.subarray(0, 32), own.subarray(32)];
    const forged = Uint8Array.from([...signature.subarray(0, 4), ...u16(32), ...r, ...u16(32), ...s]);
    refused(/the signature of the quote is wrong/, { quote: { attest, signature: forged } });
    refused(/the quote is not a TPM's statement/, { quote: { attest: attest.slice(1), signature } });
  });

  test('is refused if the certification stands in for the quote', () => {
    refused(/the quote is a statement of another kind/, { quote: answer.srk });
    refused(/the certification of its SRK is of another kind/, { srk: answer.quote });
  });

  test('is refused if the credential did not open: the attestation key is elsewhere', () => {
    refused(/its attestation key is not in the TPM that it is enrolled with/, { secret: new Uint8Array(32) });
  });

  test('is refused for an SRK that is not in the attested TPM', async () => {
    const theirs = await within(given(other), readSrkPublic);
    assert.throws(
      () => prove(host, answer, expected, { srk: theirs, now: expected.since }),
      /the SRK that seeds would be sealed to is not in the attested TPM/,
    );
    const ek = await within(given(certified), async (tpm) => {
      const ak = await createAk(tpm);
      return await certify(tpm, ak.handle, expected.nonce, ak.handle);
    });
    refused(/the SRK that seeds would be sealed to is not in the attested TPM/, { srk: ek });
  });

  test('of another machine is not asked for, and its TPM does not answer for this one', async () => {
    const { device } = given(other).tpm;
    const theirs = await statementOf(device);
    assert.throws(
      () => challengeTo(host, endorsement, theirs),
      /does not have the endorsement key that it is enrolled with/,
    );
    const { challenge } = challengeTo(host, endorsement, statement);
    await assert.rejects(answerTo(challenge, paths, device), /the challenge is for another TPM/);
  });
});

describe('a verdict', () => {
  const digest = (): string =>
    new X509Certificate(bytesOf(sampleFile(sample, 'db.crt'))).fingerprint256.replaceAll(':', '').toLowerCase();

  test('accepts what the authority, the signed PCR 11 and the certificate vouch for', () => {
    const verdict = judged(
      `ek-certificate = true\nsecure-boot = ["${digest()}"]\npcr-public-keys = ["pcr-system.pub"]\n`,
    );
    requireAttested(verdict);
    assert.deepEqual(
      verdict.checks.map(({ name, result }) => `${name} ${result}`),
      ['quote passed', 'endorsement-key passed', 'virtual-tpm noted', 'secure-boot passed', 'pcr-11 passed'],
    );
    assert.match(
      textOf(verdict, 'endorsement-key'),
      /id:00001014, model swtpm, .*CN=swtpm-localca-rootca > CN=swtpm-localca$/,
    );
    assert.match(textOf(verdict, 'virtual-tpm'), /virtual: the host of that virtual machine can forge its answers/);
  });

  test('says what it rests on if nothing is demanded and nothing vouches', () => {
    const verdict = judged('', {}, []);
    assert.ok(verdict.attested);
    assert.match(textOf(verdict, 'endorsement-key'), /only the connection that it was enrolled over vouches for it/);
    assert.equal(resultOf(verdict, 'policy'), 'noted');
  });

  test('refuses each thing that the policy does not accept', () => {
    const zeros = '0'.repeat(64);
    for (const [policy, name, text] of [
      [
        `secure-boot = ["${zeros}"]`,
        'secure-boot',
        /accepted something by [0-9a-f]{64}, which the policy does not list/,
      ],
      ['pcr-public-keys = ["pcr-initrd.pub"]', 'pcr-11', /no key of the policy signed its value/],
      [`[pcrs]\n"4" = ["${zeros}"]`, 'pcrs', /PCR 4 is [0-9a-f]{64}, which the policy does not list/],
      [`[components]\n"4" = ["${zeros}"]`, 'components', /was measured into PCR 4, which the policy does not list/],
      ['virtual-tpm = false', 'virtual-tpm', /which the policy forbids/],
    ] as const) {
      const verdict = judged(policy);
      assert.ok(!verdict.attested, name);
      assert.match(textOf(verdict, name), text);
      assert.throws(() => {
        requireAttested(verdict);
      }, /web1 is not attested/);
    }
  });

  test('accepts nothing by an empty list', () => {
    for (const [policy, name] of [
      ['secure-boot = []', 'secure-boot'],
      ['pcr-public-keys = []', 'pcr-11'],
      ['[pcrs]\n"4" = []', 'pcrs'],
      ['[components]\n"4" = []', 'components'],
    ] as const)
      assert.equal(resultOf(judged(policy), name), 'failed', policy);
  });

  test("does not believe a TPM's own word that it is not virtual", () => {
    const claimed = { ...expected, vendor: { ...expected.vendor, manufacturer: 'INTC' } };
    const verdict = (text: string, issuers: X509Certificate[], of = endorsement): Verdict =>
      verdictOn(answer, claimed, { host, endorsement: of, srk, policy: policyOf(text), issuers }, expected.since);
    const bare = { ...endorsement, certificate: undefined };
    for (const one of [verdict('virtual-tpm = false', [], bare), verdict('virtual-tpm = false', [])]) {
      assert.ok(!one.attested);
      assert.match(textOf(one, 'virtual-tpm'), /without a checked certificate this one may be virtual/);
    }
    assert.ok(verdict('', [], bare).attested);
  });

  test('accepts listed values and components', () => {
    const value = Buffer.from(answer.pcrs.get(4) ?? []).toString('hex');
    const events = prove(host, answer, expected, { srk, now: expected.since }).log?.events ?? [];
    const components = events
      .filter(({ pcr, meaning }) => pcr === 4 && meaning.kind === 'image')
      .map(({ digests }) => `"${Buffer.from(digests.get('sha256') ?? []).toString('hex')}"`);
    assert.ok(components.length >= 2);
    assert.ok(judged(`[pcrs]\n"4" = ["${value}"]\n[components]\n"4" = [${components.join(', ')}]`).attested);
    assert.ok(!judged(`[components]\n"4" = [${components.slice(1).join(', ')}]`).attested);
  });

  test('wants a certificate if the policy does, that leads to an issuer of the vault', () => {
    const strange = [new X509Certificate(given(other).issuer)];
    assert.match(
      textOf(judged('ek-certificate = true', {}, strange), 'endorsement-key'),
      /ek-ca in the vault has no certificate of its issuer/,
    );
    assert.equal(resultOf(judged('', {}, strange), 'endorsement-key'), 'noted');
    const bare = { ...endorsement, certificate: undefined };
    assert.throws(() => checkedCertificate(bare, issuerChain(), Date.now()), /its TPM stores no certificate/);
    const theirs = { ...endorsement, certificate: new Uint8Array(issuerChain()[0]?.raw ?? []) };
    assert.throws(() => checkedCertificate(theirs, issuerChain(), Date.now()), /the certificate is for another key/);
    assert.throws(() => checkedCertificate(endorsement, issuerChain(), 0), /is valid from/);
  });

  test('accepts that the seeds are locked until the next boot, and nothing else in that PCR', async () => {
    const { device } = given(other).tpm;
    const theirs = await statementOf(device);
    const known = { host, endorsement: theirs, srk: await within(given(other), readSrkPublic), issuers: [] };
    const asked = async (): Promise<string> => {
      const made = challengeTo(host, theirs, theirs);
      const now = await answerTo(made.challenge, paths, device);
      return textOf(verdictOn(now, made.expected, { ...known, policy: policyOf('') }, Date.now()), 'quote');
    };
    await within(given(other), async (tpm) => {
      await lockUntilBoot(tpm, 8);
    });
    assert.doesNotMatch(await asked(), /does not lead to/);
    measure(given(other).tpm, 8, 'something else');
    assert.match(await asked(), /its log does not lead to PCR 8/);
  });

  test('refuses a PCR 11 that went on after the signed phases', async () => {
    const { device } = given(other).tpm;
    measure(given(other).tpm, 11, 'a phase');
    const theirs = await statementOf(device);
    const made = challengeTo(host, theirs, theirs);
    const later = await answerTo(made.challenge, paths, device);
    const known = { host, endorsement: theirs, srk: await within(given(other), readSrkPublic), issuers: [] };
    const policy = policyOf('pcr-public-keys = ["pcr-system.pub"]');
    const withLog = verdictOn(later, made.expected, { ...known, policy }, Date.now());
    assert.match(textOf(withLog, 'quote'), /its log does not lead to PCR 8, PCR 11/);
    const bare = { ...later, firmwareLog: undefined };
    const without = verdictOn(bare, made.expected, { ...known, policy }, Date.now());
    assert.match(textOf(without, 'pcr-11'), /no key of the policy signed its value/);
  });
});
