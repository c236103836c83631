/** The package for arm64, built on this machine; under qemu's user emulation its program does what it does here. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { version } from '../../src/version.ts';
import { furnish } from '../commands/root.ts';
import { onlyInTestAll } from '../machine/root.ts';
import { startSwtpm } from '../swtpm.ts';
import { type Finished, program, run, scratch, succeed } from './built.ts';
import { arm64Root } from './foreign-root.ts';
import { furnishOldMachine, oldValues } from './version-01.ts';

const manifest = '[secret.key]\nkind = "hex"\nunits = ["web.service"]\n';

describe('the Debian package for arm64', () => {
  const built = scratch();
  const [dist, unpacked] = [join(built.path, 'dist'), join(built.path, 'unpacked')];
  let deb = '';
  before(() => {
    succeed(process.execPath, program('bundle'), `--dist=${dist}`);
    deb = succeed(process.execPath, program('deb'), `--dist=${dist}`, '--arch=arm64').trim();
    succeed('dpkg-deb', '--extract', deb, unpacked);
  });
  after(() => {
    built.remove();
  });

  test('differs from that of this machine by the native file', () => {
    assert.match(deb, /_arm64\.deb$/);
    assert.equal(succeed('dpkg-deb', '--field', deb, 'Architecture').trim(), 'arm64');
    const native = readFileSync(join(unpacked, 'usr/lib/auxcred/koffi.node'));
    // e_machine of the ELF header: EM_AARCH64.
    assert.equal(native.readUInt16LE(18), 183);
    for (const name of ['auxcred-broker.cjs', 'auxcred-generator.cjs'])
      assert.deepEqual(readFileSync(join(unpacked, 'usr/lib/auxcred', name)), readFileSync(join(dist, name)), name);
  });

  test('is not built for what koffi has no native file for', () => {
    const { status, stderr } = run(process.execPath, program('deb'), `--dist=${dist}`, '--arch=mips');
    assert.notEqual(status, 0);
    assert.match(stderr, /there is no package for mips, only for x64, arm64/);
  });

  const emulated = async (...args: string[]): Promise<Finished> => {
    const root = await arm64Root();
    const node = [join(root, 'usr/bin/node'), '--disable-warning=ExperimentalWarning'];
    return run('qemu-aarch64-static', '-L', root, ...node, join(unpacked, 'usr/lib/auxcred/auxcred.cjs'), ...args);
  };
  const works = async (...args: string[]): Promise<string> => {
    const { status, stdout, stderr } = await emulated(...args);
    assert.equal(status, 0, stderr);
    return stdout;
  };

  onlyInTestAll('runs, and prints the secrets of a machine of another architecture', async () => {
    assert.equal(await works('--version'), `${version}\n`);
    const old = join(built.path, 'old');
    furnishOldMachine(old);
    for (const name of ['signing', 'admin-hash', 'api-token'])
      assert.equal(await works('get', `--root=${old}`, name), oldValues.get(name)?.toString(), name);
  });

  onlyInTestAll('seals, and this machine opens it', async () => {
    const root = join(built.path, 'sealed');
    mkdirSync(root);
    furnish(root, manifest);
    await works('seal', '--no-recovery', `--root=${root}`);
    await works('apply', `--root=${root}`);
    const here = succeed(process.execPath, join(dist, 'auxcred.cjs'), 'get', `--root=${root}`, 'key');
    assert.match(here, /^[0-9a-f]{64}$/);
    assert.equal(await works('get', `--root=${root}`, 'key'), here);
  });

  onlyInTestAll('seals to a TPM, with structures of its own architecture', async () => {
    const root = join(built.path, 'with-tpm');
    mkdirSync(root);
    furnish(root, manifest);
    const tpm = await startSwtpm();
    try {
      const where = [`--tpm2-device=${tpm.device}`, `--root=${root}`];
      await works('seal', '--no-recovery', '--with-key=tpm2', ...where);
      succeed(process.execPath, join(dist, 'auxcred.cjs'), 'unseal', ...where);
    } finally {
      await tpm.stop();
    }
  });
});
