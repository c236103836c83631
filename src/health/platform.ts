/** What auxcred runs on: Node, libraries, disks, swap. */
import { readdirSync, realpathSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Failure } from '../failure.ts';
import { bind, LibraryMissing } from '../system/ffi.ts';
import type { ReadableFiles } from './readable-files.ts';

/** As in `engines` of package.json. */
const oldest = { major: 20, minor: 19 };
/** The oldest Node that auxcred runs on: `20.19`. */
export const oldestNode = `${String(oldest.major)}.${String(oldest.minor)}`;

/** The Node and the libraries that this process runs with. */
export interface Platform {
  readonly node: string;
  readonly nodeIsTooOld: boolean;
  /** Why foreign functions can't be called: koffi's native file is missing, or is for another machine. */
  readonly koffi: Failure | undefined;
  /** Why the TPM's library can't be used. */
  readonly libtss2: Failure | undefined;
}

/** Looks at this process's Node, and tries to load the libraries. */
export function platform(): Platform {
  const node = process.versions.node;
  const [major = 0, minor = 0] = node.split('.').map(Number);
  const failures = ['libc.so.6', 'libtss2-esys.so.0'].map(loads);
  const [koffi, libtss2] = failures;
  return {
    node,
    nodeIsTooOld: major < oldest.major || (major === oldest.major && minor < oldest.minor),
    koffi,
    libtss2: libtss2 instanceof LibraryMissing ? libtss2 : undefined,
  };
}

function loads(library: string): Failure | undefined {
  try {
    bind(library, {});
    return undefined;
  } catch (error) {
    return error instanceof Failure ? error : new Failure('system', String(error));
  }
}

/** Swap that survives a power-off: those lines of /proc/swaps that are neither zram nor encrypted. */
export const swapsOnDisk = (table: string, isEncrypted: (device: string) => boolean): string[] =>
  table
    .split('\n')
    .slice(1)
    .map((line) => line.split(/\s+/)[0] ?? '')
    .filter((device) => device !== '' && !/\/zram\d+$/.test(device) && !isEncrypted(device));

/** Whether `path` is on an encrypted block device; undefined if that can't be told. */
export function isOnEncryptedDisk(readable: ReadableFiles, path: string): boolean | undefined {
  const number = statSync(path, { throwIfNoEntry: false })?.dev;
  if (number === undefined) return undefined;
  return isEncryptedDevice(readable, blockFolder(number));
}

/** The folder in sysfs of the block device with this number, as stat(2) has it. */
function blockFolder(number: number): string {
  // glibc's makedev(3), for numbers as small as these.
  const [major, minor] = [(number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xfff00)];
  return `/sys/dev/block/${String(major)}:${String(minor)}`;
}

/** Whether a swap device, or the device that a swap file is on, is encrypted. */
export function isEncryptedSwap(readable: ReadableFiles, device: string): boolean {
  const stat = statSync(device, { throwIfNoEntry: false });
  if (stat?.isBlockDevice() !== true) return isOnEncryptedDisk(readable, device) === true;
  return isEncryptedDevice(readable, blockFolder(stat.rdev)) === true;
}

/**
 * Whether a block device, by its folder in /sys/dev/block, is encrypted; undefined if there is none. dm-crypt is
 * recognised by its device's id; for LVM and RAID, all devices below have to be encrypted.
 */
export function isEncryptedDevice(readable: ReadableFiles, device: string): boolean | undefined {
  if (readable.stat(device) === undefined) return undefined;
  if (readable.text(join(device, 'dm/uuid'))?.startsWith('CRYPT-') === true) return true;
  const slaves = slavesOf(device);
  return slaves.length > 0 && slaves.every((slave) => isEncryptedDevice(readable, slave) === true);
}

function slavesOf(device: string): string[] {
  try {
    const folder = join(realpathSync(device), 'slaves');
    return readdirSync(folder).map((name) => join(folder, name));
  } catch {
    return [];
  }
}
