import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { bundle } from '../../src/package/executable.ts';
import { manPageFiles } from '../../src/package/man-pages.ts';
import { contentOf, filesIn, program, run, scratch, succeed } from './built.ts';

describe('the executables', () => {
  const first = scratch();
  const second = scratch();
  const dist = join(first.path, 'dist');
  before(() => {
    succeed(process.execPath, program('bundle'), `--dist=${dist}`);
  });
  after(() => {
    first.remove();
    second.remove();
  });

  test('are one file each, next to the native file, the copyright, manual pages and completion', () => {
    assert.deepEqual(
      filesIn(dist),
      [
        'auxcred-broker.cjs',
        'auxcred-generator.cjs',
        'auxcred.cjs',
        'completion/_auxcred',
        'completion/auxcred',
        'completion/auxcred.fish',
        'copyright',
        'koffi.node',
        ...manPageFiles.map((name) => `man/${name}`),
      ].sort(),
    );
  });

  test('are the same bytes when built again', () => {
    succeed(process.execPath, program('bundle'), `--dist=${join(second.path, 'dist')}`);
    assert.deepEqual(contentOf(join(second.path, 'dist')), contentOf(dist));
  });

  test('are small if a boot waits for them', () => {
    // Half of the broker is the word list, a string that is split only for a passphrase.
    for (const [name, kibibytes] of [
      ['auxcred-broker', 168],
      ['auxcred-generator', 62],
      ['auxcred', 870],
    ] as const) {
      const { size } = statSync(join(dist, `${name}.cjs`));
      assert.ok(size < kibibytes * 1024, `${name}.cjs has ${String(size)} bytes`);
    }
  });

  test('contain only packages that load fast enough for the boot path', async () => {
    assert.deepEqual(
      [...(await bundle({ name: 'broker', entry: 'src/programs/auxcred-broker.ts', without: [] }, second.path))].sort(),
      ['@noble/ciphers'],
    );
    assert.deepEqual(
      [
        ...(await bundle({ name: 'generator', entry: 'src/programs/auxcred-generator.ts', without: [] }, second.path)),
      ].sort(),
      ['smol-toml'],
    );
    const commands = await bundle({ name: 'commands', entry: 'src/programs/auxcred.ts', without: [] }, second.path);
    assert.ok(commands.has('age-encryption'), 'the bundler tells which packages are inside');
  });

  test('are refused with a package that loads too slowly', async () => {
    await assert.rejects(
      bundle({ name: 'commands', entry: 'src/programs/auxcred.ts', without: ['mri', 'age-encryption'] }, second.path),
      /commands holds mri, age-encryption/,
    );
  });

  test("load no module but Node's own", () => {
    for (const name of ['auxcred-broker', 'auxcred-generator', 'auxcred']) {
      const required = [
        ...readFileSync(join(dist, `${name}.cjs`), 'utf8').matchAll(/\brequire\((["'`])(.*?)\1\)/g),
      ].map((match) => match[2] ?? '');
      assert.ok(required.length > 0, name);
      assert.deepEqual(
        required.filter((module) => !module.startsWith('node:')),
        [],
        name,
      );
    }
  });

  test('start: the command, the generator, and the broker without the compiler', () => {
    assert.match(succeed(process.execPath, join(dist, 'auxcred.cjs'), '--version'), /^\d+\.\d+\.\d+\n$/);
    const generator = run(process.execPath, join(dist, 'auxcred-generator.cjs'));
    assert.equal(generator.status, 2);
    assert.match(generator.stderr, /the folder to write to is missing/);
    const broker = run(process.execPath, '--jitless', join(dist, 'auxcred-broker.cjs'));
    assert.equal(broker.status, 2);
    assert.match(broker.stderr, /the broker is started by auxcred\.socket/);
  });
});
