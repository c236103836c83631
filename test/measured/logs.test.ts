/** Logs of measured boots: parsed, replayed, said in words, and never trusted. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Failure } from '../../src/failure.ts';
import { digestIn } from '../../src/measured/bank.ts';
import { parseDevicePath } from '../../src/measured/device-path.ts';
import { parseFirmwareLog } from '../../src/measured/firmware-log.ts';
import { parseLog, replayed } from '../../src/measured/measured-log.ts';
import { parseUserspaceLog } from '../../src/measured/userspace-log.ts';
import { describeAll } from '../../src/measured/words.ts';
import { bytesOf, firmwareOf, hex, logOf, pcrsOf, type Sample, samples, userspaceOf } from './samples.ts';

/** PCR 10 is IMA's, which keeps a log of its own. 17 and up are not of this boot. */
const replayable = Array.from({ length: 17 }, (_, pcr) => pcr).filter((pcr) => pcr !== 10);

const u32le = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};

/** A log with a SHA-256 bank alone. */
const logWith = (...events: { pcr: number; type: number; digest: Buffer; data: Buffer }[]): Uint8Array => {
  const specification = Buffer.concat([
    Buffer.from('Spec ID Event03\0'),
    Buffer.from('00000000000200020100000000', 'hex').subarray(0, 8),
    u32le(1),
    Buffer.from('0b00200000', 'hex'),
  ]);
  return Buffer.concat([
    u32le(0),
    u32le(3),
    Buffer.alloc(20),
    u32le(specification.length),
    specification,
    ...events.flatMap(({ pcr, type, digest, data }) => [
      ...[pcr, type, 1].map(u32le),
      Buffer.from('0b00', 'hex'),
      digest,
      u32le(data.length),
      data,
    ]),
  ]);
};

const textsOf = (sample: Sample): string[] => describeAll(logOf(sample).events).map(({ text }) => text);

/** Runs `parse`, which may refuse its input with a failure, and with nothing else. */
function refusesOrParses(parse: () => unknown): void {
  try {
    parse();
  } catch (error) {
    assert.ok(error instanceof Failure && error.code === 'malformed', String(error));
  }
}

describe('the log of a boot', () => {
  for (const sample of samples)
    test(`replays to the PCRs that the TPM had: ${sample}`, () => {
      const [values, expected] = [replayed(logOf(sample).events, 'sha256'), pcrsOf(sample)];
      for (const pcr of replayable) assert.equal(hex(values.get(pcr)), expected.get(pcr), `PCR ${String(pcr)}`);
    });

  test('replays to what tpm2_eventlog says in every bank', () => {
    for (const sample of samples) {
      const { status, stdout } = spawnSync('tpm2_eventlog', [firmwareOf(sample)], { encoding: 'utf8' });
      assert.equal(status, 0);
      const { banks, events } = parseLog(bytesOf(firmwareOf(sample)), undefined);
      assert.deepEqual(banks, sample === 'd-other-tpm' ? ['sha256'] : ['sha1', 'sha256', 'sha384', 'sha512']);
      const said = stdout.slice(stdout.lastIndexOf('\npcrs:'));
      let compared = 0;
      for (const [, bank = '', lines = ''] of said.matchAll(/^ {2}(sha\d+):\n((?: {4}.*\n?)+)/gm)) {
        const known = banks.find((candidate) => candidate === bank);
        assert.ok(known);
        const values = replayed(events, known);
        for (const [, pcr = '', value = ''] of lines.matchAll(/(\d+) *: 0x([0-9a-f]+)/g)) {
          assert.equal(hex(values.get(Number(pcr))), value, `${sample} ${bank} PCR ${pcr}`);
          compared++;
        }
      }
      assert.ok(compared >= banks.length * 10, `${sample}: ${String(compared)}`);
    }
  });

  test('starts PCR 0 with the locality that started the TPM', () => {
    const locality = logWith({
      pcr: 0,
      type: 3,
      digest: Buffer.alloc(32),
      data: Buffer.from('StartupLocality\0\x03'),
    });
    const { events } = parseLog(locality, undefined);
    assert.equal(hex(replayed(events, 'sha256').get(0)), `${'00'.repeat(31)}03`);
    assert.equal(describeAll(events)[0]?.text, 'the locality that started the TPM is 3');
  });

  test('does not extend by what is no measurement', () => {
    const log = logWith({ pcr: 4, type: 3, digest: Buffer.alloc(32, 7), data: Buffer.from('Whatever') });
    assert.equal(hex(replayed(parseLog(log, undefined).events, 'sha256').get(4)), '00'.repeat(32));
  });
});

describe('the events in words', () => {
  test('name loader, UKI, its sections, Secure Boot, keys, command lines, phases and machine-id', () => {
    const texts = textsOf('a-boot1');
    for (const text of [
      'Secure Boot is off',
      'the platform key (PK) is empty',
      'the boot loader \\EFI\\BOOT\\BOOTX64.EFI',
      "systemd-boot's loader.conf",
      'the UKI \\EFI\\Linux\\uki1.efi',
      "the name of the UKI's section .linux",
      "the UKI's section .linux",
      'the kernel command line beside that of the UKI is ' + '"systemd.log_target=kmsg loglevel=6 printk.devkmsg=on"',
      'the kernel inside the UKI',
      "the boot's phase enter-initrd",
      'the machine-id is 2e2922c6ad474d8e989f9d561fe1c623',
    ])
      assert.ok(texts.includes(text), text);
  });

  test('name the certificates of Secure Boot', () => {
    const texts = textsOf('c-secure-boot-uki2');
    for (const text of [
      'Secure Boot is on',
      'the platform key (PK): auxcred test PK',
      'the keys that may sign what boots (db): auxcred test db',
      'what Secure Boot accepted the image by (db) is the certificate auxcred test db',
    ])
      assert.ok(texts.includes(text), text);
  });

  test('leave no event of the samples without a name', () => {
    for (const sample of samples) for (const text of textsOf(sample)) assert.doesNotMatch(text, /type 0x|^$/);
  });

  test('understand GRUB and shim', () => {
    const event = (pcr: number, text: string) => {
      const data = Buffer.from(text);
      return { pcr, type: 0x0d, digest: Buffer.from(digestIn('sha256', data)), data };
    };
    const log = logWith(
      event(8, 'grub_cmd: linux /vmlinuz root=/dev/sda2\0'),
      event(8, 'kernel_cmdline: /vmlinuz root=/dev/sda2\0'),
      event(9, '(hd0,gpt2)/initrd.img\0'),
      event(14, 'MokList\0'),
    );
    assert.deepEqual(
      describeAll(parseLog(log, undefined).events).map(({ text }) => text),
      [
        "GRUB's command linux /vmlinuz root=/dev/sda2",
        'the kernel command line is /vmlinuz root=/dev/sda2',
        'the file (hd0,gpt2)/initrd.img',
        "the machine owner's keys (MokList)",
      ],
    );
  });

  test('never pass on what a terminal would obey', () => {
    const data = Buffer.from('\x1b[31mred\n\u202etext\0');
    const log = logWith({ pcr: 8, type: 0x0d, digest: Buffer.alloc(32), data });
    for (const { text } of describeAll(parseLog(log, undefined).events)) assert.doesNotMatch(text, /[\x00-\x1f\u202e]/);
  });
});

describe('hostile logs', () => {
  const firmware = bytesOf(firmwareOf('c-secure-boot-uki2'));
  const userspace = bytesOf(userspaceOf('c-secure-boot-uki2'));

  test('that are cut anywhere are refused, or end where an event does', () => {
    for (let length = 0; length < firmware.length; length++)
      refusesOrParses(() => describeAll(parseLog(firmware.subarray(0, length), undefined).events));
    for (let length = 0; length < userspace.length; length += 7)
      refusesOrParses(() => parseUserspaceLog(userspace.subarray(0, length)));
  });

  test('with changed bytes never break the parser', () => {
    const changes = fc.array(fc.tuple(fc.nat(firmware.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(changes, (list) => {
        const changed = firmware.slice();
        for (const [at, value] of list) changed[at] = value;
        refusesOrParses(() => describeAll(parseLog(changed, userspace).events));
      }),
      { numRuns: 300 },
    );
  });

  test('of any bytes never break the parsers', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        refusesOrParses(() => parseFirmwareLog(bytes));
        refusesOrParses(() => parseUserspaceLog(bytes));
        parseDevicePath(bytes);
      }),
    );
  });

  test('with any data of any event type never break a description', () => {
    const type = fc.constantFrom(
      ...[1, 3, 4, 5, 6, 7, 8, 11, 12, 13],
      ...[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 0xe0].map((number) => 0x80000000 + number),
    );
    fc.assert(
      fc.property(type, fc.nat(23), fc.uint8Array({ maxLength: 200 }), (eventType, pcr, data) => {
        const log = logWith({ pcr, type: eventType, digest: Buffer.alloc(32), data: Buffer.from(data) });
        const { events } = parseLog(log, undefined);
        assert.equal(describeAll(events).length, 1);
      }),
      { numRuns: 300 },
    );
  });

  test('of TPM 1.2 are refused by name', () => {
    const old = Buffer.concat([u32le(0), u32le(8), Buffer.alloc(20), u32le(2), Buffer.alloc(2)]);
    assert.throws(() => parseFirmwareLog(old), /not in the crypto-agile format of TPM 2\.0/);
  });

  test('with a digest of an undeclared algorithm are refused', () => {
    const log = Buffer.from(logWith({ pcr: 0, type: 4, digest: Buffer.alloc(32), data: Buffer.alloc(4) }));
    log.writeUInt16LE(0x000c, log.length - 4 - 4 - 32 - 2);
    assert.throws(() => parseFirmwareLog(log), /digest of algorithm 12, which it does not declare/);
  });
});
