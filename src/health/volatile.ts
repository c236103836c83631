/** What the next boot loses: files on a file system in memory. */
import { statfsSync } from 'node:fs';
import type { Paths } from '../system/paths.ts';

/** TMPFS_MAGIC and RAMFS_MAGIC (statfs(2)). */
const inMemory = [0x01021994, 0x858458f6];

/** Those of these paths that exist and are only in memory. */
export const volatileOf = (paths: readonly string[]): string[] => paths.filter((path) => isInMemory(path));

/** What has to survive a boot, whatever the seed is sealed to. */
export const lasting = ({ store, sshHostKey }: Paths, needsHostKey: boolean): string[] => [
  store,
  ...(needsHostKey ? [sshHostKey] : []),
];

function isInMemory(path: string): boolean {
  try {
    return inMemory.includes(statfsSync(path).type);
  } catch {
    // Missing, or hidden from this user.
    return false;
  }
}
