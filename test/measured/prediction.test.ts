/** The next boot's PCRs: from the log of one real boot to those of another, and from images that pesign judges. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { type MeasuredEvent, signaturesIn } from '../../src/measured/event.ts';
import { type PeImage, parsePe } from '../../src/measured/pe.ts';
import { type NextBoot, type Prediction, predictBoot } from '../../src/measured/prediction.ts';
import { authorityOf, secureBootIn } from '../../src/measured/secure-boot.ts';
import { parseUki, type Uki } from '../../src/measured/uki.ts';
import { bootLoader, makeUki, read, run } from './images.ts';
import { hex, logOf, pcrsOf, type Sample } from './samples.ts';

const scratch = mkdtempSync(join(tmpdir(), 'auxcred-prediction-'));
after(() => {
  rmSync(scratch, { recursive: true, force: true });
});

const sections = { '.linux': read(bootLoader), '.cmdline': 'quiet', '.initrd': 'initrd', '.uname': '6.1' };
const { file: ukiFile } = makeUki(scratch, 'next.efi', sections);
const uki: Uki = parseUki(read(ukiFile), ukiFile);
const loader: PeImage = parsePe(read(bootLoader), bootLoader);

const valueIn = ({ pcrs }: Prediction, pcr: number): string => hex(pcrs.get(pcr)?.values.at(-1)?.value);
const whyIn = ({ pcrs }: Prediction, pcr: number): string =>
  `${pcrs.get(pcr)?.isSure === true ? 'sure' : 'unsure'}: ${pcrs.get(pcr)?.why ?? ''}`;

/** The value after these SHA-256 digests, in hexadecimal, computed without auxcred. */
const extendedBy = (digests: readonly string[]): string =>
  digests.reduce(
    (value, digest) =>
      createHash('sha256')
        .update(Buffer.from(value + digest, 'hex'))
        .digest('hex'),
    '00'.repeat(32),
  );

const loggedIn = (sample: Sample, pcr: number): string[] =>
  logOf(sample).events.flatMap((event) => (event.pcr === pcr ? [hex(event.digests.get('sha256'))] : []));

/** The variables that a boot measured. */
const variablesOf = (sample: Sample) => {
  const { events } = logOf(sample);
  return (guid: string, name: string): Uint8Array | undefined =>
    events.flatMap(({ meaning }) =>
      meaning.kind === 'variable' && meaning.role !== 'authority' && meaning.guid === guid && meaning.name === name
        ? [meaning.data]
        : [],
    )[0];
};

const dbCertificates = signaturesIn(
  variablesOf('c-secure-boot-uki2')('d719b2cb-3d3a-4596-a3bc-dad00e67656f', 'db') ?? new Uint8Array(),
).flatMap(({ certificate }) => certificate ?? []);
const signed = <T extends PeImage>(image: T): T => ({ ...image, certificates: dbCertificates });
const signedUki: Uki = { ...uki, image: signed(uki.image) };

const predict = (sample: Sample, next: Partial<NextBoot> = {}): Prediction =>
  predictBoot(logOf(sample), { started: uki, booted: uki, loader, variable: variablesOf(sample), ...next });

describe('the prediction of a boot', () => {
  test('has in PCR 4 what pesign says of boot loader, UKI and the kernel in it', () => {
    const [action = '', separator = ''] = loggedIn('a-boot1', 4);
    const hashOf = (file: string): string => /hash: ([0-9a-f]{64})/.exec(run('pesign', '-h', '-i', file))?.[1] ?? '';
    const images = [bootLoader, ukiFile, bootLoader].map(hashOf);
    const prediction = predict('a-boot1');
    assert.equal(valueIn(prediction, 4), extendedBy([action, separator, ...images]));
    assert.equal(whyIn(prediction, 4), 'sure: from the boot loader, the UKI and the kernel in it');
  });

  test('leaves the kernel out of PCR 4 where the stub starts it by itself', () => {
    const [action = '', separator = ''] = loggedIn('c-secure-boot-uki2', 4);
    const images = [loader, signedUki.image].map((image) => hex(image.digest('sha256')));
    const prediction = predict('c-secure-boot-uki2', { started: signedUki, loader: signed(loader) });
    assert.equal(valueIn(prediction, 4), extendedBy([action, separator, ...images]));
  });

  test('keeps the PCRs that no component of the next boot changes', () => {
    for (const sample of ['a-boot1', 'c-secure-boot-uki2'] as const) {
      const next = { started: signedUki, loader: signed(loader) };
      const prediction = predict(sample, next);
      for (const pcr of [0, 1, 2, 3, 5, 6, 7, 12, 13, 14, 15])
        assert.equal(valueIn(prediction, pcr), pcrsOf(sample).get(pcr), `${sample} ${String(pcr)}`);
      for (const pcr of [0, 1, 2, 3, 6, 13, 14, 15]) assert.match(whyIn(prediction, pcr), /^sure/);
      for (const pcr of [9, 10, 12]) assert.match(whyIn(prediction, pcr), /^unsure/);
    }
  });

  test('has in PCR 5 another loader.conf, as far as it is found', () => {
    const logged = loggedIn('a-boot1', 5);
    const conf = Buffer.from('timeout 3\n');
    const expected = logged.map((digest, i) => (i === 2 ? createHash('sha256').update(conf).digest('hex') : digest));
    const prediction = predict('a-boot1', { loaderConf: new Uint8Array(conf) });
    assert.equal(valueIn(prediction, 5), extendedBy(expected));
    assert.match(whyIn(prediction, 5), /^sure: from loader\.conf/);
    assert.match(whyIn(predict('a-boot1'), 5), /^unsure: loader\.conf was not found/);
    const own = new Uint8Array(Buffer.from('timeout 0\n'));
    assert.equal(valueIn(predict('a-boot1', { loaderConf: own }), 5), pcrsOf('a-boot1').get(5));
  });
});

describe('PCR 7 of the next boot', () => {
  test('is that of the real boot after Secure Boot was switched on', () => {
    const next = { started: signedUki, loader: signed(loader), variable: variablesOf('c-secure-boot-uki2') };
    const prediction = predict('b-boot2-same', next);
    assert.equal(valueIn(prediction, 7), pcrsOf('c-secure-boot-uki2').get(7));
    assert.match(whyIn(prediction, 7), /^sure: from Secure Boot's variables/);
    assert.match(whyIn(prediction, 4), /^unsure: Secure Boot was switched/);
  });

  test('is that of the real boot before, after it was switched off again', () => {
    const prediction = predict('c-secure-boot-uki2', { variable: variablesOf('a-boot1') });
    assert.equal(valueIn(prediction, 7), pcrsOf('a-boot1').get(7));
  });

  test('has the authority that the firmware measured', () => {
    const { events } = logOf('c-secure-boot-uki2');
    const [measured] = events.filter(
      ({ meaning }: MeasuredEvent) => meaning.kind === 'variable' && meaning.role === 'authority',
    );
    const digest = authorityOf({ certificates: dbCertificates }, secureBootIn(events, undefined), 'sha256');
    assert.equal(hex(digest), hex(measured?.digests.get('sha256')));
  });

  test('is unsure for an image that Secure Boot would not start', () => {
    const prediction = predict('c-secure-boot-uki2', { loader: signed(loader) });
    assert.match(whyIn(prediction, 7), /^unsure: no certificate in db signed an image/);
  });

  test('changes with the variables', () => {
    const before = variablesOf('c-secure-boot-uki2');
    const dbx = (guid: string, name: string): Uint8Array | undefined =>
      name === 'dbx' ? Uint8Array.of(1, 2, 3) : before(guid, name);
    const next = { started: signedUki, loader: signed(loader) };
    const prediction = predict('c-secure-boot-uki2', { ...next, variable: dbx });
    assert.notEqual(valueIn(prediction, 7), pcrsOf('c-secure-boot-uki2').get(7));
    assert.match(whyIn(prediction, 7), /^sure/);
  });
});

describe('a prediction says why it is not sure', () => {
  test('if a variable is gone', () => {
    const prediction = predict('a-boot1', { variable: () => undefined });
    assert.match(whyIn(prediction, 7), /^unsure: the variable SecureBoot is gone, or can't be read/);
  });

  test('if the stub or the boot loader is not known', () => {
    const prediction = predictBoot(logOf('a-boot1'), { started: uki });
    assert.match(whyIn(prediction, 4), /the UKI of this boot was not found.*; the boot loader was not found/);
    for (const pcr of [1, 7]) assert.match(whyIn(prediction, pcr), /the present EFI variables are not known/);
  });

  test('if the log does not account for what the TPM has', () => {
    const current = new Map([[5, new Uint8Array(32)]]);
    const prediction = predictBoot(logOf('a-boot1'), { started: uki, booted: uki, loader }, { current });
    assert.match(whyIn(prediction, 5), /^unsure: the log does not account for the value that the TPM has now/);
    assert.match(whyIn(prediction, 4), /^sure/);
  });

  test('if this boot started no UKI', () => {
    const log = logOf('a-boot1');
    const without = { ...log, events: log.events.filter(({ pcr }) => pcr !== 11) };
    const prediction = predictBoot(without, { started: uki, booted: uki, loader });
    for (const pcr of [4, 7, 12]) assert.match(whyIn(prediction, pcr), /this boot started no UKI/);
  });
});
