/**
 * An apt repository in a folder: packages, their indexes, and one signed file that names the indexes by hash.
 * Sources: the Debian wiki's DebianRepository/Format, sources.list(5), apt-secure(8).
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';

export interface Publication {
  /** The repository's folder; packages that are in it already stay in it. */
  readonly folder: string;
  /** Paths of Debian packages. */
  readonly packages: readonly string[];
  /** Fingerprint of the OpenPGP key to sign with, in gpg's keyring. */
  readonly key: string;
  /** Seconds since 1970. apt takes no list that is older than the one it has. */
  readonly date: number;
  /** Whether the signatures are of `date` too, so that the same packages give the same bytes. */
  readonly isDateFixed: boolean;
  /** From then on apt refuses the lists; undefined: never. */
  readonly validDays: number | undefined;
}

const suite = 'stable';
const component = 'main';
const pool = `pool/${component}/a/auxcred`;

/**
 * Adds packages, and signs the lists of all that are there.
 * @returns the architectures, in Debian's words
 * @throws Error if a package of the same name is there with other content, or if a tool fails
 */
export function publish(publication: Publication): string[] {
  const { folder, packages } = publication;
  mkdirSync(join(folder, pool), { recursive: true });
  for (const path of packages) addPackage(path, join(folder, pool, basename(path)));
  const lists = packageLists(folder);
  const dist = join(folder, 'dists', suite);
  const previous = existsSync(join(dist, 'Release')) ? hashesIn(readFileSync(join(dist, 'Release'), 'utf8')) : [];
  const indexes = [...lists].flatMap(([architecture, list]) => writeIndexes(dist, architecture, list));
  const release = releaseText(publication, [...lists.keys()], indexes);
  // Nothing of what a machine reads changes until the signatures are made.
  const made = ['Release', 'Release.gpg', 'InRelease'].map((name) => join(dist, name));
  writeFileSync(`${made[0]}.new`, release);
  sign(publication, '--detach-sign', `${made[0]}.new`, `${made[1]}.new`);
  sign(publication, '--clearsign', `${made[0]}.new`, `${made[2]}.new`);
  for (const path of made) renameSync(`${path}.new`, path);
  removeOldIndexes(dist, [...lists.keys()], new Set([...previous, ...hashesIn(release)]));
  run('gpg', [
    ...['--batch', '--yes', '--armor', '--export-options', 'export-minimal'],
    ...['--output', join(folder, 'auxcred.asc'), '--export', publication.key],
  ]);
  return [...lists.keys()];
}

/** What a machine puts into `/etc/apt/sources.list.d/auxcred.sources`. */
export const sourcesText = (url: string): string => `Types: deb
URIs: ${url}
Suites: ${suite}
Components: ${component}
Signed-By: /etc/apt/keyrings/auxcred.asc
`;

/** A version that was published never changes: machines that have it would not take the other one. */
function addPackage(from: string, to: string): void {
  if (!existsSync(to)) copyFileSync(from, to);
  else if (!readFileSync(from).equals(readFileSync(to)))
    throw new Error(`${to} is there with other content: a published version can't change, raise the version`);
}

/** The list of packages of each architecture. */
function packageLists(folder: string): Map<string, string> {
  const lists = new Map<string, string>();
  const files = readdirSync(join(folder, pool)).filter((name) => name.endsWith('.deb'));
  for (const name of files.sort()) {
    const path = `${pool}/${name}`;
    const architecture = run('dpkg-deb', ['--field', join(folder, path), 'Architecture']).trim();
    const entry = run('apt-ftparchive', ['--md5=false', '--sha1=false', 'packages', path], { cwd: folder });
    lists.set(architecture, (lists.get(architecture) ?? '') + entry);
  }
  return new Map([...lists].sort(([a], [b]) => (a < b ? -1 : 1)));
}

interface Index {
  /** Below the suite's folder. */
  readonly path: string;
  readonly sha256: string;
  readonly size: number;
}

const listFolder = (architecture: string): string => `${component}/binary-${architecture}`;
const hashFolder = (architecture: string): string => `${listFolder(architecture)}/by-hash/SHA256`;

/**
 * The list, plain and compressed, and each again by its hash: a client with the old Release still finds its list.
 */
function writeIndexes(dist: string, architecture: string, list: string): Index[] {
  mkdirSync(join(dist, hashFolder(architecture)), { recursive: true });
  const plain = join(dist, listFolder(architecture), 'Packages');
  writeFileSync(plain, list);
  run('xz', ['--force', '--keep', '--threads=1', '-9', plain]);
  return ['Packages', 'Packages.xz'].map((name) => {
    const path = `${listFolder(architecture)}/${name}`;
    const content = readFileSync(join(dist, path));
    const sha256 = createHash('sha256').update(content).digest('hex');
    writeFileSync(join(dist, hashFolder(architecture), sha256), content);
    return { path, sha256, size: content.length };
  });
}

function releaseText(
  { date, validDays }: Publication,
  architectures: readonly string[],
  indexes: readonly Index[],
): string {
  const day = 24 * 60 * 60;
  const text = (seconds: number): string => new Date(seconds * 1000).toUTCString().replace('GMT', 'UTC');
  return [
    'Origin: auxcred',
    'Label: auxcred',
    `Suite: ${suite}`,
    `Codename: ${suite}`,
    `Date: ${text(date)}`,
    ...(validDays === undefined ? [] : [`Valid-Until: ${text(date + validDays * day)}`]),
    'Acquire-By-Hash: yes',
    `Architectures: ${architectures.join(' ')}`,
    `Components: ${component}`,
    'SHA256:',
    ...indexes.map(({ path, sha256, size }) => ` ${sha256} ${String(size)} ${path}`),
    '',
  ].join('\n');
}

const hashesIn = (release: string): string[] =>
  [...release.matchAll(/^ ([0-9a-f]{64}) /gm)].map(([, hash = '']) => hash);

/** The lists before the previous ones. */
function removeOldIndexes(dist: string, architectures: readonly string[], kept: ReadonlySet<string>): void {
  for (const folder of architectures.map((architecture) => join(dist, hashFolder(architecture))))
    for (const name of readdirSync(folder).filter((hash) => !kept.has(hash))) rmSync(join(folder, name));
}

function sign({ key, date, isDateFixed }: Publication, how: string, from: string, to: string): void {
  run('gpg', [
    ...['--batch', '--yes', '--armor', '--digest-algo', 'SHA512', '--local-user', key],
    ...(isDateFixed ? ['--faked-system-time', `${String(date)}!`] : []),
    ...['--output', to, how, from],
  ]);
}

function run(command: string, args: readonly string[], { cwd }: { cwd?: string } = {}): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8', cwd });
  if (error !== undefined) throw new Error(`${command} can't run: ${error.message}`);
  if (status !== 0) throw new Error(`${command} failed with ${String(status)}: ${stderr.trim()}`);
  return stdout;
}
