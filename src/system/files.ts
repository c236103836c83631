import {
  chownSync,
  closeSync,
  constants,
  existsSync,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { Failure } from '../failure.ts';
import { writing } from './disk.ts';

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

/** The file's bytes, or undefined if there is none. */
export function readIfPresent(path: string): Uint8Array | undefined {
  try {
    const buffer = readFileSync(path);
    const bytes = Uint8Array.from(buffer);
    // It may be a private key.
    buffer.fill(0);
    return bytes;
  } catch (error) {
    if (hasCode(error, 'ENOENT') || hasCode(error, 'ENOTDIR')) return undefined;
    throw error;
  }
}

/**
 * The bytes of a regular file, links followed; undefined if there is none. Never waits for a writer, as reading a FIFO
 * does.
 * @param most - bytes; a longer file is refused unread
 * @throws Failure `malformed` for a FIFO, device, socket or folder, a loop of links, and a file of more than `most`
 * bytes
 */
export function readFileWithin(path: string, most: number): Uint8Array | undefined {
  const hint = 'remove it, or restore the file from a backup';
  try {
    // Before it is opened: to open a device may do something.
    if (!statSync(path).isFile()) throw new Failure('malformed', `${path} is no regular file`, { hint });
    const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const status = fstatSync(fd);
      if (!status.isFile()) throw new Failure('malformed', `${path} is no regular file`, { hint });
      if (status.size > most)
        throw new Failure('malformed', `${path} has ${String(status.size)} bytes, and ${String(most)} are the most`, {
          hint,
        });
      const bytes = new Uint8Array(status.size);
      let length = 0;
      for (let got = -1; got !== 0 && length < bytes.length; length += got)
        got = readSync(fd, bytes, length, bytes.length - length, null);
      return length === bytes.length ? bytes : bytes.slice(0, length);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    if (hasCode(error, 'ENOENT') || hasCode(error, 'ENOTDIR')) return undefined;
    if (hasCode(error, 'ELOOP'))
      throw new Failure('malformed', `${path} is a loop of symbolic links`, { hint, cause: error });
    throw error;
  }
}

/** A file's text, or undefined if there is none. */
export function textIfPresent(path: string): string | undefined {
  const bytes = readIfPresent(path);
  return bytes && new TextDecoder().decode(bytes);
}

/** The names in a folder; none if there is no such folder. */
export function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if (hasCode(error, 'ENOENT') || hasCode(error, 'ENOTDIR')) return [];
    throw error;
  }
}

/** What a symlink says; undefined if there is none. */
export function linkTarget(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

/**
 * Writes a new file and waits until the disk has it. Throws where the file exists.
 * @throws Failure `system` if the disk takes nothing
 */
export function writeNew(path: string, bytes: Uint8Array, { mode, owner, group }: Access): void {
  writing(path, () => {
    const fd = openSync(path, 'wx', 0o600);
    try {
      for (let written = 0; written < bytes.length; ) written += writeSync(fd, bytes, written);
      if (owner !== undefined || group !== undefined)
        fchownSync(fd, owner ?? process.getuid?.() ?? 0, group ?? process.getgid?.() ?? 0);
      fchmodSync(fd, mode);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  });
}

/** The name under which this process prepares what takes the place of `path`. */
const temporaryFor = (path: string): string => join(dirname(path), `.${basename(path)}.${String(process.pid)}.new`);
const temporaryPattern = /^\..+\.(\d+)\.new$/;

/**
 * Prepares something under a temporary name and renames it to `path`: whoever looks, also after a crash, sees the old
 * one or the new one.
 */
function replace(path: string, prepare: (temporary: string) => void): void {
  const temporary = temporaryFor(path);
  try {
    rmSync(temporary, { force: true });
    prepare(temporary);
    writing(path, () => {
      renameSync(temporary, path);
    });
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

/** Replaces `path` by a file with `bytes`: whoever reads it, also after a crash, sees the old file or the new one. */
export function replaceFile(path: string, bytes: Uint8Array, access: Access): void {
  replace(path, (temporary) => {
    writeNew(temporary, bytes, access);
  });
  syncFolder(dirname(path));
}

/** Replaces the symlink `path` in the same way. The caller syncs the folder. */
export function replaceLink(path: string, target: string): void {
  replace(path, (temporary) => {
    writing(path, () => {
      symlinkSync(target, temporary);
    });
  });
}

/**
 * Removes what processes that were killed left in a folder while they replaced something. The caller makes sure that
 * this process replaces nothing there meanwhile.
 */
export function removeLeftovers(folder: string): void {
  for (const name of namesIn(folder)) if (isLeftover(name, process.pid)) rmSync(join(folder, name), { force: true });
}

/**
 * Whether a process that is gone prepared something under this name.
 * @param own - one that runs, and prepares nothing now
 */
export function isLeftover(name: string, own?: number): boolean {
  const pid = Number(temporaryPattern.exec(name)?.[1] ?? 0);
  return pid > 0 && (pid === own || !isAlive(pid));
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return !hasCode(error, 'ESRCH');
  }
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
  writing(path, () => {
    mkdirSync(path, { mode: 0o700 });
  });
  const fd = openSync(path, 'r');
  try {
    fchmodSync(fd, mode);
  } finally {
    closeSync(fd);
  }
  if (group !== undefined) chownSync(path, process.getuid?.() ?? 0, group);
}

/** The id of a group in `root`'s own /etc/group, without asking any name service; undefined if it is not there. */
export const groupId = (root: string, name: string): number | undefined => idIn(join(root, '/etc/group'), name);

/** The same of a user in /etc/passwd. */
export const userId = (root: string, name: string): number | undefined => idIn(join(root, '/etc/passwd'), name);

function idIn(file: string, name: string): number | undefined {
  const text = readIfPresent(file);
  const line =
    text &&
    new TextDecoder()
      .decode(text)
      .split('\n')
      .find((entry) => entry.startsWith(`${name}:`));
  const id = Number(line?.split(':')[2]);
  return Number.isInteger(id) ? id : undefined;
}
