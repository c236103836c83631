/**
 * Entries of type 1: from the log of one real boot of an entry to the PCRs of another, and the judgement of bootctl.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { commandLineOf, parseLoaderEntry, partsOf } from '../../src/measured/loader-entry.ts';
import { type MeasuredLog, parseLog } from '../../src/measured/measured-log.ts';
import { type PeImage, parsePe } from '../../src/measured/pe.ts';
import { type NextBoot, type Prediction, predictBoot } from '../../src/measured/prediction.ts';
import { bootLoader, read } from './images.ts';
import { bytesOf, hex, logOf, pcrsIn, sampleFile } from './samples.ts';

/** The digests of the two kernels that were booted, as pesign says them. */
const kernels: Readonly<Record<string, string>> = {
  '/m/linux-1': 'a20646051d119ba9f5e4f6759d6bb1395157aa7d69bc39fa42e3e5d8cb94c56b',
  '/m/linux-2': 'bc2a621762659a2f977363319c00c7cb04636b507bdcdfdc50e2dc5e0895fa05',
};
const imageWith = (digest: string): PeImage => ({
  sections: [],
  certificates: [],
  digest: () => new Uint8Array(Buffer.from(digest, 'hex')),
});
type Boot = 1 | 2 | 3;
const folder = (boot: Boot): string => `entry-${String(boot)}`;
const entryOf = (boot: Boot) =>
  parseLoaderEntry(
    Buffer.from(bytesOf(sampleFile(folder(boot), `m-${String(boot)}.conf`))).toString('utf8'),
    `m-${String(boot)}.conf`,
  );
const logIn = (boot: Boot): MeasuredLog =>
  parseLog(bytesOf(sampleFile(folder(boot), 'binary_bios_measurements')), undefined);

/** What a boot of an entry starts. */
function startedBy(boot: Boot): Extract<NextBoot['started'], { kind: 'linux' }> {
  const entry = entryOf(boot);
  return {
    kind: 'linux',
    image: imageWith(kernels[entry.linux ?? ''] ?? ''),
    commandLine: commandLineOf(entry),
    initrd: new Uint8Array(
      Buffer.concat(entry.initrds.map((path) => bytesOf(sampleFile('entry-files', partsOf(path, '').at(-1) ?? '')))),
    ),
    unknown: undefined,
  };
}

const loader = parsePe(read(bootLoader), bootLoader);
const loaderConf = new Uint8Array(Buffer.from('timeout 0\n'));
const withLoader = { loader: { ...loader, digest: () => loaderIn(1) }, loaderConf };
/** The boot loader's digest as the firmware logged it: these boots were of another version than this system's. */
const loaderIn = (boot: Boot): Uint8Array =>
  logIn(boot)
    .events.find(({ meaning }) => meaning.kind === 'image' && meaning.path.file !== undefined)
    ?.digests.get('sha256') ?? new Uint8Array(0);

const predict = (boot: Boot, next: Partial<NextBoot>): Prediction =>
  predictBoot(logIn(boot), { started: startedBy(boot), ...withLoader, variable: () => undefined, ...next });
const valueIn = ({ pcrs }: Prediction, pcr: number): string => hex(pcrs.get(pcr)?.values.at(-1)?.value);
const whyIn = ({ pcrs }: Prediction, pcr: number): string =>
  `${pcrs.get(pcr)?.isSure === true ? 'sure' : 'unsure'}: ${pcrs.get(pcr)?.why ?? ''}`;
const boots = [1, 2, 3] as const;

describe('the prediction of an entry of type 1', () => {
  for (const from of boots)
    for (const to of boots)
      test(`leads from boot ${String(from)} to the PCRs of boot ${String(to)}`, () => {
        const prediction = predict(from, { started: startedBy(to) });
        const real = pcrsIn(sampleFile(folder(to), 'pcrs.sha256'));
        // PCR 10 is IMA's.
        for (const pcr of [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15])
          assert.equal(valueIn(prediction, pcr), real.get(pcr), `PCR ${String(pcr)}`);
        for (const pcr of [4, 5, 9, 11, 12]) assert.match(whyIn(prediction, pcr), /^sure/, `PCR ${String(pcr)}`);
      });

  test("has the entry's command line as the kernel got it", () => {
    for (const boot of boots) {
      const got = Buffer.from(bytesOf(sampleFile(folder(boot), 'cmdline'))).toString('utf8');
      assert.equal(`${commandLineOf(entryOf(boot)) ?? ''}\n`, got);
    }
  });

  test('changes with the command line, the initrd and the kernel, each in its PCRs', () => {
    const started = startedBy(1);
    const changed = (other: Partial<typeof started>): number[] => {
      const prediction = predict(1, { started: { ...started, ...other } });
      return [...pcrsIn(sampleFile('entry-1', 'pcrs.sha256'))].flatMap(([pcr, value]) =>
        pcr !== 10 && valueIn(prediction, pcr) !== value ? [pcr] : [],
      );
    };
    assert.deepEqual(changed({}), []);
    assert.deepEqual(changed({ commandLine: 'quiet' }), [9, 12]);
    assert.deepEqual(changed({ commandLine: undefined }), [9, 12]);
    assert.deepEqual(changed({ initrd: Uint8Array.of(1) }), [9]);
    assert.deepEqual(changed({ image: imageWith('00'.repeat(32)) }), [4]);
  });

  test('is not sure after a boot of a UKI, or of another boot loader, and says why', () => {
    const { events, banks } = logIn(1);
    const afterUki = predictBoot(logOf('a-boot1'), { started: startedBy(1), ...withLoader });
    for (const pcr of [4, 9, 12]) assert.match(whyIn(afterUki, pcr), /^unsure: this boot started a UKI/);
    // Nothing of the UKI that booted then stays.
    assert.equal(valueIn(afterUki, 12), pcrsIn(sampleFile('entry-1', 'pcrs.sha256')).get(12));
    assert.equal(valueIn(afterUki, 9), pcrsIn(sampleFile('entry-1', 'pcrs.sha256')).get(9));
    assert.equal(valueIn(afterUki, 11), '00'.repeat(32));
    const other = { banks, events: events.filter(({ pcr }) => pcr !== 5 && pcr !== 12) };
    for (const pcr of [4, 9, 12])
      assert.match(
        whyIn(predictBoot(other, { started: startedBy(1), ...withLoader }), pcr),
        /^unsure: this boot started neither a UKI nor an entry of systemd-boot/,
      );
  });

  test('says what of an entry makes it unsure', () => {
    const prediction = predict(1, { started: { ...startedBy(1), unknown: 'it has a device tree' } });
    for (const pcr of [4, 9, 12]) assert.equal(whyIn(prediction, pcr), 'unsure: it has a device tree');
  });
});
