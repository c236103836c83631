/** Owners and permissions of auxcred's files, and what a crash left behind. */
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { brokerGroup } from '../provision/provision.ts';
import { snapshotFiles } from '../snapshot/snapshot.ts';
import { configurationOf } from '../system/configuration.ts';
import { groupId, isLeftover } from '../system/files.ts';
import type { Paths } from '../system/paths.ts';
import type { ReadableFiles } from './readable-files.ts';

/** A file that the wrong users can read or write, or that the broker can't read. */
export interface FileFault {
  readonly path: string;
  /** The actual and the right owner and mode, in the notation of stat(1) and chmod(1). */
  readonly is: string;
  readonly should: string;
  /** The right owner and mode, as chown(1) and chmod(1) take them. */
  readonly owner: string;
  readonly mode: string;
}

/** The right owner and mode of a path. */
interface Rule {
  readonly path: string;
  readonly mode: number;
  /** Whether it belongs to the broker's group. */
  readonly shared: boolean;
  /** Whether other modes are right too, if only root can write to it. */
  readonly lenient?: true;
}

/** What is wrong with auxcred's files. */
export interface StoreFiles {
  /** The id of the broker's group; undefined if there is none. */
  readonly group: number | undefined;
  readonly hasUser: boolean;
  readonly faults: readonly FileFault[];
  /** Unfinished files, left by a writer that ended. */
  readonly leftovers: readonly string[];
}

/** Checks owners and permissions in and beside the store, and finds what a killed auxcred left there. */
export function storeFiles(readable: ReadableFiles, root: string, paths: Paths): StoreFiles {
  const group = groupId(root, brokerGroup);
  return {
    group,
    hasUser: (readable.text(join(root, '/etc/passwd')) ?? '')
      .split('\n')
      .some((line) => line.startsWith(`${brokerGroup}:`)),
    faults: [...rulesOf(paths).filter((rule) => !isConfigured(paths, rule)), ...redirecting(paths)].flatMap((rule) =>
      faultOf(readable, rule, group),
    ),
    leftovers: [paths.store, dirname(paths.pins), dirname(paths.brokerDropIn), paths.credstore].flatMap(leftoversIn),
  };
}

/** docs/formats.md describes each of these. */
const rulesOf = (paths: Paths): Rule[] => [
  { path: paths.store, mode: 0o750, shared: true },
  { path: paths.seeds, mode: 0o640, shared: true },
  { path: paths.ageHostKey, mode: 0o600, shared: false },
  { path: paths.pins, mode: 0o644, shared: false },
  { path: paths.brokerDropIn, mode: 0o644, shared: false },
  { path: paths.ownPins, mode: 0o644, shared: false },
  { path: paths.fixed, mode: 0o700, shared: false },
  { path: paths.generations, mode: 0o750, shared: true },
  { path: join(paths.snapshot, snapshotFiles.releases), mode: 0o640, shared: true },
  { path: join(paths.snapshot, snapshotFiles.record), mode: 0o600, shared: false },
  { path: join(paths.snapshot, snapshotFiles.settled), mode: 0o600, shared: false },
  { path: paths.sealedHostKey, mode: 0o600, shared: false },
  { path: paths.credstoreRecord, mode: 0o600, shared: false },
  { path: paths.fileLinks, mode: 0o600, shared: false },
  { path: paths.pending, mode: 0o600, shared: false },
  { path: paths.pushed, mode: 0o600, shared: false },
];

/** Whether the configuration writes the file, which then is a link to where nobody can change it. */
const isConfigured = (paths: Paths, { path }: Rule): boolean =>
  configurationOf(paths) !== undefined && [paths.pins, paths.brokerDropIn].includes(path);

/** Paths by which their writer could become root: with a hook in the manifest, a line in a drop-in, another socket. */
const redirecting = (paths: Paths): Rule[] => [
  ...[dirname(paths.pins), dirname(paths.credentialSocket), ...paths.manifestFolders].map(
    (path): Rule => ({ path, mode: 0o755, shared: false, lenient: true }),
  ),
  ...paths.manifestFolders.flatMap((folder) =>
    namesIn(folder)
      .filter((name) => /\.(?:toml|json)$/.test(name))
      .map((name): Rule => ({ path: join(folder, name), mode: 0o644, shared: false, lenient: true })),
  ),
];

function faultOf(
  readable: ReadableFiles,
  { path, mode, shared, lenient }: Rule,
  group: number | undefined,
): FileFault[] {
  const stat = readable.stat(path);
  if (!stat || (lenient && stat.isSymbolicLink())) return [];
  const actual = stat.mode & 0o7777;
  // Ownership can be judged only as root.
  const asRoot = process.getuid?.() === 0;
  const owned = !asRoot || stat.uid === 0;
  const grouped = !shared || group === undefined || !asRoot || stat.gid === group;
  const isRight = lenient === true ? (actual & 0o022) === 0 : actual === mode;
  if (isRight && owned && grouped) return [];
  const octal = (bits: number): string => bits.toString(8).padStart(4, '0');
  const isGrouped = shared && group !== undefined;
  return [
    {
      path,
      is: `${String(stat.uid)}:${String(stat.gid)} ${octal(actual)}`,
      should: `root:${isGrouped ? brokerGroup : 'root'} ${octal(mode)}`,
      owner: isGrouped ? `root:${String(group)}` : 'root',
      mode: octal(mode),
    },
  ];
}

const leftoversIn = (folder: string): string[] =>
  namesIn(folder)
    .filter((name) => isLeftover(name))
    .map((name) => join(folder, name));

/** None if it is missing or hidden. */
function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
