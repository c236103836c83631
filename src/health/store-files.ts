/** Owners and permissions of what auxcred keeps, and what a crash left behind. */
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { brokerGroup } from '../provision/provision.ts';
import { groupId, isLeftover } from '../system/files.ts';
import type { Paths } from '../system/paths.ts';
import type { Sight } from './readable-files.ts';

/** A file that the wrong users can read or write, or that the broker can't read. */
export interface FileFault {
  readonly path: string;
  /** As it is and as it should be, as stat(1) and chmod(1) write it. */
  readonly is: string;
  readonly should: string;
  /** The same for chown(1) and chmod(1). */
  readonly owner: string;
  readonly mode: string;
}

interface Rule {
  readonly path: string;
  readonly mode: number;
  /** Whether it belongs to the broker's group. */
  readonly shared: boolean;
}

export interface StoreFiles {
  /** Of the group that the broker runs in; undefined if there is none. */
  readonly group: number | undefined;
  readonly hasUser: boolean;
  readonly faults: readonly FileFault[];
  /** Files that were being written when their writer ended. */
  readonly leftovers: readonly string[];
}

/** Checks the owners and permissions in and beside the store, and looks for files left behind by a killed auxcred. */
export function storeFiles(sight: Sight, root: string, paths: Paths): StoreFiles {
  const group = groupId(root, brokerGroup);
  return {
    group,
    hasUser: (sight.text(join(root, '/etc/passwd')) ?? '')
      .split('\n')
      .some((line) => line.startsWith(`${brokerGroup}:`)),
    faults: rulesOf(paths).flatMap((rule) => faultOf(sight, rule, group)),
    leftovers: [paths.store, dirname(paths.pins), dirname(paths.brokerDropIn), paths.credstore].flatMap(leftoversIn),
  };
}

/** docs/formats.md names each of these. */
const rulesOf = (paths: Paths): Rule[] => [
  { path: paths.store, mode: 0o750, shared: true },
  { path: paths.seeds, mode: 0o640, shared: true },
  { path: paths.ageHostKey, mode: 0o600, shared: false },
  { path: paths.pins, mode: 0o644, shared: false },
  { path: paths.brokerDropIn, mode: 0o644, shared: false },
  { path: paths.fixed, mode: 0o700, shared: false },
  { path: paths.generations, mode: 0o750, shared: true },
  { path: join(paths.snapshot, 'releases.json'), mode: 0o640, shared: true },
  { path: join(paths.snapshot, 'record.json'), mode: 0o600, shared: false },
  { path: join(paths.snapshot, 'settled.json'), mode: 0o600, shared: false },
  { path: paths.sealedHostKey, mode: 0o600, shared: false },
  { path: paths.credstoreRecord, mode: 0o600, shared: false },
  { path: paths.fileLinks, mode: 0o600, shared: false },
  { path: paths.pending, mode: 0o600, shared: false },
  { path: paths.pushed, mode: 0o600, shared: false },
];

function faultOf(sight: Sight, { path, mode, shared }: Rule, group: number | undefined): FileFault[] {
  const stat = sight.stat(path);
  if (!stat) return [];
  const actual = stat.mode & 0o7777;
  // Ownership can only be judged as root.
  const asRoot = process.getuid?.() === 0;
  const owned = !asRoot || stat.uid === 0;
  const grouped = !shared || group === undefined || !asRoot || stat.gid === group;
  if (actual === mode && owned && grouped) return [];
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

function leftoversIn(folder: string): string[] {
  try {
    return readdirSync(folder)
      .filter((name) => isLeftover(name))
      .map((name) => join(folder, name));
  } catch {
    return [];
  }
}
