/** What auxcred runs on: Node, libraries, disks, swap. */
import { readdirSync, realpathSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Failure } from '../failure.ts';
import { bind, LibraryMissing } from '../system/ffi.ts';
import type { Sight } from './readable-files.ts';

/** As package.json's engines say. */
const oldestNode = { major: 20, minor: 19 };

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
    nodeIsTooOld: major < oldestNode.major || (major === oldestNode.major && minor < oldestNode.minor),
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

/** Swap that outlives the power: in the lines of /proc/swaps, neither zram nor encrypted. */
export const swapsOnDisk = (table: string, isEncrypted: (device: string) => boolean): string[] =>
  table
    .split('\n')
    .slice(1)
    .map((line) => line.split(/\s+/)[0] ?? '')
    .filter((device) => device !== '' && !/\/zram\d+$/.test(device) && !isEncrypted(device));

/** Whether `path` is on an encrypted block device; undefined if that is unknown. */
export function isOnEncryptedDisk(sight: Sight, path: string): boolean | undefined {
  const number = statSync(path, { throwIfNoEntry: false })?.dev;
  if (number === undefined) return undefined;
  // glibc's makedev(3) for numbers as small as these are.
  const [major, minor] = [(number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xfff00)];
  return isEncryptedDevice(sight, `/sys/dev/block/${String(major)}:${String(minor)}`);
}

/** Whether a swap device, or the device that a swap file is on, is encrypted. */
export function isEncryptedSwap(sight: Sight, device: string): boolean {
  const stat = statSync(device, { throwIfNoEntry: false });
  if (stat?.isBlockDevice() !== true) return isOnEncryptedDisk(sight, device) === true;
  return (
    isEncryptedDevice(
      sight,
      `/sys/dev/block/${String((stat.rdev >> 8) & 0xfff)}:${String((stat.rdev & 0xff) | ((stat.rdev >> 12) & 0xfff00))}`,
    ) === true
  );
}

/**
 * Whether a block device, by its folder in /sys/dev/block, is encrypted; undefined if there is none.
 * dm-crypt says so in its device's id; LVM and RAID stand on others, which all have to be encrypted.
 */
export function isEncryptedDevice(sight: Sight, device: string): boolean | undefined {
  if (sight.stat(device) === undefined) return undefined;
  if (sight.text(join(device, 'dm/uuid'))?.startsWith('CRYPT-') === true) return true;
  const slaves = slavesOf(device);
  return slaves.length > 0 && slaves.every((slave) => isEncryptedDevice(sight, slave) === true);
}

function slavesOf(device: string): string[] {
  try {
    const folder = join(realpathSync(device), 'slaves');
    return readdirSync(folder).map((name) => join(folder, name));
  } catch {
    return [];
  }
}
