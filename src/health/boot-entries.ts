/** What can be booted: UKIs and entries on the boot partitions, as systemd-boot finds them. */
import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { concat, hex } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { countedName, defaultEntry, inMenuOrder, type MenuEntry, ukiSorting } from '../measured/boot-menu.ts';
import type { LinuxBoot } from '../measured/boot-shape.ts';
import { commandLineOf, parseLoaderEntry, partsOf, settingsIn } from '../measured/loader-entry.ts';
import { parsePe } from '../measured/pe.ts';
import { utf8Text, utf16 } from '../measured/reader.ts';
import { parseUki, type Uki } from '../measured/uki.ts';
import { namesIn, readFileWithin } from '../system/files.ts';
import type { Paths } from '../system/paths.ts';
import { unlessDamaged } from './boot-changes.ts';

/** Where the ESP and the partition for kernels are mounted (systemd-gpt-auto-generator(8), bootctl(1)). */
const mounts = ['efi', 'boot', 'boot/efi', 'esp'];
/** The largest image or initrd that is read, in bytes. */
const largestImage = 512 * 1024 * 1024;
const largestText = 1024 * 1024;
const linuxFolder = 'EFI/Linux';
const entryFolder = 'loader/entries';
/** The vendor of systemd-boot's variables (Boot Loader Interface). */
const loaderVendor = '4a67b082-0a4c-41cf-b6c7-440b29bb8c4f';

/** Something that can be booted. */
export interface InstalledBoot {
  /** The id that `bootctl list` shows. */
  readonly id: string;
  /** The UKI, or the entry's .conf file. */
  readonly file: string;
}

/** The content of a file on a boot partition; undefined if there is none. */
export const imageIn = (path: string | undefined): Uint8Array | undefined =>
  path === undefined ? undefined : readFileWithin(path, largestImage);

/** The first file of this name on one of the boot partitions. */
export function onBootPartition(paths: Paths, name: string): string | undefined {
  return mounts.map((mount) => join(paths.root, mount, name)).find((candidate) => existsSync(candidate));
}

/** loader.conf; undefined if there is none. */
export function loaderConf(paths: Paths): Uint8Array | undefined {
  const file = onBootPartition(paths, 'loader/loader.conf');
  return file === undefined ? undefined : readFileWithin(file, largestText);
}

const variablesIn = ({ root }: Paths): string => join(root, 'sys/firmware/efi/efivars');
/** Whether the EFI variables can be read at all. */
export const hasVariables = (paths: Paths): boolean => existsSync(variablesIn(paths));

/** A variable from efivarfs: four bytes of attributes, then the data. */
export function variableOf(paths: Paths, guid: string, name: string): Uint8Array | undefined {
  if (!/^[A-Za-z0-9_-]+$/.test(name)) return undefined;
  return readFileWithin(join(variablesIn(paths), `${name}-${guid}`), largestText)?.subarray(4);
}

/** Every UKI and every entry that systemd-boot would show, in the order of its menu. Damaged ones are left out. */
export const installedBoots = (paths: Paths): InstalledBoot[] => inMenuOrder(menuOf(paths));

/** What systemd-boot starts if nobody chooses another entry. Undefined without entries. */
export function defaultBoot(paths: Paths): InstalledBoot | undefined {
  const text = (name: string): string | undefined => loaderVariable(paths, name);
  const settings = settingsIn(utf8Text(loaderConf(paths) ?? new Uint8Array(0)));
  return defaultEntry(menuOf(paths), {
    once: text('LoaderEntryOneShot'),
    always: text('LoaderEntryDefault'),
    configured: settings.findLast(([key]) => key === 'default')?.[1],
    last: text('LoaderEntryLastBooted'),
  });
}

/** The id of the entry that systemd-boot booted; undefined if it does not say. */
export const selectedEntry = (paths: Paths): string | undefined => loaderVariable(paths, 'LoaderEntrySelected');

function loaderVariable(paths: Paths, name: string): string | undefined {
  const value = variableOf(paths, loaderVendor, name);
  const [text = ''] = value ? utf16(value).split('\0') : [];
  return text === '' ? undefined : text;
}

function menuOf(paths: Paths): (InstalledBoot & MenuEntry)[] {
  const filesIn = (folder: string, ending: string): string[] =>
    mounts.flatMap((mount) => {
      const path = join(paths.root, mount, folder);
      return namesIn(path)
        .filter((name) => name.toLowerCase().endsWith(ending))
        .map((name) => join(path, name));
    });
  const entries = filesIn(entryFolder, '.conf').flatMap((file) => {
    const { sortKey, machineId, version, linux, program } = entryIn(file);
    const image = linux ?? program;
    const isThere = image !== undefined && unlessDamaged(() => existsSync(below(file, image))) === true;
    return isThere ? [{ ...countedName(basename(file)), file, sortKey, machineId, version }] : [];
  });
  const ukis = filesIn(linuxFolder, '.efi').flatMap((file) => {
    const bytes = imageIn(file);
    const uki = bytes && unlessDamaged(() => parseUki(bytes, file));
    return uki ? [{ ...countedName(basename(file)), file, ...ukiSorting(uki) }] : [];
  });
  // One partition may be mounted in two places.
  return [...new Map([...entries, ...ukis].reverse().map((boot) => [boot.id.toLowerCase(), boot])).values()];
}

const entryIn = (file: string): ReturnType<typeof parseLoaderEntry> =>
  parseLoaderEntry(utf8Text(readFileWithin(file, largestText) ?? new Uint8Array(0)), countedName(basename(file)).id);

/** A file that an entry names, on the entry's partition. @throws Failure `malformed` */
const below = (entry: string, path: string): string =>
  join(dirname(dirname(dirname(entry))), ...partsOf(path, basename(entry)));

/** A UKI or entry by its path, or by its id. Undefined if there is none. */
export function namedBoot(paths: Paths, named: string): InstalledBoot | undefined {
  const here = { id: countedName(basename(named)).id, file: named };
  if (named.includes('/')) return existsSync(named) ? here : undefined;
  const wanted = [named, `${named}.conf`, `${named}.efi`].map((id) => id.toLowerCase());
  const found = [
    ...menuOf(paths),
    ...mounts.map((mount) => ({ ...here, file: join(paths.root, mount, linuxFolder, named) })),
  ].find(({ id, file }) => wanted.includes(id.toLowerCase()) && existsSync(file));
  return found ?? (existsSync(named) ? here : undefined);
}

/**
 * Reads what a boot starts.
 * @param commandLine - replaces the entry's options
 * @throws Failure `malformed` for anything but a UKI or an entry, `not-found` for an entry whose files are gone
 */
export function startedBy({ file }: InstalledBoot, commandLine?: string): Uki | LinuxBoot {
  if (!file.toLowerCase().endsWith('.conf')) return ukiIn(file);
  const entry = entryIn(file);
  if (entry.linux === undefined) {
    if (entry.program !== undefined) return ukiIn(below(file, entry.program));
    throw new Failure('malformed', `the boot entry ${file} names neither a kernel nor a program`, {
      hint: 'it needs a line "linux PATH"',
    });
  }
  const options = commandLine ?? entry.options;
  const initrds = entry.initrds.map((path) => present(below(file, path), file));
  // systemd-boot may fill a gap between two initrds.
  const hasGap = initrds.slice(0, -1).some(({ length }) => length % 4 !== 0);
  const image = below(file, entry.linux);
  return {
    kind: 'linux',
    image: parsePe(present(image, file), image),
    commandLine: commandLineOf({ initrds: entry.initrds, options }),
    initrd: concat(...initrds),
    unknown: entry.hasDeviceTree
      ? 'the entry has a device tree'
      : hasGap
        ? 'the size of an initrd is no multiple of 4, so how it is joined to the next is not known'
        : undefined,
  };
}

function ukiIn(file: string): Uki {
  const bytes = imageIn(file);
  if (!bytes) throw new Failure('not-found', `there is no UKI ${file}`, { hint: 'bootctl list shows what is there' });
  return parseUki(bytes, file);
}

function present(file: string, entry: string): Uint8Array {
  const bytes = imageIn(file);
  if (bytes) return bytes;
  throw new Failure('not-found', `${file} is gone, and the boot entry ${entry} needs it`, {
    hint: `bootctl list shows what boots; reinstall the kernel, or remove ${entry}`,
  });
}

/** The SHA-256 digests, in hexadecimal, of every image that something installed starts. */
export function installedDigests(paths: Paths): Set<string> {
  const images = menuOf(paths).flatMap(({ file }) => {
    const entry = file.toLowerCase().endsWith('.conf') ? entryIn(file) : undefined;
    const named = entry && (entry.linux ?? entry.program);
    return entry === undefined ? [file] : named === undefined ? [] : [below(file, named)];
  });
  return new Set([...new Set(images)].flatMap((file) => digestOf(file) ?? []));
}

/** The SHA-256 digest, in hexadecimal, of an image as firmware measures it; undefined if it is gone or damaged. */
function digestOf(file: string): string | undefined {
  const bytes = imageIn(file);
  return bytes && unlessDamaged(() => hex(parsePe(bytes, file).digest('sha256')));
}
