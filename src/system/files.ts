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
import { sameBytes } from '../bytes.ts';
import { Failure, systemCode } from '../failure.ts';
import { writing } from './disk.ts';

/** The owner and mode of a new file or folder. */
export interface Access {
  /** Exact permission bits, regardless of the umask. */
  readonly mode: number;
  /** User id; by default the process's own. */
  readonly owner?: number | undefined;
  /** Group id; by default the process's own. */
  readonly group?: number | undefined;
}

const remedy = { hint: 'remove it, or restore the file from a backup' };

const notAFile = (path: string): Failure => new Failure('malformed', `${path} is not a regular file`, remedy);

/** What `read` finds at a path; undefined if there is nothing. @throws Failure `malformed` for a loop of links */
function ifPresent<T>(path: string, read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    if (code === 'ELOOP')
      throw new Failure('malformed', `${path} is a loop of symbolic links`, { ...remedy, cause: error });
    throw error;
  }
}

/**
 * Reads a file, following links; undefined if there is none. The caller wipes the bytes if they are secret.
 * @param pipes - whether to wait for the writer of a FIFO: only if a user named the file, as in `--identity=<(COMMAND)`
 * @throws Failure `malformed` for a folder, a socket, a FIFO that is not read, and a loop of links
 */
export function readIfPresent(path: string, pipes: 'read' | 'refused' = 'refused'): Uint8Array | undefined {
  return ifPresent(path, () => {
    const status = statSync(path);
    if (status.isDirectory() || status.isSocket() || (status.isFIFO() && pipes === 'refused')) throw notAFile(path);
    const buffer = readFileSync(path);
    const bytes = Uint8Array.from(buffer);
    // The file may be a private key.
    buffer.fill(0);
    return bytes;
  });
}

/**
 * Reads a regular file, following links; undefined if there is none. Never blocks, as reading a FIFO would.
 * @param most - the most bytes; a longer file is refused without reading it
 * @throws Failure `malformed` for a FIFO, device, socket or folder, a loop of links, and a file of more than `most`
 * bytes
 */
export function readFileWithin(path: string, most: number): Uint8Array | undefined {
  return ifPresent(path, () => {
    // Check before opening, because opening a device may have effects.
    if (!statSync(path).isFile()) throw notAFile(path);
    const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const status = fstatSync(fd);
      if (!status.isFile()) throw notAFile(path);
      if (status.size > most)
        throw new Failure(
          'malformed',
          `${path} has ${String(status.size)} bytes, and ${String(most)} is the limit`,
          remedy,
        );
      const bytes = new Uint8Array(status.size);
      let length = 0;
      for (let got = -1; got !== 0 && length < bytes.length; length += got)
        got = readSync(fd, bytes, length, bytes.length - length, null);
      return length === bytes.length ? bytes : bytes.slice(0, length);
    } finally {
      closeSync(fd);
    }
  });
}

/** Reads a file as UTF-8; undefined if there is none. */
export function textIfPresent(path: string): string | undefined {
  const bytes = readIfPresent(path);
  return bytes && new TextDecoder().decode(bytes);
}

/** Reads a file as UTF-8; undefined if there is none, it is no file, or this user may not read it. */
export function textIfReadable(path: string): string | undefined {
  try {
    return textIfPresent(path);
  } catch {
    return undefined;
  }
}

/** The names in a folder; none if there is no such folder. */
export function namesIn(folder: string): string[] {
  return ifPresent(folder, () => readdirSync(folder)) ?? [];
}

/** The target of a symlink; undefined if there is none. */
export function linkTarget(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

/**
 * Writes a new file and syncs it to disk. Throws EEXIST if the file exists.
 * @throws Failure `system` if the disk is full or read-only
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

/** The temporary name for the replacement of `path` by this process. */
const temporaryFor = (path: string): string => join(dirname(path), `.${basename(path)}.${String(process.pid)}.new`);
const temporaryPattern = /^\..+\.(\d+)\.new$/;

/**
 * Prepares a file under a temporary name and renames it to `path`. Readers see the old or the new one, also after a
 * crash.
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

/**
 * Replaces `path` by a file with `bytes`. Readers see the old or the new file, also after a crash.
 * @throws Failure `system` if the disk is full or read-only
 */
export function replaceFile(path: string, bytes: Uint8Array, access: Access): void {
  replace(path, (temporary) => {
    writeNew(temporary, bytes, access);
  });
  syncFolder(dirname(path));
}

/** {@link replaceFile}, unless `path` has these bytes already. */
export function replaceIfChanged(path: string, bytes: Uint8Array, access: Access): void {
  if (!sameBytes(readIfPresent(path), bytes)) replaceFile(path, bytes, access);
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
 * Removes the temporary files of killed processes from a folder. The caller makes sure that this process replaces
 * nothing there meanwhile.
 */
export function removeLeftovers(folder: string): void {
  for (const name of namesIn(folder)) if (isLeftover(name, process.pid)) rmSync(join(folder, name), { force: true });
}

/**
 * Whether this is a temporary name of a process that is gone.
 * @param own - the id of a running process that prepares nothing now
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
    return systemCode(error) !== 'ESRCH';
  }
}

/** Syncs the entries of a folder to disk. */
export function syncFolder(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Makes a folder if it is missing, and missing parents with mode 0755. */
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

/**
 * The id of a group in the /etc/group of `root`, without any name service; undefined if it is not in there. The group
 * root is 0 even before anything has made that file, as when files are written for the users of a first boot.
 */
export const groupId = (root: string, name: string): number | undefined => idIn(join(root, '/etc/group'), name);

/** The id of a user in the /etc/passwd of `root`, likewise. */
export const userId = (root: string, name: string): number | undefined => idIn(join(root, '/etc/passwd'), name);

function idIn(file: string, name: string): number | undefined {
  if (name === 'root') return 0;
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
