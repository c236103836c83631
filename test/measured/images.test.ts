/** PE images and UKIs: their digests are those of pesign and sbsign, their PCR 11 that of systemd-measure. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import { Failure } from '../../src/failure.ts';
import { commonName } from '../../src/measured/event.ts';
import { parsePe } from '../../src/measured/pe.ts';
import { kernelBootValues, parseUki } from '../../src/measured/uki.ts';
import { bootLoader, makeSigner, makeUki, read, run, sign, stub } from './images.ts';
import { hex } from './samples.ts';

const scratch = mkdtempSync(join(tmpdir(), 'auxcred-images-'));
after(() => {
  rmSync(scratch, { recursive: true, force: true });
});

const pesignHash = (file: string): string => /hash: ([0-9a-f]{64})/.exec(run('pesign', '-h', '-i', file))?.[1] ?? '';
const digestOf = (file: string): string => hex(parsePe(read(file), file).digest('sha256'));

const sections = {
  '.linux': read(bootLoader),
  '.osrel': 'ID=debian\nVERSION_ID="12"\n',
  '.cmdline': 'root=/dev/vda rw quiet',
  '.initrd': Buffer.alloc(12345, 7),
  '.uname': '6.1.0-test',
};

describe('a PE image', () => {
  test('has the digest that pesign computes', () => {
    const uki = makeUki(scratch, 'digest.efi', sections).file;
    for (const file of [bootLoader, stub, uki]) assert.equal(digestOf(file), pesignHash(file), file);
  });

  test('keeps its digest when it is signed, once or twice', () => {
    const [one, other] = [makeSigner(scratch, 'one'), makeSigner(scratch, 'other')];
    const { file } = makeUki(scratch, 'signed.efi', sections);
    const once = sign(file, one);
    const twice = sign(once, other);
    run('sbverify', '--cert', one.certificate, once);
    for (const signed of [once, twice]) assert.equal(digestOf(signed), pesignHash(signed));
    assert.equal(digestOf(once), digestOf(file));
    assert.deepEqual(parsePe(read(file), file).certificates, []);
    assert.deepEqual(parsePe(read(once), once).certificates.map(commonName), ['one']);
    assert.deepEqual(parsePe(read(twice), twice).certificates.map(commonName).sort(), ['one', 'other']);
  });

  test('is refused if it is cut off, or no PE image at all', () => {
    const bytes = read(bootLoader);
    for (const length of [0, 1, 64, 200, 400, bytes.length >> 1])
      assert.throws(() => parsePe(bytes.subarray(0, length), 'x.efi'), /x\.efi is (?:not a whole PE image|cut off)/);
  });

  test('is refused if its sections overlap: they could be as many as 65535 times the whole file', () => {
    const bytes = Uint8Array.from(read(bootLoader));
    const view = new DataView(bytes.buffer);
    const header = view.getUint32(0x3c, true);
    const table = header + 24 + view.getUint16(header + 20, true);
    for (let i = 0; i < view.getUint16(header + 6, true); i++) {
      view.setUint32(table + 40 * i + 16, bytes.length - 1024, true);
      view.setUint32(table + 40 * i + 20, 1024, true);
    }
    assert.throws(() => parsePe(bytes, 'x.efi'), /x\.efi has sections that overlap/);
  });

  test('of any changed bytes never breaks the parser', () => {
    const signed = read(sign(makeUki(scratch, 'fuzz.efi', sections).file, makeSigner(scratch, 'fuzz')));
    const tail = signed.length - 1600;
    const place = fc.oneof(fc.nat(1024), fc.integer({ min: tail, max: signed.length - 1 }));
    fc.assert(
      fc.property(fc.array(fc.tuple(place, fc.nat(255)), { minLength: 1, maxLength: 6 }), (changes) => {
        const bytes = signed.slice();
        for (const [at, value] of changes) bytes[at] = value;
        try {
          parsePe(bytes, 'x.efi');
        } catch (error) {
          assert.ok(error instanceof Failure && error.code === 'malformed', String(error));
        }
      }),
      { numRuns: 200 },
    );
  });
});

describe('a UKI', () => {
  const help = run('/lib/systemd/systemd-measure', '--help');

  /** What systemd-measure says, of the sections that the stub of the same version measures. */
  const measured = (parts: ReadonlyMap<string, string>): string[] => {
    // ukify would merge the stub's own section with a given one.
    const sbat = join(scratch, 'stub.sbat');
    run('objcopy', '-O', 'binary', '--only-section=.sbat', stub, sbat);
    const options = [['.sbat', sbat] as const, ...parts]
      .filter(([name]) => help.includes(`--${name.slice(1)}=`))
      .map(([name, part]) => `--${name.slice(1)}=${part}`);
    const lines = run('/lib/systemd/systemd-measure', 'calculate', '--bank=sha256', ...options);
    return lines
      .trim()
      .split('\n')
      .map((line) => line.replace('11:sha256=', ''));
  };

  test('has the PCR 11 that systemd-measure computes, phase by phase', () => {
    const { file, parts } = makeUki(scratch, 'measured.efi', { ...sections, '.splash': 'BM picture', '.dtb': 'tree' });
    const values = kernelBootValues(parseUki(read(file), file), 'sha256').map(({ value }) => hex(value));
    assert.deepEqual(values, measured(parts));
    assert.equal(new Set(values).size, 4);
  });

  test('says its command line and kernel version', () => {
    const { file } = makeUki(scratch, 'words.efi', { ...sections, '.cmdline': ' quiet splash \n' });
    const { commandLine, version } = parseUki(read(file), file);
    assert.deepEqual([commandLine, version], ['quiet splash', '6.1.0-test']);
  });

  test('is not any PE image', () => {
    assert.throws(() => parseUki(read(bootLoader), bootLoader), /has no section \.linux/);
  });

  test('without the profile that was asked for is refused', () => {
    const { file } = makeUki(scratch, 'profile.efi', sections);
    assert.throws(() => parseUki(read(file), file, 1), /has no profile 1/);
  });
});
