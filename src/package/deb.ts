/**
 * `npm run deb`: a Debian package in dist/, byte for byte the same for the same sources. `--dist=DIR` replaces dist.
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
import { debianHooks, install, installDebianHooks } from './layout.ts';
import { maintainerScripts } from './maintainer-scripts.ts';
import { sourceDate } from './source-date.ts';

/** Debian's names for the processor architectures that koffi supports. */
const architectures: Readonly<Record<string, string>> = {
  x64: 'amd64',
  arm64: 'arm64',
  riscv64: 'riscv64',
  loong64: 'loong64',
};

/** The libraries' names in Debian 12 | in Debian 13 and later; koffi's native file needs the last three. */
const depends = [
  'nodejs (>= 20.19)',
  'systemd (>= 252)',
  'libtss2-esys-3.0.2-0 | libtss2-esys-3.0.2-0t64',
  'libtss2-mu0 | libtss2-mu-4.0.1-0 | libtss2-mu-4.0.1-0t64',
  'libtss2-tctildr0 | libtss2-tctildr0t64',
  'init-system-helpers',
  'libc6 (>= 2.28)',
  'libstdc++6',
  'libgcc-s1',
];

const control = (architecture: string, kibibytes: number): string => `Package: auxcred
Version: ${version}
Architecture: ${architecture}
Maintainer: the auxcred authors <auxcred@localhost>
Installed-Size: ${String(kibibytes)}
Depends: ${depends.join(', ')}
Recommends: tpm-udev, libtss2-tcti-device0 | libtss2-tcti-device0t64, libtss2-rc0 | libtss2-rc0t64
Section: admin
Priority: optional
Description: every systemd unit gets its own secrets at boot
 auxcred derives each service's secrets from one seed that is sealed to the
 machine's TPM or to its ssh host key, and hands them to systemd when the
 service starts. Nothing has to be stored, synchronised or fetched.
`;

/** Folders before their contents, in an order that does not depend on the file system. */
function* tree(folder: string): Generator<string> {
  yield folder;
  for (const entry of readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* tree(path);
    else yield path;
  }
}

const dist = String(mri(process.argv.slice(2), { string: ['dist'], default: { dist: 'dist' } })['dist']);
const architecture = architectures[process.arch];
if (architecture === undefined) throw new Error(`there is no package for ${process.arch}`);
const folder = mkdtempSync(join(tmpdir(), 'auxcred-deb-'));
try {
  const place = { destination: folder, prefix: '/usr', dist, node: '/usr/bin/node' };
  install(place);
  installDebianHooks(place);
  const files = [...tree(folder)].filter((path) => lstatSync(path).isFile());
  // dpkg knows the digests of configuration files itself.
  const sums = files
    .filter((path) => !debianHooks.includes(path.slice(folder.length)))
    .map((path) => `${createHash('md5').update(readFileSync(path)).digest('hex')}  ${relative(folder, path)}\n`);
  const kibibytes = files.reduce((sum, path) => sum + Math.ceil(lstatSync(path).size / 1024), 0);
  mkdirSync(join(folder, 'DEBIAN'));
  writeFileSync(join(folder, 'DEBIAN/control'), control(architecture, kibibytes), { mode: 0o644 });
  writeFileSync(join(folder, 'DEBIAN/md5sums'), sums.join(''), { mode: 0o644 });
  writeFileSync(join(folder, 'DEBIAN/conffiles'), debianHooks.map((path) => `${path}\n`).join(''), { mode: 0o644 });
  for (const [name, script] of Object.entries(maintainerScripts))
    writeFileSync(join(folder, 'DEBIAN', name), script, { mode: 0o755 });
  for (const path of [...tree(folder)].reverse()) {
    if (lstatSync(path).isDirectory()) chmodSync(path, 0o755);
    lutimesSync(path, sourceDate, sourceDate);
  }
  const file = join(dist, `auxcred_${version}_${architecture}.deb`);
  const environment = { ...process.env, SOURCE_DATE_EPOCH: String(sourceDate) };
  const { status, error } = spawnSync('dpkg-deb', ['--root-owner-group', '-Zxz', '--build', folder, file], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: environment,
  });
  if (status !== 0) throw new Error(`dpkg-deb failed: ${error?.message ?? String(status)}`);
  console.log(file);
} finally {
  rmSync(folder, { recursive: true });
}
