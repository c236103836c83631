/**
 * Folders that other users may own. Parents of a path that others can write are never followed blindly.
 *
 * A path is walked from the root folder down, one component at a time. Its folders are root's first, then maybe one
 * user's, and never root's again below that; nobody else can write any of them, and none is a symbolic link. So a
 * folder that is root's can't be exchanged while it is walked. What is in a user's folder is opened and changed with
 * that user's rights, through the folder's descriptor: whatever it is exchanged for, nothing happens that the user
 * could not do alone.
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
import { Failure } from '../failure.ts';
import { writing } from './disk.ts';
import { withRightsOf } from './user-rights.ts';

/** Why a path is not to be followed, and the way out. */
export interface Objection {
  /** The folder or link that is the reason. */
  readonly path: string;
  readonly message: string;
  readonly hint: string;
}

export interface Trust {
  /** The one user beside root who may own folders; undefined for any one. */
  readonly owner?: number | undefined;
  /**
   * For paths of root alone, which are safe to use as they are once they were looked at: links of root's in folders of
   * root's are gone after, and so are folders where everybody may make files but nobody may move others' (the sticky
   * bit), as far as what follows is root's.
   */
  readonly links?: 'followed' | undefined;
  /** What the path ends with; a folder without it. */
  readonly end?: 'file' | undefined;
}

/** O_PATH (asm-generic/fcntl.h), which Node does not name: neither needs nor gives the right to read. */
const asPath = 0o10000000;
const folderFlags = asPath | constants.O_DIRECTORY | constants.O_NOFOLLOW;
/** What the kernel follows at most (path_resolution(7)). */
const mostLinks = 40;

const partsOf = (path: string): string[] => path.split('/').filter((part) => part !== '' && part !== '.');

/**
 * Says what is wrong with a folder, given who owns the one above it.
 * @param root - who owns the root folder, whom all of it can be trusted with
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
      hint: 'a path through folders of root, or of the one user whose it is',
    };
  if (!isRoots(above) && stats.uid !== above)
    return {
      path,
      message: `${path} lies in a folder of user ${String(above)}, and is another one's`,
      hint: `chown ${String(above)} ${path}`,
    };
  // In a tree of a user's own the user's group is the user's to trust.
  if ((stats.mode & (root === 0 ? 0o022 : 0o002)) !== 0)
    return { path, message: `${path} can be written by more users than its owner`, hint: `chmod go-w ${path}` };
  return undefined;
}

const linkObjection = (path: string, target: string): Objection => ({
  path,
  message: `${path} is a symbolic link to ${target}`,
  hint: 'name the folder that it leads to',
});
const noFolder = (path: string): Objection => ({ path, message: `${path} is no folder`, hint: 'move it away' });

/**
 * Looks whether a path may be used, as far as it is there; what is missing would be made. Advice only: what it says of
 * a user's folders may be otherwise a moment later, and {@link HeldFolder} is what acts on them. Of folders that are
 * root's alone it holds.
 * @param root - the folder that the path is below, trusted as it is
 * @param path - as it is in that folder
 */
export function objectionTo(root: string, path: string, trust: Trust = {}): Objection | undefined {
  const rootOwner = statSync(root, { throwIfNoEntry: false })?.uid ?? 0;
  const isRoots = (uid: number): boolean => uid === 0 || uid === rootOwner;
  const pending = partsOf(path);
  let [at, above, links] = [root, rootOwner, 0];
  /** About a folder with the sticky bit: it stands unless what follows is root's. */
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
 * The components below the root folder of what a link in the folder `at` leads to; undefined if that may be outside.
 * What is above a link is no link, so `..` at its begin is what it seems.
 */
function ledTo(root: string, at: string, target: string): string[] | undefined {
  if (target.startsWith('/')) return root === '/' && !partsOf(target).includes('..') ? partsOf(target) : undefined;
  if (partsOf(target.replace(/^(?:\.\.(?:\/+|$))+/, '')).includes('..')) return undefined;
  const inside = relative(root, join(at, target));
  return inside.startsWith('..') ? undefined : partsOf(inside);
}

/** Undefined for what is missing, and for what this user may not see. */
function entryAt(path: string): Stats | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false });
  } catch (error) {
    if (codeOf(error) === 'EACCES') return undefined;
    throw error;
  }
}

/**
 * Makes sure that paths of root alone lead where they seem to: then nobody else can change that while they are used. A
 * process that is not root is not asked to: it has no rights that somebody could borrow.
 * @param paths - below the root folder, with it
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

const codeOf = (error: unknown): unknown => (error instanceof Error && 'code' in error ? error.code : undefined);

/** @returns whether `work` was done; false where it failed with this error */
function unless(code: string, work: () => void): boolean {
  try {
    work();
    return true;
  } catch (error) {
    if (codeOf(error) === code) return false;
    throw error;
  }
}

/**
 * A folder that was walked to, held open: what is done in it happens there, wherever it is moved to and whatever takes
 * its place.
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
   * @param missing - what becomes of folders that are not there: made with mode 0755, each as its parent's owner's, or
   * `work` does not run
   * @returns what `work` does; undefined if it did not run
   * @throws Failure `refused` if the folder can't be reached as above, `system`, and whatever `work` throws
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

  /** The name in this folder as the kernel finds it, whatever its path has become (proc_pid_fd(5)). */
  #at(name: string): string {
    return `/proc/self/fd/${String(this.#descriptor)}/${name}`;
  }

  /**
   * Does something to a name with the rights of this folder's owner.
   * @param expected - errors that the caller tells apart
   */
  #as<T>(name: string, work: () => T, expected: readonly string[] = []): T {
    const path = join(this.#path, name);
    try {
      return withRightsOf(this.#rights, () => writing(path, work));
    } catch (error) {
      const code = codeOf(error);
      if (!(error instanceof Error) || error instanceof Failure || typeof code !== 'string' || expected.includes(code))
        throw error;
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
      throw new Failure('system', `${path} is gone again`, {
        hint: 'somebody changes that folder right now; run it again',
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
      if (codeOf(error) === 'ENOENT') return undefined;
      if (codeOf(error) !== 'ENOTDIR' && codeOf(error) !== 'ELOOP') throw error;
      const target = this.link(name)?.target;
      throw refusal(target === undefined ? noFolder(path) : linkObjection(path, target));
    }
  }

  /** Undefined if it is gone again. */
  #make(name: string, path: string): number | undefined {
    const isMade = this.#as(name, () =>
      unless('EEXIST', () => {
        mkdirSync(this.#at(name), { mode: 0o700 });
      }),
    );
    const descriptor = this.#open(name, path);
    // By its descriptor: where it was exchanged meanwhile, these are that user's own rights on that user's own folder.
    if (descriptor !== undefined && isMade)
      this.#as(name, () => {
        chmodSync(`/proc/self/fd/${String(descriptor)}`, 0o755);
      });
    return descriptor;
  }

  /** What lies under a name: nothing (undefined), a link and where it leads, or something else (without `target`). */
  link(name: string): { readonly target: string | undefined } | undefined {
    return this.#as(name, () => {
      try {
        return { target: readlinkSync(this.#at(name)) };
      } catch (error) {
        if (codeOf(error) === 'ENOENT') return undefined;
        if (codeOf(error) === 'EINVAL') return { target: undefined };
        throw error;
      }
    });
  }

  /** Puts a link under a name, in place of a link that may be there: whoever looks sees the old one or the new one. */
  replaceLink(name: string, target: string): void {
    // Always the same, so that what a killed run left is found by the next.
    const temporary = `.${name}.auxcred-new`;
    this.#as(name, () => {
      this.#remove(temporary);
      symlinkSync(target, this.#at(temporary));
      renameSync(this.#at(temporary), this.#at(name));
    });
  }

  /** Removes a link, or a file; nothing if there is none. */
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
