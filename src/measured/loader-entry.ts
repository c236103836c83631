/**
 * Entries of type 1 (UAPI.1 Boot Loader Specification, "Type #1 Boot Loader Specification Entries"), and what
 * systemd-boot makes of them (src/boot/boot.c).
 */
import { Failure } from '../failure.ts';

/** A file `loader/entries/ID.conf`. */
export interface LoaderEntry {
  /** Its file name, without the counter of tries. */
  readonly id: string;
  /** Paths on the partition of the entry, with slashes, as written. */
  readonly linux: string | undefined;
  readonly initrds: readonly string[];
  /** A program of another kind, or a UKI: `efi` and `uki`. */
  readonly program: string | undefined;
  readonly options: string | undefined;
  readonly machineId: string | undefined;
  readonly version: string | undefined;
  readonly sortKey: string | undefined;
  /** Whether a device tree, or overlays of one, are put beside the kernel. */
  readonly hasDeviceTree: boolean;
}

/** Parses an entry as systemd-boot does: unknown keys are ignored, and the last of several values counts. */
export function parseLoaderEntry(text: string, id: string): LoaderEntry {
  const lines = settingsIn(text);
  const all = (key: string): string[] => lines.flatMap(([name, value]) => (name === key ? [value] : []));
  const options = all('options');
  return {
    id,
    linux: all('linux').at(-1),
    initrds: all('initrd'),
    program: [...all('efi'), ...all('uki')].at(-1),
    options: options.length === 0 ? undefined : options.join(' '),
    machineId: all('machine-id').at(-1),
    version: all('version').at(-1),
    sortKey: all('sort-key').at(-1),
    hasDeviceTree: lines.some(([name]) => name.startsWith('devicetree')),
  };
}

/** The keys and values of an entry, or of loader.conf, in their order. */
export const settingsIn = (text: string): (readonly [key: string, value: string])[] =>
  text.split(/[\r\n]/).flatMap((line) => {
    const [, key, value = ''] = /^[ \t]*([^# \t][^ \t]*)[ \t]+(.*?)[ \t]*$/.exec(line) ?? [];
    if (key === undefined || value === '') return [];
    const isQuoted = value.length > 1 && value.startsWith('"') && value.endsWith('"');
    return [[key, isQuoted ? value.slice(1, -1) : value] as const];
  });

/** A path as systemd-boot writes it: with single backslashes. */
export const efiPath = (path: string): string => path.replace(/[\\/]+/g, '\\');

/** The command line that the kernel gets: the initrds first. Undefined if there is none. */
export function commandLineOf({ initrds, options }: Pick<LoaderEntry, 'initrds' | 'options'>): string | undefined {
  const parts = [...initrds.map((path) => `initrd=${efiPath(path)}`), ...(options === undefined ? [] : [options])];
  return parts.length === 0 ? undefined : parts.join(' ');
}

/** The path of a file of an entry below its partition. @throws Failure `malformed` for one that leads out of it */
export function partsOf(path: string, id: string): string[] {
  const parts = path.split(/[\\/]/).filter((part) => part !== '' && part !== '.');
  if (parts.length > 0 && !parts.includes('..')) return parts;
  throw new Failure(
    'malformed',
    `the boot entry ${id} has the path ${JSON.stringify(path)}, which is not that of a file on its partition`,
    { hint: 'its paths start at the top of that partition, and have no ..' },
  );
}
