/**
 * `npm run deb`: a Debian package in dist/, byte for byte the same for the same sources. `--dist=DIR` replaces dist;
 * `--arch=arm64` makes the package of another architecture: only koffi's native file differs.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import mri from 'mri';
import { version } from '../version.ts';
import { architectures, changelog, control, lintianOverrides } from './debian.ts';
import { debianHooks, install, installDebianHooks } from './layout.ts';
import { maintainerScripts, triggers } from './maintainer-scripts.ts';
import { nativeFile } from './native-file.ts';
import { sourceDate } from './source-date.ts';

/** Folders before their contents, in an order that does not depend on the file system. */
function* tree(folder: string): Generator<string> {
  yield folder;
  for (const entry of readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* tree(path);
    else yield path;
  }
}

/** What a Debian package has beside the installed files: a changelog, and manual pages compressed without a date. */
function addDebianFiles(folder: string): void {
  const documents = join(folder, 'usr/share/doc/auxcred');
  writeFileSync(join(documents, 'changelog'), changelog(version, sourceDate));
  const overrides = join(folder, 'usr/share/lintian/overrides');
  mkdirSync(overrides, { recursive: true });
  writeFileSync(join(overrides, 'auxcred'), lintianOverrides);
  const pages = [...tree(join(folder, 'usr/share/man'))].filter((path) => lstatSync(path).isFile());
  run('gzip', ['-9n', join(documents, 'changelog'), ...pages]);
}

/** Nothing of this machine is in the package: neither its umask, nor its clock, nor its number of processors. */
function normalize(folder: string): void {
  for (const path of [...tree(folder)].reverse()) {
    const status = lstatSync(path);
    if (!status.isSymbolicLink()) chmodSync(path, status.isDirectory() || (status.mode & 0o100) !== 0 ? 0o755 : 0o644);
    lutimesSync(path, sourceDate, sourceDate);
  }
}

function run(command: string, args: readonly string[]): void {
  const environment = { ...process.env, SOURCE_DATE_EPOCH: String(sourceDate) };
  const { status, error } = spawnSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'], env: environment });
  if (status !== 0) throw new Error(`${command} failed: ${error?.message ?? `exit status ${String(status)}`}`);
}

const options = mri(process.argv.slice(2), {
  string: ['dist', 'arch'],
  default: { dist: 'dist', arch: process.arch },
});
const [dist, wanted] = [String(options['dist']), String(options['arch'])];
const architecture = architectures[wanted];
if (architecture === undefined)
  throw new Error(`there is no package for ${wanted}, only for ${Object.keys(architectures).join(', ')}`);
const folder = mkdtempSync(join(tmpdir(), 'auxcred-deb-'));
try {
  const native = wanted === process.arch ? join(dist, 'koffi.node') : nativeFile(wanted);
  const place = { destination: folder, prefix: '/usr', dist, node: '/usr/bin/node', native };
  install(place);
  installDebianHooks(place);
  addDebianFiles(folder);
  const files = [...tree(folder)].filter((path) => lstatSync(path).isFile());
  // dpkg knows the digests of configuration files itself.
  const sums = files
    .filter((path) => !debianHooks.includes(path.slice(folder.length)))
    .map((path) => `${createHash('md5').update(readFileSync(path)).digest('hex')}  ${relative(folder, path)}\n`);
  const kibibytes = files.reduce((sum, path) => sum + Math.ceil(lstatSync(path).size / 1024), 0);
  mkdirSync(join(folder, 'DEBIAN'));
  writeFileSync(join(folder, 'DEBIAN/control'), control({ version, architecture, kibibytes }));
  writeFileSync(join(folder, 'DEBIAN/md5sums'), sums.join(''));
  writeFileSync(join(folder, 'DEBIAN/triggers'), triggers);
  writeFileSync(join(folder, 'DEBIAN/conffiles'), debianHooks.map((path) => `${path}\n`).join(''));
  for (const [name, script] of Object.entries(maintainerScripts))
    writeFileSync(join(folder, 'DEBIAN', name), script, { mode: 0o755 });
  normalize(folder);
  const file = join(dist, `auxcred_${version}_${architecture}.deb`);
  run('dpkg-deb', ['--root-owner-group', '-Zxz', '--threads-max=1', '--build', folder, file]);
  console.log(file);
} finally {
  rmSync(folder, { recursive: true });
}
