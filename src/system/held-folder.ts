/**
 * Safe access to folders that other users may own: never follows a path through folders that others can write without
 * checks.
 *
 * A path is walked from the root folder down, one component at a time. Its first folders belong to root, the rest may
 * belong to one user, and none below those to root again. Nobody else can write to any of them, and none is a symbolic
 * link. So nobody can exchange a folder of root's during the walk. The entries of a user's folder are opened and
 * changed with that user's rights, through the folder's descriptor: even if the user exchanges it, nothing happens that
 * the user could not do alone.
 */
import {
  chmodSync,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readlinkSync,
  renameSync,
  type Stats,
  statSync,
  symlinkSync,
  unlinkSync,
} from 'node:fs';
import { join, relative } from 'node:path';
import { Failure, systemCode } from '../failure.ts';
import { writing } from './disk.ts';
import { withRightsOf } from './user-rights.ts';

/** The reason not to follow a path, and a hint. */
export interface Objection {
  /** The folder or link that is wrong. */
  readonly path: string;
  readonly message: string;
  readonly hint: string;
}

/** What {@link objectionTo} accepts. */
export interface Trust {
  /** The user beside root who may own folders; undefined for any one user. */
  readonly owner?: number | undefined;
  /**
   * For paths that belong to root only, which stay safe once they are checked: follows root's links in root's folders,
   * and folders with the sticky bit, where everybody can make files but nobody can move those of others, if what
   * follows is root's.
   */
  readonly links?: 'followed' | undefined;
  /** The kind of the last component, by default a folder. */
  readonly end?: 'file' | undefined;
}

/** O_PATH (asm-generic/fcntl.h), which Node does not name. It neither needs nor gives the right to read. */
const asPath = 0o10000000;
const folderFlags = asPath | constants.O_DIRECTORY | constants.O_NOFOLLOW;
/** The most links that the kernel follows (path_resolution(7)). */
const mostLinks = 40;

const partsOf = (path: string): string[] => path.split('/').filter((part) => part !== '' && part !== '.');

/**
 * Judges a folder, given the owner of the one above it.
 * @param root - the owner of the root folder, who is trusted with everything
 */
function judge(
  path: string,
  stats: Stats,
  above: number,
  { owner }: Pick<Trust, 'owner'>,
  root: number,
): Objection | undefined {
  const isRoots = (uid: number): boolean => uid === 0 || uid === root;
  if (!isRoots(stats.uid) && owner !== undefined && stats.uid !== owner)
    return {
      path,
      message: `${path} belongs to user ${String(stats.uid)}, who could lead the path elsewhere`,
      hint: 'use a path through folders of root or of the one user who owns it',
    };
  if (!isRoots(above) && stats.uid !== above)
    return {
      path,
      message: `${path} lies in a folder of user ${String(above)}, but belongs to another user`,
      hint: `chown ${String(above)} ${path}`,
    };
  // In a tree that belongs to a user, the user decides whom to trust with the group.
  if ((stats.mode & (root === 0 ? 0o022 : 0o002)) !== 0)
    return { path, message: `${path} can be written by more users than its owner`, hint: `chmod go-w ${path}` };
  return undefined;
}

const linkObjection = (path: string, target: string): Objection => ({
  path,
  message: `${path} is a symbolic link to ${target}`,
  hint: 'name the folder that it leads to',
});
const noFolder = (path: string): Objection => ({ path, message: `${path} is not a folder`, hint: 'move it away' });

/**
 * Judges the existing part of a path; the rest would be made. For folders of root only, the result stays valid. For a
 * user's folders it is advice, since they may change a moment later: use {@link HeldFolder} to act on those.
 * @param root - the folder that the path is below, trusted as it is
 * @param path - the path as seen from inside `root`
 * @returns undefined if the path may be used
 */
export function objectionTo(root: string, path: string, trust: Trust = {}): Objection | undefined {
  const rootOwner = statSync(root, { throwIfNoEntry: false })?.uid ?? 0;
  const isRoots = (uid: number): boolean => uid === 0 || uid === rootOwner;
  const pending = partsOf(path);
  let [at, above, links] = [root, rootOwner, 0];
  /** An objection to a folder with the sticky bit. Valid unless what follows is root's. */
  let shared: Objection | undefined;
  for (let name = pending.shift(); name !== undefined; name = pending.shift()) {
    const here = join(at, name);
    const stats = entryAt(here);
    if (shared && !(stats && isRoots(stats.uid))) return shared;
    shared = undefined;
    if (!stats) return undefined;
    if (stats.isSymbolicLink()) {
      const target = readlinkSync(here);
      if (trust.links !== 'followed' || !isRoots(above) || !isRoots(stats.uid) || ++links > mostLinks)
        return linkObjection(here, target);
      const next = ledTo(root, at, target);
      if (next === undefined)
        return {
          path: here,
          message: `${here} leads to ${target}, which is outside of ${root}`,
          hint: 'mount what it leads to below the new root',
        };
      pending.unshift(...next);
      [at, above] = [root, rootOwner];
      continue;
    }
    if (!stats.isDirectory() && (trust.end !== 'file' || pending.length > 0)) return noFolder(here);
    const objection = judge(here, stats, above, trust, rootOwner);
    if (objection && (trust.links !== 'followed' || (stats.mode & 0o1000) === 0 || !isRoots(stats.uid)))
      return objection;
    shared = objection;
    [at, above] = [here, stats.uid];
  }
  return shared;
}

/**
 * The components, below the root folder, of the target of a link in folder `at`; undefined if that may be outside. No
 * link leads to `at`, so a leading `..` means its parent.
 */
function ledTo(root: string, at: string, target: string): string[] | undefined {
  if (target.startsWith('/')) return root === '/' && !partsOf(target).includes('..') ? partsOf(target) : undefined;
  if (partsOf(target.replace(/^(?:\.\.(?:\/+|$))+/, '')).includes('..')) return undefined;
  const inside = relative(root, join(at, target));
  return inside.startsWith('..') ? undefined : partsOf(inside);
}

/** Undefined for an entry that is missing or hidden from this user. */
function entryAt(path: string): Stats | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false });
  } catch (error) {
    if (systemCode(error) === 'EACCES') return undefined;
    throw error;
  }
}

/**
 * Refuses paths that others could redirect. Does nothing unless the process is root: others have no rights that
 * somebody could borrow.
 * @param paths - below the root folder, including its path
 * @throws Failure `refused`
 */
export function refuseForeign(root: string, paths: readonly string[]): void {
  if (process.geteuid?.() !== 0) return;
  for (const path of paths) {
    const objection = objectionTo(root, relative(root, path), { owner: 0, links: 'followed' });
    if (objection) throw refusal(objection);
  }
}

const refusal = ({ message, hint }: Objection): Failure => new Failure('refused', message, { hint });

/** Does `work`. @returns false if it failed with the error `code` */
function unless(code: string, work: () => void): boolean {
  try {
    work();
    return true;
  } catch (error) {
    if (systemCode(error) === code) return false;
    throw error;
  }
}

/**
 * A folder held open by its descriptor: operations stay in it, even if it is moved or another one takes its place.
 */
export class HeldFolder {
  readonly #path: string;
  readonly #descriptor: number;
  readonly #rights: { readonly uid: number; readonly gid: number };

  private constructor(path: string, descriptor: number) {
    const { uid, gid } = fstatSync(descriptor);
    this.#path = path;
    this.#descriptor = descriptor;
    this.#rights = { uid, gid };
  }

  /**
   * Walks to a folder and runs `work` in it.
   * @param root - the folder that the path is below, trusted as it is
   * @param missing - what to do about missing folders: make them with mode 0755 and their parent's owner, or not run
   * `work`
   * @returns the result of `work`; undefined if it did not run
   * @throws Failure `refused` for a path that is not safe as described above, `system`, and whatever `work` throws
   */
  static within<T>(
    root: string,
    folder: string,
    { missing, owner }: Pick<Trust, 'owner'> & { readonly missing: 'make' | 'leave' },
    work: (folder: HeldFolder) => T,
  ): T | undefined {
    const base = openSync(root, asPath | constants.O_DIRECTORY);
    let held = new HeldFolder(root, base);
    const rootOwner = held.#rights.uid;
    try {
      for (const name of partsOf(folder)) {
        const next = held.#enter(name, missing, { owner }, rootOwner);
        if (!next) return undefined;
        closeSync(held.#descriptor);
        held = next;
      }
      return work(held);
    } finally {
      closeSync(held.#descriptor);
    }
  }

  /** A path to a name in this folder through its descriptor, independent of the folder's own path (proc_pid_fd(5)). */
  #at(name: string): string {
    return `/proc/self/fd/${String(this.#descriptor)}/${name}`;
  }

  /**
   * Does `work` on a name with the rights of the folder's owner.
   * @param expected - error codes that the caller handles
   */
  #as<T>(name: string, work: () => T, expected: readonly string[] = []): T {
    const path = join(this.#path, name);
    try {
      return withRightsOf(this.#rights, () => writing(path, work));
    } catch (error) {
      const code = systemCode(error);
      if (!(error instanceof Error) || code === undefined || expected.includes(code)) throw error;
      throw new Failure(
        'system',
        `${path} can't be reached or changed as user ${String(this.#rights.uid)}: ${error.message.split(',', 1)[0] ?? code}`,
        { hint: `namei -l ${path}`, cause: error },
      );
    }
  }

  #enter(name: string, missing: 'make' | 'leave', trust: Trust, rootOwner: number): HeldFolder | undefined {
    const path = join(this.#path, name);
    const descriptor = this.#open(name, path) ?? (missing === 'make' ? this.#make(name, path) : undefined);
    if (descriptor === undefined && missing === 'make')
      throw new Failure('system', `${path} disappeared`, {
        hint: 'somebody is changing that folder right now; run it again',
      });
    if (descriptor === undefined) return undefined;
    const objection = judge(path, fstatSync(descriptor), this.#rights.uid, trust, rootOwner);
    if (!objection) return new HeldFolder(path, descriptor);
    closeSync(descriptor);
    throw refusal(objection);
  }

  /** Undefined if there is nothing. */
  #open(name: string, path: string): number | undefined {
    try {
      return this.#as(name, () => openSync(this.#at(name), folderFlags), ['ENOENT', 'ENOTDIR', 'ELOOP']);
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return undefined;
      if (systemCode(error) !== 'ENOTDIR' && systemCode(error) !== 'ELOOP') throw error;
      const target = this.link(name)?.target;
      throw refusal(target === undefined ? noFolder(path) : linkObjection(path, target));
    }
  }

  /** Undefined if it disappeared. */
  #make(name: string, path: string): number | undefined {
    const isMade = this.#as(name, () =>
      unless('EEXIST', () => {
        mkdirSync(this.#at(name), { mode: 0o700 });
      }),
    );
    const descriptor = this.#open(name, path);
    if (descriptor === undefined || !isMade) return descriptor;
    try {
      // By descriptor: if the user exchanged it meanwhile, this only changes another folder of that user.
      this.#as(name, () => {
        chmodSync(`/proc/self/fd/${String(descriptor)}`, 0o755);
      });
    } catch (error) {
      closeSync(descriptor);
      throw error;
    }
    return descriptor;
  }

  /** Looks at a name. @returns undefined if it is free, a link's target, or `target` undefined for anything else */
  link(name: string): { readonly target: string | undefined } | undefined {
    return this.#as(name, () => {
      try {
        return { target: readlinkSync(this.#at(name)) };
      } catch (error) {
        if (systemCode(error) === 'ENOENT') return undefined;
        if (systemCode(error) === 'EINVAL') return { target: undefined };
        throw error;
      }
    });
  }

  /** Makes a link, or replaces an existing one. Readers see the old or the new one. */
  replaceLink(name: string, target: string): void {
    // Always the same name, so that the next run finds what a killed one left.
    const temporary = `.${name}.auxcred-new`;
    this.#as(name, () => {
      this.#remove(temporary);
      symlinkSync(target, this.#at(temporary));
      renameSync(this.#at(temporary), this.#at(name));
    });
  }

  /** Removes a link or a file, if there is one. */
  remove(name: string): void {
    this.#as(name, () => {
      this.#remove(name);
    });
  }

  #remove(name: string): void {
    unless('ENOENT', () => {
      unlinkSync(this.#at(name));
    });
  }
}
