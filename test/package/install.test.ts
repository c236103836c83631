import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { verbNames } from '../../src/cli/manual.ts';
import { contentOf, type Finished, filesIn, program, run, scratch, succeed } from './built.ts';

const executables = [
  'usr/lib/auxcred/auxcred.cjs',
  'usr/lib/kernel/install.d/95-auxcred.install',
  'usr/lib/systemd/system-generators/auxcred-generator',
];
const units = [
  'auxcred.service',
  'auxcred.socket',
  'auxcred-stage.socket',
  'auxcred-host-secret.service',
  'auxcred-provision.service',
  'auxcred-files.service',
  'auxcred-user-files.service',
  'auxcred-bind.service',
  'auxcred-rotate.timer',
  'auxcred-rotate.service',
];
/** The command's parts have names that change with their content. */
const isPart = (path: string): boolean => path.startsWith('usr/lib/auxcred/parts/');
const expected = [
  'usr/bin/auxcred',
  ...executables,
  ...['auxcred-broker.cjs', 'auxcred-generator.cjs', 'code-cache.cjs', 'koffi.node'].map(
    (name) => `usr/lib/auxcred/${name}`,
  ),
  ...units.map((unit) => `usr/lib/systemd/system/${unit}`),
  'usr/lib/sysusers.d/auxcred.conf',
  'usr/lib/tmpfiles.d/auxcred.conf',
  ...['auxcred', ...verbNames.map((verb) => `auxcred-${verb}`)].map((name) => `usr/share/man/man1/${name}.1`),
  'usr/share/man/man5/auxcred-secrets.5',
  'usr/share/man/man8/auxcred.service.8',
  'usr/share/bash-completion/completions/auxcred',
  'usr/share/zsh/vendor-completions/_auxcred',
  'usr/share/fish/vendor_completions.d/auxcred.fish',
  ...[
    'README.md',
    'CHANGELOG.md',
    'CONTRIBUTING.md',
    ...filesIn('docs')
      .filter((name) => !name.endsWith('.mjs'))
      .map((name) => `docs/${name}`),
    ...filesIn('examples').map((name) => `examples/${name}`),
  ].map((name) => `usr/share/doc/auxcred/${name}`),
  'usr/share/auxcred/secrets.schema.json',
  'usr/share/doc/auxcred/copyright',
].sort();

describe('installing', () => {
  const built = scratch();
  const dist = join(built.path, 'dist');
  const root = join(built.path, 'root');
  const install = (...options: string[]): Finished =>
    run(process.execPath, program('install'), `--dist=${dist}`, ...options);
  before(() => {
    succeed(process.execPath, program('bundle'), `--dist=${dist}`);
    const { status, stderr } = install(`--destdir=${root}`, `--node=${process.execPath}`);
    assert.equal(status, 0, stderr);
  });
  after(() => {
    built.remove();
  });

  test('installs every file, and none is empty', () => {
    const files = filesIn(root);
    assert.deepEqual(
      files.filter((path) => !isPart(path)),
      expected,
    );
    assert.deepEqual(
      files.filter(isPart).map((path) => basename(path)),
      readdirSync(join(dist, 'parts')).sort(),
    );
    for (const path of files) assert.ok(statSync(join(root, path)).size > 1, `${path} is empty`);
    assert.deepEqual(readdirSync(join(root, 'usr/lib/auxcred/secrets.d')), []);
  });

  test('makes only the executables executable', () => {
    const scripts = filesIn('examples')
      .filter((name) => readFileSync(join('examples', name), 'utf8').startsWith('#!'))
      .map((name) => `usr/share/doc/auxcred/examples/${name}`);
    for (const path of filesIn(root)) {
      const mode = statSync(join(root, path)).mode & 0o7777;
      const runs = [...executables, ...scripts, 'usr/bin/auxcred'].includes(path);
      assert.equal(mode, runs ? 0o755 : 0o644, path);
    }
  });

  test('leaves no placeholder', () => {
    for (const path of expected.filter((name) => /systemd|sysusers|tmpfiles|kernel/.test(name)))
      assert.doesNotMatch(readFileSync(join(root, path), 'utf8'), /@[a-z]+@/, path);
    assert.match(
      readFileSync(join(root, 'usr/lib/systemd/system/auxcred.service'), 'utf8'),
      new RegExp(`^ExecStart=${process.execPath} --jitless /usr/lib/auxcred/auxcred-broker\\.cjs$`, 'm'),
    );
  });

  test('includes the documentation, and its links lead somewhere', () => {
    const pages = expected.filter((path) => path.endsWith('.md'));
    for (const page of pages)
      for (const [, target = ''] of readFileSync(join(root, page), 'utf8').matchAll(
        /\]\(([^)#:\s]+\.[a-z]+)(?:#[^)]*)?\)/g,
      ))
        assert.ok(existsSync(join(root, page, '..', target)), `${page}: ${target}`);
    assert.ok(pages.length > 10);
  });

  test('makes a command that runs', () => {
    assert.equal(readlinkSync(join(root, 'usr/bin/auxcred')), '../lib/auxcred/auxcred.cjs');
    assert.match(succeed(join(root, 'usr/bin/auxcred'), '--version'), /^\d+\.\d+\.\d+\n$/);
  });

  test('again changes nothing, and removes the parts of another version', () => {
    const before = contentOf(root);
    writeFileSync(join(root, 'usr/lib/auxcred/parts/older-00000000.cjs'), '');
    assert.equal(install(`--destdir=${root}`, `--node=${process.execPath}`).status, 0);
    assert.deepEqual(contentOf(root), before);
  });

  test('elsewhere uses that path', () => {
    using other = scratch();
    const { status, stdout } = install(`--destdir=${other.path}`, '--prefix=/usr/local', '--node=/opt/node/bin/node');
    assert.equal(status, 0);
    assert.match(stdout, /^\/usr\/local\/bin\/auxcred$/m);
    const service = readFileSync(join(other.path, 'usr/local/lib/systemd/system/auxcred.service'), 'utf8');
    assert.match(
      service,
      /^ExecStart=\/opt\/node\/bin\/node --jitless \/usr\/local\/lib\/auxcred\/auxcred-broker\.cjs$/m,
    );
    assert.match(
      readFileSync(join(other.path, 'usr/local/lib/systemd/system/auxcred-provision.service'), 'utf8'),
      /^ExecStart=\/usr\/local\/bin\/auxcred provision --early$/m,
    );
    assert.match(
      readFileSync(join(other.path, 'usr/local/lib/systemd/system-generators/auxcred-generator'), 'utf8'),
      /\/opt\/node\/bin\/node \/usr\/local\/lib\/auxcred\/auxcred-generator\.cjs/,
    );
    assert.equal(
      readFileSync(join(other.path, 'usr/local/lib/auxcred/auxcred.cjs'), 'utf8').split('\n')[0],
      '#!/opt/node/bin/node --disable-warning=ExperimentalWarning',
    );
    assert.ok(existsSync(join(other.path, 'usr/lib/auxcred/secrets.d')));
    assert.equal(install(`--destdir=${other.path}`, '--prefix=/usr/local', '--remove').status, 0);
    assert.deepEqual(readdirSync(other.path), []);
  });

  test('removes the code cache, too', () => {
    using other = scratch();
    assert.equal(install(`--destdir=${other.path}`).status, 0);
    succeed(process.execPath, join(other.path, 'usr/lib/auxcred/code-cache.cjs'));
    assert.equal(install(`--destdir=${other.path}`, '--remove').status, 0);
    assert.deepEqual(readdirSync(other.path), []);
  });

  test("refuses what can't work", () => {
    for (const option of [
      '--node=/root/.nvm/node',
      '--node=/home/me/node',
      '--node=node',
      '--prefix=usr',
      '--prefix=/my programs',
      '--destdir=',
      '--preifx=/usr',
      'extra',
    ]) {
      const { status, stderr } = install(
        ...(option.startsWith('--destdir') ? [] : [`--destdir=${join(built.path, 'refused')}`]),
        option,
      );
      assert.equal(status, 2, option);
      assert.match(stderr, /^auxcred: /, option);
    }
    assert.ok(!existsSync(join(built.path, 'refused')));
  });

  test("and removing leaves nothing but other programs' files", () => {
    using other = scratch();
    assert.equal(install(`--destdir=${other.path}`).status, 0);
    const kept = [
      'usr/lib/auxcred/secrets.d/vendor.toml',
      'usr/lib/systemd/system/other.service',
      'var/lib/auxcred/seeds.age',
    ];
    for (const path of kept) {
      mkdirSync(join(other.path, path, '..'), { recursive: true });
      writeFileSync(join(other.path, path), 'x');
    }
    assert.equal(install(`--destdir=${other.path}`, '--remove').status, 0);
    assert.deepEqual(filesIn(other.path), kept);
    assert.deepEqual(readdirSync(join(other.path, 'usr')), ['lib']);
    assert.equal(install(`--destdir=${other.path}`, '--remove').status, 0, 'a second time');

    using alone = scratch();
    assert.equal(install(`--destdir=${alone.path}`).status, 0);
    assert.equal(install(`--destdir=${alone.path}`, '--remove').status, 0);
    assert.deepEqual(readdirSync(alone.path), []);
  });

  test('systemd understands every line of the units', () => {
    // It searches for the programs and the units that the units name below the same root.
    const { stderr } = run(
      'systemd-analyze',
      'verify',
      '--man=no',
      `--root=${root}`,
      ...units.map((unit) => join(root, 'usr/lib/systemd/system', unit)),
    );
    assert.doesNotMatch(stderr, /auxcred[^:]*:\d+:|unknown|invalid|failed to parse/i);
  });

  test('systemd rates the broker 0.9 or better', () => {
    const rate = (threshold: number): number | null =>
      run(
        'systemd-analyze',
        'security',
        '--offline=true',
        `--threshold=${String(threshold)}`,
        '--no-pager',
        `--root=${root}`,
        'auxcred.service',
      ).status;
    assert.equal(rate(9), 0);
    assert.notEqual(rate(1), 0, 'it is able to say no');
  });
});
