import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { bundle } from '../../src/package/executable.ts';
import { manPageFiles } from '../../src/package/man-pages.ts';
import { buildFolder, compiled } from '../../src/package/part.ts';
import { contentOf, filesIn, program, run, scratch, succeed } from './built.ts';

/** The files below a folder that a program of Node reads, of those that are there. */
function filesRead(scratchFolder: string, [node = '', ...args]: readonly string[], below: string): string[] {
  const preload = join(scratchFolder, 'preload.cjs');
  const list = join(scratchFolder, 'read');
  writeFileSync(
    preload,
    `const fs = require('node:fs');
    const { readFileSync } = fs;
    const read = [];
    fs.readFileSync = (path, ...more) => {
      const content = readFileSync(path, ...more);
      read.push(path);
      return content;
    };
    process.on('exit', () => fs.writeFileSync(${JSON.stringify(list)}, read.join('\\n')));`,
  );
  run(node, '--require', preload, ...args);
  return readFileSync(list, 'utf8')
    .split('\n')
    .filter((path) => path.startsWith(below));
}

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

  const parts = (): string[] => readdirSync(join(dist, 'parts')).map((name) => `parts/${name}`);

  test('are one file each and the parts of the command, next to the native file and the documents', () => {
    for (const part of parts()) assert.match(part, /^parts\/[\w-]+-[\w-]{8}\.cjs$/);
    assert.deepEqual(
      filesIn(dist).filter((path) => !path.startsWith('parts/')),
      [
        'auxcred-broker.cjs',
        'auxcred-generator.cjs',
        'auxcred.cjs',
        'code-cache.cjs',
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
      ['auxcred-broker', 158],
      ['auxcred-generator', 63],
    ] as const) {
      const { size } = statSync(join(dist, `${name}.cjs`));
      assert.ok(size < kibibytes * 1024, `${name}.cjs has ${String(size)} bytes`);
    }
  });

  test('load little of the command for a verb that units, users or shells wait for', () => {
    const root = join(first.path, 'no-machine');
    for (const [kibibytes, ...args] of [
      [50, '--version'],
      [80, 'stage'],
      [338, 'names', `--root=${root}`],
      [339, 'get', 'key', `--root=${root}`],
      [390, 'provision', `--root=${root}`],
    ] as const) {
      const bytes = loadedFiles(...args).reduce((sum, path) => sum + statSync(path).size, 0);
      assert.ok(bytes < kibibytes * 1024, `auxcred ${args[0]} loads ${String(bytes)} bytes`);
    }
  });

  /** The files of the program that a process with these arguments loads. */
  const loadedFiles = (...args: readonly string[]): string[] =>
    filesRead(first.path, [process.execPath, join(dist, 'auxcred.cjs'), ...args], join(dist, 'parts/'));

  test('contain only packages that load fast enough for the boot path', async () => {
    assert.deepEqual(
      [...(await bundle({ name: 'broker', entry: 'src/programs/auxcred-broker.ts', without: [] }, second.path))].sort(),
      [],
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
    const modules = new Set<string>();
    for (const name of ['auxcred-broker.cjs', 'auxcred-generator.cjs', 'auxcred.cjs', ...parts()]) {
      const required = [...readFileSync(join(dist, name), 'utf8').matchAll(/\brequire\((["'`])(.*?)\1\)/g)].map(
        (match) => match[2] ?? '',
      );
      for (const module of required) modules.add(module);
    }
    assert.ok(modules.size > parts().length);
    assert.deepEqual(
      [...modules].filter((module) => !/^(?:node:|\.\/[\w-]+\.cjs$)/.test(module)),
      [],
    );
  });

  test("load none of Node's larger modules in the generator", () => {
    const required = readFileSync(join(dist, 'auxcred-generator.cjs'), 'utf8').matchAll(
      /\brequire\([`"'](.*?)[`"']\)/g,
    );
    assert.deepEqual([...required].map(([, module]) => module).sort(), ['node:fs', 'node:path']);
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

describe('the code cache', () => {
  const built = scratch();
  const dist = join(built.path, 'dist');
  const caches = join(dist, 'code-cache');
  const cache = join(caches, buildFolder());
  const write = (...options: readonly string[]): void => {
    succeed(process.execPath, ...options, join(dist, 'code-cache.cjs'));
  };
  before(() => {
    succeed(process.execPath, program('bundle'), `--dist=${dist}`);
  });
  after(() => {
    built.remove();
  });

  test('has a file for each part, which V8 takes in place of compiling it', () => {
    write();
    const parts = readdirSync(join(dist, 'parts'));
    assert.deepEqual(readdirSync(cache), parts);
    for (const part of parts)
      assert.equal(compiled(dist, part, readFileSync(join(cache, part))).cachedDataRejected, false, part);
  });

  test('is for everybody to read and only for its owner to write, whatever the umask', () => {
    for (const mask of ['077', '000']) {
      succeed('sh', '-c', `umask ${mask}; exec "$@"`, 'sh', process.execPath, join(dist, 'code-cache.cjs'));
      for (const name of ['', ...readdirSync(caches, { recursive: true, encoding: 'utf8' })])
        assert.equal(statSync(join(caches, name)).mode & 0o777, name.endsWith('.cjs') ? 0o644 : 0o755, name);
    }
  });

  test('is replaced as a whole, and is the only one', () => {
    writeFileSync(join(cache, 'older-00000000.cjs'), '');
    mkdirSync(join(caches, 'v1.0.0'));
    write();
    assert.deepEqual(readdirSync(cache), readdirSync(join(dist, 'parts')));
    assert.deepEqual(readdirSync(caches), [buildFolder()]);
  });

  test('is whole after two writers at the same time', async () => {
    for (const _ of [1, 2, 3, 4]) {
      const writers = [1, 2].map(() => spawn(process.execPath, [join(dist, 'code-cache.cjs')], { stdio: 'ignore' }));
      await Promise.all(writers.map(async (writer) => await once(writer, 'close')));
      assert.deepEqual(readdirSync(cache), readdirSync(join(dist, 'parts')));
      assert.deepEqual(readdirSync(caches), [buildFolder()]);
    }
  });

  test('is not that of another build of the same version, on whose code V8 crashes', () => {
    write();
    const readBy = (node: string): string[] =>
      filesRead(built.path, [node, join(dist, 'auxcred.cjs'), '--version'], caches);
    const rebuilt = join(built.path, 'node');
    cpSync(process.execPath, rebuilt, { preserveTimestamps: true });
    assert.notEqual(readBy(rebuilt).length, 0, 'a copy of the same build');
    utimesSync(rebuilt, 1, 1);
    assert.deepEqual(readBy(rebuilt), []);
    assert.notEqual(readBy(process.execPath).length, 0);
  });

  test('leaves nothing behind where there is no room for it, and says so on a line', () => {
    rmSync(caches, { recursive: true });
    // As an error of a full disk, which only root could make.
    const limited = [
      'sh',
      '-c',
      'ulimit -f 64; exec "$@"',
      'sh',
      process.execPath,
      join(dist, 'code-cache.cjs'),
    ] as const;
    const { status, stderr } = run(...limited);
    assert.equal(status, 16);
    assert.match(
      stderr,
      /^auxcred: the code cache can't be written, so each call of auxcred starts slower: EFBIG: .*\n$/,
    );
    assert.deepEqual(readdirSync(caches), []);
  });

  const says = (...options: readonly string[]): string =>
    succeed(process.execPath, ...options, join(dist, 'auxcred.cjs'), '--version');

  test('changes nothing if it is of other flags, cut off, empty, something else, or missing', () => {
    write();
    const expected = says();
    assert.equal(says('--jitless'), expected);
    const files = readdirSync(cache).map((name) => join(cache, name));
    for (const path of files) truncateSync(path, statSync(path).size - 8);
    assert.equal(says(), expected);
    for (const path of files) truncateSync(path, 0);
    assert.equal(says(), expected);
    for (const path of files) writeFileSync(path, readFileSync(join(dist, 'auxcred.cjs')));
    assert.equal(says(), expected);
    rmSync(cache, { recursive: true });
    assert.equal(says(), expected);
  });
});
