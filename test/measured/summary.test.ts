/** The summary of a boot that is kept with the seal, and what it says of later boots. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import { Failure } from '../../src/failure.ts';
import { bootLogs, changesIn } from '../../src/health/boot-changes.ts';
import { ReadableFiles } from '../../src/health/readable-files.ts';
import { changesBetween, encodeSummary, parseSummary, summaryOf, summaryValue } from '../../src/measured/summary.ts';
import { pathsUnder } from '../../src/system/paths.ts';
import { firmwareOf, hex, logOf, pcrsOf, type Sample, samples, userspaceOf } from './samples.ts';

const scratch = mkdtempSync(join(tmpdir(), 'auxcred-summary-'));
after(() => {
  rmSync(scratch, { recursive: true, force: true });
});

const changes = (before: Sample, now: Sample, pcr: number): string[] =>
  changesBetween(summaryOf(logOf(before)), summaryOf(logOf(now)), pcr);

describe('the summary of a boot', () => {
  test('leads to the PCR values of that boot, also after it was written and read', () => {
    for (const sample of samples) {
      const summary = parseSummary(encodeSummary(summaryOf(logOf(sample))), 'measured.json');
      assert.deepEqual(summary, summaryOf(logOf(sample)));
      for (let pcr = 0; pcr <= 16; pcr++)
        if (pcr !== 10)
          assert.equal(hex(summaryValue(summary, pcr)), pcrsOf(sample).get(pcr), `${sample} ${String(pcr)}`);
    }
  });

  test('is small', () => {
    for (const sample of samples) assert.ok(encodeSummary(summaryOf(logOf(sample))).length < 10_000);
  });

  test('that is damaged is refused', () => {
    const bytes = encodeSummary(summaryOf(logOf('d-other-tpm')));
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.nat(255), (at, value) => {
        const changed = bytes.slice();
        changed[at] = value;
        try {
          parseSummary(changed, 'measured.json');
        } catch (error) {
          assert.ok(error instanceof Failure && error.code === 'malformed', String(error));
        }
      }),
    );
  });
});

describe('what changed between two boots', () => {
  test('is nothing in the PCRs that are the same', () => {
    for (const pcr of [0, 1, 2, 3, 4, 5, 6, 7, 11, 15]) assert.deepEqual(changes('a-boot1', 'b-boot2-same', pcr), []);
  });

  test('is said for another firmware, UKI, Secure Boot state and command line', () => {
    const said = (pcr: number): string[] => changes('a-boot1', 'c-secure-boot-uki2', pcr);
    assert.deepEqual(said(0), [
      'the firmware (896 KiB at 0x820000) changed',
      'the firmware (12288 KiB at 0x900000) changed',
    ]);
    assert.deepEqual(said(4), [
      'the UKI \\EFI\\Linux\\uki2.efi replaces \\EFI\\Linux\\uki1.efi',
      'the kernel inside the UKI is gone',
    ]);
    assert.deepEqual(said(5), ["systemd-boot's loader.conf changed"]);
    assert.deepEqual(said(7), [
      'Secure Boot: was off, now on',
      'the platform key (PK): was empty, now auxcred test PK',
      'the key exchange keys (KEK): was empty, now auxcred test KEK',
      'the keys that may sign what boots (db): was empty, now auxcred test db',
      'what Secure Boot accepted the image by (db) (the certificate auxcred test db) is new',
    ]);
    assert.deepEqual(said(11), ["the UKI's section .cmdline changed"]);
  });

  test('is the boot loader, if that is another one', () => {
    const before = summaryOf(logOf('a-boot1'));
    const loader = 'the boot loader \\EFI\\BOOT\\BOOTX64.EFI';
    const events = before.events.map((event) =>
      event.subject === loader ? { ...event, digest: new Uint8Array(32) } : event,
    );
    assert.deepEqual(changesBetween(before, { ...before, events }, 4), [`${loader} is a different one`]);
    assert.deepEqual(changesBetween(before, { ...before, events: before.events.toReversed() }, 4), [
      'the same was measured in a different order',
    ]);
  });

  test('is only said if both logs lead to the values of the seal and of the TPM', () => {
    const paths = pathsUnder(scratch);
    const files = { ...paths, measured: join(scratch, 'measured.json') };
    writeFileSync(files.measured, encodeSummary(summaryOf(logOf('a-boot1'))));
    const sample = 'c-secure-boot-uki2';
    const logs = bootLogs(new ReadableFiles(), {
      ...files,
      firmwareLog: firmwareOf(sample),
      userspaceLog: userspaceOf(sample),
    });
    const [sealed = '', now = ''] = [pcrsOf('a-boot1').get(5), pcrsOf(sample).get(5)];
    assert.deepEqual(changesIn(logs, { pcr: 5, sealed, now }), ["systemd-boot's loader.conf changed"]);
    assert.deepEqual(changesIn(logs, { pcr: 5, sealed: now, now }), []);
    assert.deepEqual(changesIn(logs, { pcr: 5, sealed, now: sealed }), []);
    writeFileSync(files.measured, 'damaged');
    assert.deepEqual(changesIn(bootLogs(new ReadableFiles(), files), { pcr: 5, sealed, now }), []);
  });
});
