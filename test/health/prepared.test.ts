/** The branches for what is installed, from the log of a real boot and the files of a root folder. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { chosenBranches, isPrepared } from '../../src/cli/chosen-branches.ts';
import { parseLog, replayed } from '../../src/measured/measured-log.ts';
import { branchId, readLabels } from '../../src/seeds/branch-labels.ts';
import { pathsUnder } from '../../src/system/paths.ts';
import type { PcrValues, TpmPolicy } from '../../src/tpm2/policy.ts';
import { bootLoader, read, run, stub } from '../measured/images.ts';
import { bytesOf, hex, sampleFile } from '../measured/samples.ts';
import { failsWith } from '../tpm2/sealing.ts';

const root = mkdtempSync(join(tmpdir(), 'auxcred-prepared-'));
const paths = pathsUnder(root);
after(() => {
  rmSync(root, { recursive: true, force: true });
});
const place = (path: string, content: Uint8Array | string): void => {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), content);
};
const log = bytesOf(sampleFile('entry-1', 'binary_bios_measurements'));
const { events } = parseLog(log, undefined);
const pcrs = [4, 12];
const now: PcrValues = new Map([...replayed(events, 'sha256')].filter(([pcr]) => pcrs.includes(pcr)));
const policyOf = (branches: readonly PcrValues[]): TpmPolicy => ({ bank: 'sha256', authority: undefined, branches });

/** The values of a boot of a kernel, computed without auxcred. */
function expected(kernel: string, commandLine: string): string[] {
  const authenticode = (file: string): string =>
    /hash: ([0-9a-f]{64})/.exec(run('pesign', '-h', '-i', file))?.[1] ?? '';
  const logged = events.filter(({ pcr }) => pcr === 4).map(({ digests }) => hex(digests.get('sha256')));
  const sha256 = (data: Buffer): string => createHash('sha256').update(data).digest('hex');
  const extend = (digests: readonly string[]): string =>
    digests.reduce((value, digest) => sha256(Buffer.from(value + digest, 'hex')), '00'.repeat(32));
  return [
    extend([...logged.slice(0, 2), authenticode(bootLoader), authenticode(kernel)]),
    extend([sha256(Buffer.from(`${commandLine}\0`, 'utf16le'))]),
  ];
}
const valuesIn = (branch: PcrValues | undefined): string[] => [...(branch?.values() ?? [])].map(hex);

describe('the branches for what is installed', () => {
  let branches: readonly PcrValues[] = [];
  const prepare = (known: readonly PcrValues[]): void => {
    const wishes = chosenBranches(paths, { kind: 'installed' }, pcrs, policyOf(known));
    branches = wishes.branches(now);
    wishes.beforehand();
  };
  const entries = (): string[] => branches.map((values) => readLabels(paths).get(branchId(values))?.entry ?? '');
  before(() => {
    mkdirSync(join(root, 'var/lib/auxcred'), { recursive: true });
    place('efi/EFI/BOOT/BOOTX64.EFI', read(bootLoader));
    place('efi/loader/loader.conf', 'timeout 0\n');
    place('efi/m/one', read(bootLoader));
    place('efi/m/two', read(stub));
    place('efi/m/initrd', 'initrd');
    place('efi/loader/entries/one.conf', 'version 1\nsort-key m\nlinux /m/one\noptions quiet\n');
    place('efi/loader/entries/two.conf', 'version 2\nsort-key m\nlinux /m/two\ninitrd /m/initrd\noptions quiet\n');
  });

  test('can not be known without a log of this boot', () => {
    assert.throws(() => isPrepared(paths, policyOf([now])), failsWith('not-found', /no log of a measured boot/));
  });

  test('are those of each entry, the one that boots next first, beside that of this boot', () => {
    place('sys/kernel/security/tpm0/binary_bios_measurements', log);
    assert.equal(isPrepared(paths, policyOf([now])), undefined);
    prepare([now]);
    assert.deepEqual(valuesIn(branches[0]), valuesIn(now));
    assert.deepEqual(valuesIn(branches[1]), expected(stub, 'initrd=\\m\\initrd quiet'));
    assert.deepEqual(valuesIn(branches[2]), expected(bootLoader, 'quiet'));
    assert.equal(branches.length, 3);
    assert.deepEqual(entries(), ['linux-1', 'two.conf', 'one.conf']);
    assert.equal(isPrepared(paths, policyOf(branches)), 3);
  });

  test('go with their entry, and change with its command line', () => {
    rmSync(join(root, 'efi/loader/entries/one.conf'));
    assert.equal(isPrepared(paths, policyOf(branches)), undefined);
    prepare(branches);
    assert.deepEqual(entries(), ['linux-1', 'two.conf']);
    place('efi/loader/entries/two.conf', 'version 2\nsort-key m\nlinux /m/two\noptions other\n');
    assert.equal(isPrepared(paths, policyOf(branches)), undefined);
    prepare(branches);
    assert.deepEqual(entries(), ['linux-1', 'two.conf']);
    assert.deepEqual(valuesIn(branches[1]), expected(stub, 'other'));
  });

  test('leave out an entry whose files are gone, and fail if there is no other', () => {
    place('efi/loader/entries/one.conf', 'version 1\nsort-key m\nlinux /m/one\ninitrd /m/none\n');
    prepare(branches);
    assert.deepEqual(entries(), ['linux-1', 'two.conf']);
    rmSync(join(root, 'efi/loader/entries/two.conf'));
    assert.throws(() => prepare(branches), failsWith('not-found', /none is gone, and the boot entry/));
  });
});
