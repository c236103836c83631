/** `auxcred measured`: the logs of a real boot, beside a TPM with its PCRs and seeds that are sealed to them. */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { encodeSummary, summaryOf } from '../../src/measured/summary.ts';
import { sealPayload } from '../../src/seeds/seal.ts';
import { auxcred, fails, works } from '../cli.ts';
import { bootLoader, makeUki, read } from '../measured/images.ts';
import { firmwareOf, hex, logOf, pcrsOf, type Sample, userspaceOf } from '../measured/samples.ts';
import { type Swtpm, startSwtpm } from '../swtpm.ts';
import { sealTo, secret } from '../tpm2/sealing.ts';

const logs = (sample: Sample): string[] => [`--log=${firmwareOf(sample)}`, `--userspace-log=${userspaceOf(sample)}`];

/** What the boot of a sample measured, by PCR. */
function measuredIn(sample: Sample): Record<number, string[]> {
  const byPcr: Record<number, string[]> = {};
  for (const { pcr, digests } of logOf(sample).events) (byPcr[pcr] ??= []).push(hex(digests.get('sha256')));
  return byPcr;
}

type PcrJson = { pcr: number; log: string; tpm?: string; sealed?: string; matches?: boolean; changes: string[] };
type NextJson = { pcr: number; values: { value: string }[]; sure: boolean; why: string; matches?: boolean };

function pcrsIn<T extends { pcr: number }>(said: string): Map<number, T> {
  const report: { pcrs: T[] } = JSON.parse(said);
  return new Map(report.pcrs.map((pcr) => [pcr.pcr, pcr]));
}

describe('measured', () => {
  let tpm: Swtpm;
  let root = '';
  before(async () => {
    tpm = await startSwtpm({ pcrs: measuredIn('a-boot1') });
    root = mkdtempSync(join(tmpdir(), 'auxcred-measured-'));
    const object = await sealTo(tpm.device, secret(), [4, 5, 7]);
    const seeds = await sealPayload(
      {
        counter: 1,
        scopes: [{ kind: 'host', name: 'web1', epoch: 1, seed: secret() }],
        sealing: { withKey: 'tpm2', recovery: [], pcrs: [4, 5, 7], pcrsAtFirstBoot: [], device: tpm.device },
      },
      {
        sshHostKey: undefined,
        ageHostKey: undefined,
        tpm: { policies: [object.policy], seal: () => Promise.resolve(object) },
      },
    );
    place('var/lib/auxcred/seeds.age', seeds);
    place('var/lib/auxcred/measured.json', encodeSummary(summaryOf(logOf('a-boot1'))));
  });
  after(async () => {
    await tpm?.stop();
    rmSync(root, { recursive: true, force: true });
  });

  function place(path: string, bytes: Uint8Array | string): string {
    const file = join(root, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, bytes);
    return file;
  }

  test('shows a copy of a log, PCR by PCR', () => {
    const { stdout } = works(['measured', ...logs('a-boot1')]);
    assert.match(stdout, /^PCR 4 {3}38949f60265f9b41 {2}boot loader and kernel$/m);
    assert.match(stdout, /^ {8}937f1f3b0b3fed20 {2}the boot loader \\EFI\\BOOT\\BOOTX64\.EFI$/m);
    assert.match(stdout, /^ {8}115aa827dbccfb44 {2}Secure Boot is off$/m);
    assert.match(stdout, /^PCR 15 {2}42376a255037a3ed/m);
    assert.doesNotMatch(stdout, /sealed/);
  });

  test('finds the logs of the system, and compares TPM, log and seal', () => {
    const folder = join(root, 'sys/kernel/security/tpm0');
    mkdirSync(folder, { recursive: true });
    mkdirSync(join(root, 'run/log/systemd'), { recursive: true });
    cpSync(firmwareOf('a-boot1'), join(folder, 'binary_bios_measurements'));
    cpSync(userspaceOf('a-boot1'), join(root, 'run/log/systemd/tpm2-measure.log'));
    const { stdout } = works(['measured', '--json', `--root=${root}`, `--tpm2-device=${tpm.device}`]);
    const pcrs = pcrsIn<PcrJson>(stdout);
    for (const [pcr, value] of pcrsOf('a-boot1'))
      if (pcr <= 9 && pcrs.has(pcr))
        assert.deepEqual([pcrs.get(pcr)?.log, pcrs.get(pcr)?.tpm], [value, value], `PCR ${String(pcr)}`);
    assert.deepEqual(
      [4, 5, 7].map((pcr) => pcrs.get(pcr)?.matches),
      [true, true, true],
    );
    assert.equal(pcrs.get(11)?.matches, undefined);
  });

  test('says which component changed since the seal', () => {
    const args = ['measured', `--root=${root}`, ...logs('c-secure-boot-uki2')];
    const { stdout } = works(args);
    assert.match(stdout, /^PCR 4 .*; sealed to another value$/m);
    assert.match(stdout, /^ +since the seal: the UKI \\EFI\\Linux\\uki2\.efi replaces \\EFI\\Linux\\uki1\.efi$/m);
    assert.match(stdout, /^ +since the seal: Secure Boot: was off, now on$/m);
    const pcrs = pcrsIn<PcrJson>(works([...args, '--json']).stdout);
    assert.deepEqual(pcrs.get(5)?.changes, ["systemd-boot's loader.conf changed"]);
    assert.deepEqual(pcrs.get(0)?.changes, []);
  });

  test('says so if the log does not account for what the TPM has', () => {
    const { stdout } = works(['measured', ...logs('c-secure-boot-uki2'), `--tpm2-device=${tpm.device}`]);
    assert.match(stdout, /^PCR 4 .*\n +the log does not account for it: it leads to 6370878651952479$/m);
    assert.doesNotMatch(stdout, /^PCR 2 .*\n +the log does not/m);
  });

  test('predicts the boot of a UKI from ESP and variables, and whether the seed will open', () => {
    const scratch = mkdtempSync(join(tmpdir(), 'auxcred-uki-'));
    try {
      const { file } = makeUki(scratch, 'next.efi', { '.linux': read(bootLoader), '.cmdline': 'quiet' });
      place('efi/EFI/BOOT/BOOTX64.EFI', read(bootLoader));
      place('efi/EFI/Linux/next.efi', read(file));
      place('efi/loader/loader.conf', 'timeout 0\n');
      place('sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c', Uint8Array.of(6, 0, 0, 0, 0));
      const args = ['measured', `--root=${root}`, '--predict=next.efi', ...logs('a-boot1')];
      const pcrs = pcrsIn<NextJson>(works([...args, '--json']).stdout);
      const of = (pcr: number): unknown[] => [pcrs.get(pcr)?.sure, pcrs.get(pcr)?.matches];
      assert.deepEqual(
        [of(4), of(5), of(7), of(9)],
        [
          [false, false],
          [true, true],
          [true, true],
          [false, undefined],
        ],
      );
      assert.equal(pcrs.get(11)?.values.length, 4);
      const { stdout } = works(args);
      assert.match(stdout, /^the seed would not open: PCR 4 will have another value$/m);
      assert.match(stdout, /^PCR 7 .*\n {8}sure, and the seed is sealed to it: from Secure Boot's variables/m);
    } finally {
      rmSync(scratch, { recursive: true, force: true });
    }
  });

  test('refuses what is no log and no UKI, by name', () => {
    fails(['measured', `--root=${mkdtempSync(join(root, 'empty-'))}`], 'not-found', /no log of a measured boot at \S+/);
    fails(['measured', `--log=${bootLoader}`], 'malformed', /the firmware's event log is/);
    fails(['measured', '--userspace-log=x'], 'usage', /--userspace-log needs --log/);
    fails(
      ['measured', ...logs('a-boot1'), '--predict=nothing.efi'],
      'not-found',
      /there is no UKI or boot entry nothing\.efi/,
    );
    fails(['measured', ...logs('a-boot1'), `--predict=${bootLoader}`], 'malformed', /is not a UKI/);
    assert.equal(auxcred(['measured', 'x']).status, 2);
  });
});
