/** Which file is installed where. */
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { completionFiles } from './completion.ts';
import { nodeOption, shebang } from './executable.ts';
import { manPageFiles } from './man-pages.ts';
import { codeCacheFolder, partsFolder } from './part.ts';

interface InstalledFile {
  readonly source: string;
  /** Below the prefix. */
  readonly destination: string;
  readonly mode: number;
  /** What is replaced in it: the placeholders `@node@`, `@libdir@`, `@bindir@` and `@root@`, or its first line. */
  readonly filled: 'placeholders' | 'shebang' | undefined;
}

export interface Place {
  /** The root of the system, or of the package being built. */
  readonly destination: string;
  /** `/usr`, or `/usr/local`. */
  readonly prefix: string;
  /** The output folder of `npm run build`; default: `dist`. */
  readonly dist?: string;
  /** The path of Node on the installed system. */
  readonly node: string;
  /** koffi's native file, if it is for another architecture than this machine's. */
  readonly native?: string;
}

const unitFolder = 'lib/systemd/system';
const libraryFolder = 'lib/auxcred';
const link = { path: 'bin/auxcred', target: `../${libraryFolder}/auxcred.cjs` };
/** The folder for other packages' manifests, the same for every prefix below /usr. */
const vendorFolder = '/usr/lib/auxcred/secrets.d';

/** Run after a kernel was installed or removed. */
const kernelHook = 'hooks/kernel.sh';
/**
 * Where Debian runs it, in the order of names after whatever makes boot entries: for kernels without kernel-install,
 * and for an initrd that is made again.
 */
export const debianHooks = ['kernel/postinst.d', 'kernel/postrm.d', 'initramfs/post-update.d'].map(
  (folder) => `/etc/${folder}/zzz-auxcred`,
);

/** README.md links to the others by relative paths, so the layout is kept. */
const documentation = [
  'README.md',
  'CHANGELOG.md',
  'CONTRIBUTING.md',
  ...[
    'architecture.md',
    'comparison.md',
    'bench.md',
    'decisions.md',
    'deploying-nixos.md',
    'flow.svg',
    'formats.md',
    'glossary.md',
    'graph.svg',
    'graph.toml',
    'guide.md',
    'moving-in.md',
    'nixos-options.md',
    'nixos.md',
    'operations.md',
    'peers.json',
    'peers.svg',
    'threat-model.md',
    'vaults.md',
    'watching.md',
  ].map((name) => `docs/${name}`),
];

/** Files below a folder of the source, by their path from its root. */
const filesBelow = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();

const file = (
  source: string,
  destination: string,
  { mode = 0o644, filled }: { mode?: number; filled?: 'placeholders' | 'shebang' } = {},
): InstalledFile => ({ source, destination, mode, filled });

/** The files of the command's parts, whose names are those of this build. */
const parts = (dist: string): readonly InstalledFile[] =>
  readdirSync(join(dist, partsFolder)).map((name) =>
    file(join(dist, partsFolder, name), `${libraryFolder}/${partsFolder}/${name}`),
  );

const filesFrom = (dist: string, native = join(dist, 'koffi.node')): readonly InstalledFile[] => [
  file(join(dist, 'auxcred.cjs'), `${libraryFolder}/auxcred.cjs`, { mode: 0o755, filled: 'shebang' }),
  file(join(dist, 'auxcred-broker.cjs'), `${libraryFolder}/auxcred-broker.cjs`),
  file(join(dist, 'auxcred-generator.cjs'), `${libraryFolder}/auxcred-generator.cjs`),
  file(join(dist, 'code-cache.cjs'), `${libraryFolder}/code-cache.cjs`),
  file(native, `${libraryFolder}/koffi.node`),
  file('generators/auxcred-generator', 'lib/systemd/system-generators/auxcred-generator', {
    mode: 0o755,
    filled: 'placeholders',
  }),
  file(kernelHook, 'lib/kernel/install.d/95-auxcred.install', { mode: 0o755, filled: 'placeholders' }),
  ...[
    'auxcred.socket',
    'auxcred-stage.socket',
    'auxcred.service',
    'auxcred-host-secret.service',
    'auxcred-provision.service',
    'auxcred-files.service',
    'auxcred-user-files.service',
    'auxcred-bind.service',
    'auxcred-rotate.timer',
    'auxcred-rotate.service',
  ].map((unit) => file(`units/${unit}`, `${unitFolder}/${unit}`, { filled: 'placeholders' })),
  file('units/sysusers.conf', 'lib/sysusers.d/auxcred.conf'),
  file('units/tmpfiles.conf', 'lib/tmpfiles.d/auxcred.conf'),
  file('src/manifest/schema.json', 'share/auxcred/secrets.schema.json'),
  ...manPageFiles.map((page) => file(join(dist, 'man', page), `share/man/man${page.slice(-1)}/${page}`)),
  ...Object.values(completionFiles).map((path) => file(join(dist, 'completion', basename(path)), `share/${path}`)),
  ...documentation.map((path) => file(path, `share/doc/auxcred/${path}`)),
  ...filesBelow('docs/services').map((path) => file(path, `share/doc/auxcred/${path}`)),
  ...filesBelow('examples').map((path) => {
    const mode = (statSync(path).mode & 0o100) === 0 ? 0o644 : 0o755;
    return file(path, `share/doc/auxcred/${path}`, { mode });
  }),
  file(join(dist, 'copyright'), 'share/doc/auxcred/copyright'),
];

const placeholders = (prefix: string, node: string): Readonly<Record<string, string>> => ({
  node,
  libdir: join(prefix, libraryFolder),
  bindir: join(prefix, 'bin'),
  root: '',
});

/**
 * Installs everything, replacing an earlier version.
 * @returns the paths of the files on the installed system
 */
export function install({ destination, prefix, dist = 'dist', node, native }: Place): string[] {
  const values = placeholders(prefix, node);
  const files = [...filesFrom(dist, native), ...parts(dist)];
  // Those of an earlier version have other names.
  removeParts(join(destination, prefix, libraryFolder));
  for (const entry of files) {
    const path = join(destination, prefix, entry.destination);
    mkdirSync(dirname(path), { recursive: true });
    const content = readFileSync(entry.source);
    // A new file replaces the old one, so a program that runs from the old one is not disturbed.
    rmSync(path, { force: true });
    writeFileSync(path, entry.filled === undefined ? content : filled(content.toString('utf8'), entry.filled, values));
    chmodSync(path, entry.mode);
  }
  const linkPath = join(destination, prefix, link.path);
  mkdirSync(dirname(linkPath), { recursive: true });
  rmSync(linkPath, { force: true });
  symlinkSync(link.target, linkPath);
  // Below any other prefix, as in a store of packages, the system's own /usr is not this installation's.
  if (prefix.startsWith('/usr')) mkdirSync(join(destination, vendorFolder), { recursive: true });
  return [...files.map((entry) => join(prefix, entry.destination)), join(prefix, link.path)];
}

/** Installs the hooks that only a Debian package has: they are its configuration files. */
export function installDebianHooks({ destination, prefix, node }: Place): void {
  const text = readFileSync(kernelHook, 'utf8');
  for (const hook of debianHooks) {
    const path = join(destination, hook);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, filled(text, 'placeholders', placeholders(prefix, node)));
    chmodSync(path, 0o755);
  }
}

/** Removes what {@link install} installed, and folders that become empty. Whatever holds secrets stays. */
export function remove({ destination, prefix }: Pick<Place, 'destination' | 'prefix'>): void {
  const removeEmpty = (folder: string): void => {
    for (let at = folder; at.length > destination.length && isEmpty(at); at = dirname(at)) rmdirSync(at);
  };
  removeEmpty(join(destination, vendorFolder));
  removeParts(join(destination, prefix, libraryFolder));
  for (const below of [...filesFrom('').map((entry) => entry.destination), link.path]) {
    const path = join(destination, prefix, below);
    rmSync(path, { force: true });
    removeEmpty(dirname(path));
  }
}

function removeParts(library: string): void {
  for (const folder of [partsFolder, codeCacheFolder]) rmSync(join(library, folder), { recursive: true, force: true });
}

function isEmpty(folder: string): boolean {
  try {
    return readdirSync(folder).length === 0;
  } catch {
    return false;
  }
}

function filled(text: string, what: 'placeholders' | 'shebang', values: Readonly<Record<string, string>>): string {
  if (what === 'placeholders')
    return text.replace(/@(node|libdir|bindir|root)@/g, (_, name: string) => values[name] ?? '');
  if (!text.startsWith(`${shebang}\n`)) throw new Error('the command does not start with its shebang: npm run build');
  return `#!${values['node'] ?? ''} ${nodeOption}${text.slice(shebang.length)}`;
}
