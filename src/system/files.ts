import { chownSync, closeSync, existsSync, fchmodSync, fchownSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { dirname, join } from 'node:path';

export interface Access {
  /** Permission bits, exact: the umask does not change them. */
  readonly mode: number;
  /** User id; the process's own without it. */
  readonly owner?: number | undefined;
  /** Group id; the process's own without it. */
  readonly group?: number | undefined;
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}

/** The file's bytes, or undefined where there is none. */
export function readIfPresent(path: string): Uint8Array | undefined {
  try {
    return new Uint8Array(readFileSync(path));
  } catch (error) {
    if (hasCode(error, 'ENOENT') || hasCode(error, 'ENOTDIR')) return undefined;
    throw error;
  }
}

/** Writes a new file and waits until the disk has it. Throws where the file exists. */
export function writeNew(path: string, bytes: Uint8Array, { mode, owner, group }: Access): void {
  const fd = openSync(path, 'wx', 0o600);
  try {
    for (let written = 0; written < bytes.length; ) written += writeSync(fd, bytes, written);
    if (owner !== undefined || group !== undefined) fchownSync(fd, owner ?? process.getuid?.() ?? 0, group ?? process.getgid?.() ?? 0);
    fchmodSync(fd, mode);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Replaces `path` by a file with `bytes`: whoever reads it, also after a crash, sees the old file or the new one. */
export function replaceFile(path: string, bytes: Uint8Array, access: Access): void {
  const temporary = join(dirname(path), `.${randomBytes(8).toString('hex')}.new`);
  try {
    writeNew(temporary, bytes, access);
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
  syncFolder(dirname(path));
}

/** Waits until the disk has the folder's entries. */
export function syncFolder(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Makes a folder, and those above it with mode 0755, where they are missing. */
export function ensureFolder(path: string, { mode, group }: Access): void {
  if (existsSync(path)) return;
  ensureFolder(dirname(path), { mode: 0o755 });
  mkdirSync(path, { mode: 0o700 });
  const fd = openSync(path, 'r');
  try {
    fchmodSync(fd, mode);
  } finally {
    closeSync(fd);
  }
  if (group !== undefined) chownSync(path, process.getuid?.() ?? 0, group);
}

/** The id of a group in `root`'s own /etc/group, without asking any name service; undefined where it is not there. */
export const groupId = (root: string, name: string): number | undefined => idIn(join(root, '/etc/group'), name);

/** The same of a user in /etc/passwd. */
export const userId = (root: string, name: string): number | undefined => idIn(join(root, '/etc/passwd'), name);

function idIn(file: string, name: string): number | undefined {
  const text = readIfPresent(file);
  const line = text && new TextDecoder().decode(text).split('\n').find((entry) => entry.startsWith(`${name}:`));
  const id = Number(line?.split(':')[2]);
  return Number.isInteger(id) ? id : undefined;
}
