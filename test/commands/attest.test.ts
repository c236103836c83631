/** `auxcred attest` and `push --require-attestation`: a machine with a certified TPM, and an operator's vault. */
import assert from 'node:assert/strict';
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { exitStatus, type FailureCode } from '../../src/failure.ts';
import { type CertifiedTpm, measure, startCertifiedTpm } from '../attestation/attested-tpm.ts';
import { firmwareOf, sampleFile, userspaceOf } from '../measured/samples.ts';
import { at, auxcred, failureOf, pushed, store, useOperator, works } from '../push/operator.ts';
import { type Swtpm, startSwtpm } from '../swtpm.ts';

const sample = 'c-secure-boot-uki2';
const vault = (): string => `--vault=${at('vault')}`;
let certified: CertifiedTpm;
let other: Swtpm;
/** The TPM of web1. */
let device = '';

useOperator();
before(async () => {
  certified = await startCertifiedTpm(sample);
  other = await startSwtpm();
  device = certified.tpm.device;
  for (const [from, to] of [
    [firmwareOf(sample), 'sys/kernel/security/tpm0/binary_bios_measurements'],
    [userspaceOf(sample), 'run/log/systemd/tpm2-measure.log'],
    [sampleFile(sample, 'tpm2-pcr-signature.json'), 'run/systemd/tpm2-pcr-signature.json'],
  ] as const) {
    mkdirSync(dirname(at(`web1/${to}`)), { recursive: true });
    copyFileSync(from, at(`web1/${to}`));
  }
  for (const name of ['db.crt', 'pcr-system.pub', 'pcr-initrd.pub'])
    copyFileSync(sampleFile(sample, name), at(`vault/${name}`));
  policy('secure-boot = ["db.crt"]\npcr-public-keys = ["pcr-system.pub"]\nek-certificate = true\n');
  settings('with-key = "tpm2"\n');
});
after(async () => {
  await certified.tpm.stop();
  await other.stop();
});

function settings(web1: string): void {
  writeFileSync(at('vault/vault.toml'), `ssh = ["${at('bin/near-ssh')}"]\n[host.web1]\ngroups = ["db"]\n${web1}`);
}
function policy(text: string): void {
  writeFileSync(at('vault/attestation.toml'), text);
}
const on = (...args: string[]): string[] => [...args, `--root=${at('web1')}`, `--tpm2-device=${device}`];
const enroll = (...more: string[]): string => {
  const said = auxcred(['enroll', 'web1', vault(), '--from=-', ...more], works(on('enroll')));
  assert.equal(said.status, 0, said.stderr);
  return said.stderr;
};
const attest = (...args: string[]): string[] => ['attest', vault(), 'web1', ...args];
const file = (name: string, text: string): string => {
  writeFileSync(at(name), text);
  return at(name);
};
function fails(args: readonly string[], code: FailureCode, message: RegExp): void {
  const { status, stdout, stderr } = auxcred(args);
  assert.equal(status, exitStatus[code], `${stdout}${stderr}`);
  assert.match(`${stdout}${stderr}`, message);
}

describe('enroll', () => {
  test('says that nothing but ssh vouches for a TPM without an issuer in ek-ca', () => {
    assert.match(enroll(), /only the connection that this enrollment came over vouches for the TPM of web1/);
  });

  test('says who certified it, and that it is virtual', () => {
    mkdirSync(at('vault/ek-ca'));
    writeFileSync(at('vault/ek-ca/swtpm.pem'), certified.issuer);
    const said = enroll('--replace');
    assert.match(said, /the TPM of web1 is certified: id:00001014, model swtpm, by CN=swtpm-localca/);
    assert.match(said, /it is virtual: the host that runs web1 can forge its answers/);
    const shown: unknown = JSON.parse(works(['enroll', vault(), 'web1', '--json']));
    assert.ok(typeof shown === 'object' && shown !== null && 'ekCertificate' in shown && shown.ekCertificate === true);
  });

  test('refuses another endorsement key without --replace', () => {
    const theirs = works(['enroll', `--root=${at('web1')}`, `--tpm2-device=${other.device}`]);
    const said = auxcred(['enroll', 'web1', vault(), '--from=-'], theirs);
    assert.equal(said.status, exitStatus.refused);
    assert.match(said.stderr, /its EK is [0-9a-f]{64}, not [0-9a-f]{64}/);
  });
});

describe('attest', () => {
  test('judges a host over ssh, in words and in JSON', () => {
    const words = works(attest());
    assert.match(words, /passed {2}secure-boot: on, and everything was accepted by [0-9a-f]{64}/);
    assert.match(words, /noted {2}virtual-tpm: its TPM is virtual/);
    assert.match(words, /web1 is attested\n$/);
    const verdict: unknown = JSON.parse(works(attest('--json')));
    assert.ok(typeof verdict === 'object' && verdict !== null && 'attested' in verdict && 'pcrs' in verdict);
    assert.equal(verdict.attested, true);
  });

  test('goes the same way by files, and each answer counts once', () => {
    const statement = file('statement', works(on('attest')));
    const challenge = file('challenge', works(attest(`--from=${statement}`)));
    const answer = file('answer', works(on('attest', `--challenge=${challenge}`)));
    assert.match(works(attest(`--verify=${answer}`)), /web1 is attested/);
    fails(attest(`--verify=${answer}`), 'refused', /no challenge to web1 is open: each is good for one answer/);
    works(attest(`--from=${statement}`));
    fails(attest(`--verify=${answer}`), 'refused', /failed {2}quote: .*answers another challenge: it is a replay/);
    file('stale', works(attest(`--from=${statement}`)));
    const pending = at('vault/challenges/web1.json');
    const aged = readFileSync(pending, 'utf8').replace(
      /"since":(\d+)/,
      (_, at: string) => `"since":${String(Number(at) - 3_600_000)}`,
    );
    writeFileSync(pending, aged);
    const late = file('late', works(on('attest', `--challenge=${at('stale')}`)));
    fails(attest(`--verify=${late}`), 'refused', /the challenge is stale: it was made 60 minutes ago/);
  });

  test('refuses wrong combinations, and what is no message', () => {
    fails(attest('--from=a', '--verify=b'), 'usage', /--from and --verify are two steps/);
    fails(attest('--challenge=a'), 'usage', /--challenge is for this machine, but a host of the vault is named/);
    fails(['attest', '--policy=a'], 'usage', /--policy needs the name of a host/);
    fails(attest(`--from=${file('junk', '{"attestation":1}')}`), 'malformed', /the statement of web1/);
  });

  test('says without a policy that whatever booted is accepted', () => {
    const { status, stdout, stderr } = auxcred(attest(`--policy=${file('empty.toml', '')}`));
    assert.equal(status, 0, stderr);
    assert.match(stdout, /noted {2}policy: the policy does not restrict what booted/);
  });
});

describe('push that requires attestation', () => {
  const seeds = (): boolean => existsSync(`${store('web1')}/seeds.age`);
  const refused = (message: RegExp, ...args: string[]): void => {
    const [code, said] = failureOf(pushed('web1', '--manifest', ...args));
    assert.equal(code, 'refused', said);
    assert.match(said, message);
    assert.equal(seeds(), false);
  };

  test('sends nothing to a host whose seeds no TPM would vouch for', () => {
    settings('');
    refused(/the seeds of web1 are sealed to its ssh host key, which no TPM vouches for/, '--require-attestation');
  });

  test('sends nothing to a host that the policy refuses', () => {
    settings('with-key = "tpm2"\nrequire-attestation = true\n');
    policy('pcr-public-keys = ["pcr-initrd.pub"]\n');
    refused(/web1 is not attested: no key of the policy signed its value/);
  });

  test('sends nothing to a host with another TPM', () => {
    policy('pcr-public-keys = ["pcr-system.pub"]\n');
    const enrolled = readFileSync(at('vault/enrolled/web1.json'), 'utf8');
    writeFileSync(at('vault/enrolled/web1.json'), enrolled.replace(device, other.device));
    refused(/web1 does not have the endorsement key that it is enrolled with/);
    writeFileSync(at('vault/enrolled/web1.json'), enrolled);
  });

  test('sends seeds, that its TPM opens, to a host that passes', () => {
    // The host opens what comes with the TPM that it is enrolled with, since it has recorded none yet.
    settings('with-key = "tpm2"\nrequire-attestation = true\n');
    const { rows, stderr } = pushed('web1', '--manifest');
    assert.equal(rows[0]?.failure, undefined, stderr);
    assert.match(stderr, /web1: attested/);
    assert.ok(seeds());
    assert.match(works(on('get', 'session')), /^[0-9a-f]{64}\n?$/);
  });

  test('and refuses the same host after something else was measured', () => {
    measure(certified.tpm, 4, 'another boot loader');
    const [code, said] = failureOf(pushed('web1', '--reseal'));
    assert.equal(code, 'refused');
    assert.match(said, /web1 is not attested: its log does not lead to PCR 4: it was altered, or is of another boot/);
  });
});
