/**
 * The fixed folder: `host/NAME/PATH.sealed` and `group/NAME/PATH.sealed`, one file for each secret. Listing it takes no
 * seed.
 */

import { lstatSync, readdirSync, rmdirSync, unlinkSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { sameBytes } from '../bytes.ts';
import { keyId } from '../derive/tree.ts';
import { Failure, systemCode } from '../failure.ts';
import { ensureFolder, readFileWithin, removeLeftovers, replaceFile, syncFolder } from '../system/files.ts';
import { commandLine } from '../system/shell.ts';
import {
  decodeFixed,
  digestOf,
  encodeFixed,
  type FixedHeader,
  fingerprintOf,
  largestFile,
  readHeader,
  restoreHint,
} from './file.ts';
import { checkedPath, type FixedName, fileEnding, nameText, pathProblem, splitName, withoutEnding } from './name.ts';

/**
 * How many times files that do not open are tried under other names, to find the right one. A limit for all of them
 * together: in a folder of another machine, thousands do not open.
 */
const mostTrials = 10_000;

/** The seed (32 bytes) of a scope, and its epoch. @throws Failure if it is not available */
export type ScopeSeed = (scope: string) => { readonly seed: Uint8Array; readonly epoch: number };

/**
 * The seed (32 bytes) of an earlier epoch of a scope that has this key id, which the caller wipes; undefined if there
 * is none.
 */
export type FormerSeed = (
  scope: string,
  keyId: Uint8Array,
) => { readonly seed: Uint8Array; readonly epoch: number } | undefined;

/** The seeds that open the files of a folder. */
export interface FolderKeys {
  readonly seedOf: ScopeSeed;
  readonly former: FormerSeed;
}

const nothingFormer: FormerSeed = () => undefined;

/** A file of the folder, opened. */
export interface OpenFile extends FixedHeader {
  /** The caller wipes it. */
  readonly value: Uint8Array;
  readonly bytes: Uint8Array;
  /** SHA-256 of the file, in hexadecimal. */
  readonly digest: string;
  readonly fingerprint: string;
}

/** A fixed folder: reads, writes, lists and checks its files. */
export class FixedFolder {
  readonly path: string;
  /** For each folder that was listed, its names by their lower-case form. */
  readonly #entries = new Map<string, Map<string, Set<string>>>();
  #trialsLeft = mostTrials;

  constructor(path: string) {
    this.path = path;
  }

  /** The path of a secret's file, whether or not there is one. @throws Failure `usage` for an invalid path */
  fileOf({ scope, path }: FixedName): string {
    return join(this.path, scope, `${checkedPath(path)}${fileEnding}`);
  }

  /** Whether there is a file, sound or not, by the secret's name. */
  has(name: FixedName): boolean {
    return lstatSync(this.fileOf(name), { throwIfNoEntry: false })?.isDirectory() === false;
  }

  /**
   * The file's bytes; undefined if there is none.
   * @throws Failure `malformed` for a FIFO, a device, or a file that is too long
   */
  read(name: FixedName): Uint8Array | undefined {
    return readFileWithin(this.fileOf(name), largestFile);
  }

  /** The file's bytes. @throws Failure `not-found`, and as {@link read} does */
  bytes(name: FixedName): Uint8Array {
    const bytes = this.read(name);
    if (!bytes) throw this.#missing(name);
    return bytes;
  }

  /** Checks that the secret has a file. @throws Failure `not-found` */
  expect(name: FixedName): void {
    if (!this.has(name)) throw this.#missing(name);
  }

  #missing(name: FixedName): Failure {
    return new Failure('not-found', `there is no ${nameText(name)} in ${this.path}`, {
      hint: `${commandLine('auxcred', 'put', nameText(name))} makes it; auxcred find helps to look`,
    });
  }

  /**
   * Opens a file. If it does not open, looks at the other files to say why.
   * @throws Failure `not-found`; or `malformed`, which says whether the file was renamed, belongs to another epoch or
   * scope, is cut off, or was changed
   */
  open(name: FixedName, seedOf: ScopeSeed, former: FormerSeed = nothingFormer): OpenFile {
    const bytes = this.bytes(name);
    const header = readHeader(name, bytes);
    const { seed, epoch } = seedOf(name.scope);
    if (!sameBytes(header.keyId, keyId(seed))) throw this.#foreign(name, header, epoch, former);
    const value = decodeFixed(seed, name.path, bytes);
    if (!value) throw this.#unopened(name, seed, bytes);
    return { ...header, value, bytes, digest: digestOf(bytes), fingerprint: fingerprintOf(seed, name.path, value) };
  }

  #foreign({ scope, path }: FixedName, { keyId: actual }: FixedHeader, epoch: number, former: FormerSeed): Failure {
    const older = former(scope, actual);
    older?.seed.fill(0);
    const text = nameText({ scope, path });
    if (older)
      return new Failure(
        'malformed',
        `${text} is from epoch ${String(older.epoch)}, and ${scope} is in epoch ${String(epoch)}`,
        { hint: `auxcred rekey ${scope}` },
      );
    return new Failure(
      'malformed',
      `${text} was encrypted for another scope, or for another epoch than ${String(epoch)} of ${scope}`,
      {
        hint: "auxcred mv and cp move a file between scopes, auxcred rekey between epochs; the operator's vault has the rest",
      },
    );
  }

  #unopened(name: FixedName, seed: Uint8Array, bytes: Uint8Array): Failure {
    const other =
      this.#trialsLeft <= 0
        ? undefined
        : this.list(name.scope).names.find((candidate) => {
            if (candidate.path === name.path || this.#trialsLeft <= 0) return false;
            this.#trialsLeft--;
            const value = decodeFixed(seed, candidate.path, bytes);
            value?.fill(0);
            return value !== undefined;
          });
    const text = nameText(name);
    if (other)
      return new Failure('malformed', `${text} is the file of ${nameText(other)} under another name`, {
        hint: 'auxcred mv renames a secret: its name is part of its key',
      });
    return new Failure('malformed', `${text} does not open: it was changed, or it is the file of a name that is gone`, {
      hint: restoreHint,
    });
  }

  /**
   * Encrypts `value` and replaces the secret's file. The caller wipes the value.
   * @returns the new file's sequence: above the one of the file that it replaces, if that opens
   * @throws Failure `refused` for a name that differs from another one only in case, and as {@link encodeFixed} does
   */
  write(name: FixedName, value: Uint8Array, keys: FolderKeys): number {
    this.refuseLookalike(name);
    const sequence = Math.max(this.#authenticSequence(name, keys) + 1, Date.now());
    const bytes = encodeFixed(keys.seedOf(name.scope).seed, name.path, sequence, value);
    this.#keep(this.fileOf(name), bytes);
    return sequence;
  }

  /** The sequence of the present file; 0 if there is none or it does not open, since anybody can write a header. */
  #authenticSequence(name: FixedName, { seedOf, former }: FolderKeys): number {
    let older: ReturnType<FormerSeed>;
    try {
      const bytes = this.read(name);
      if (!bytes) return 0;
      const { keyId: id, sequence } = readHeader(name, bytes);
      const { seed } = seedOf(name.scope);
      older = sameBytes(id, keyId(seed)) ? undefined : former(name.scope, id);
      const value = decodeFixed(older?.seed ?? seed, name.path, bytes);
      value?.fill(0);
      return value ? sequence : 0;
    } catch (error) {
      // A damaged file may be replaced.
      if (error instanceof Failure && error.code === 'malformed') return 0;
      throw error;
    } finally {
      older?.seed.fill(0);
    }
  }

  /** Replaces the secret's file with one that is encrypted already. @throws Failure `refused` as {@link write} does */
  place(name: FixedName, bytes: Uint8Array): void {
    this.refuseLookalike(name);
    this.#keep(this.fileOf(name), bytes);
  }

  #keep(file: string, bytes: Uint8Array): void {
    this.#ensure(dirname(file));
    replaceFile(file, bytes, { mode: 0o600 });
    for (let path = file; path.length > this.path.length; path = dirname(path)) {
      const entries = this.#entries.get(dirname(path));
      if (entries) note(entries, basename(path));
    }
  }

  /** Makes the folders down to `folder`, mode 0700. */
  #ensure(folder: string): void {
    if (folder.length > this.path.length) this.#ensure(dirname(folder));
    ensureFolder(folder, { mode: 0o700 });
  }

  /**
   * Refuses a name that differs from another one only in case: on other systems both would be one file. Lists each
   * folder once.
   * @throws Failure `refused`
   */
  refuseLookalike({ scope, path }: FixedName): void {
    const segments = path.split('/');
    segments.forEach((segment, i) => {
      const wanted = i === segments.length - 1 ? `${segment}${fileEnding}` : segment;
      const alike = this.#entriesOf(join(this.path, scope, ...segments.slice(0, i))).get(wanted.toLowerCase()) ?? [];
      const like = [...alike].find((name) => name !== wanted);
      if (like === undefined) return;
      const other = [scope, ...segments.slice(0, i), withoutEnding(like)].join('/');
      throw new Failure('refused', `${nameText({ scope, path })} would differ from ${other} only in case`, {
        hint: 'choose another name',
      });
    });
  }

  #entriesOf(folder: string): Map<string, Set<string>> {
    const known = this.#entries.get(folder);
    if (known) return known;
    const entries = new Map<string, Set<string>>();
    for (const { name } of entriesIn(folder)) note(entries, name);
    this.#entries.set(folder, entries);
    return entries;
  }

  /** Deletes a secret's file and the folders that it leaves empty. @throws Failure `not-found` */
  remove(name: FixedName): void {
    this.expect(name);
    let path = this.fileOf(name);
    unlinkSync(path);
    syncFolder(dirname(path));
    do {
      this.#entries.get(dirname(path))?.get(basename(path).toLowerCase())?.delete(basename(path));
      this.#entries.delete(path);
      path = dirname(path);
    } while (path.length > this.path.length && removeIfEmpty(path));
  }

  /**
   * Removes the leftovers of killed processes, in the folders that can be listed. The caller must not write to the
   * folder meanwhile.
   */
  sweep(): void {
    const walk = (folder: string): void => {
      try {
        removeLeftovers(folder);
        for (const { name, isFolder } of entriesIn(folder))
          if (isFolder && !name.startsWith('.')) walk(join(folder, name));
      } catch {
        // The reader of the folder learns why it can't be listed.
      }
    };
    walk(this.path);
  }

  /**
   * Lists the secrets below `scope` and `prefix`, sorted by name, and the files that are not secrets.
   * @throws Failure `malformed` for a folder that can't be listed
   */
  list(scope?: string, prefix = ''): { readonly names: FixedName[]; readonly strangers: string[] } {
    const names: FixedName[] = [];
    const strangers: string[] = [];
    const walk = (below: string): void => {
      for (const { name, isFolder } of entriesIn(join(this.path, below))) {
        const path = below === '' ? name : `${below}/${name}`;
        if (isFolder && !name.startsWith('.')) walk(path);
        else {
          const known = name.endsWith(fileEnding) ? splitName(withoutEnding(path)) : undefined;
          if (known && pathProblem(known.path) === undefined) names.push(known);
          else strangers.push(path);
        }
      }
    };
    const start = [scope ?? '', prefix].filter((part) => part !== '').join('/');
    const exact = scope !== undefined && prefix !== '' && this.has({ scope, path: prefix });
    if (exact) names.push({ scope, path: prefix });
    walk(start);
    const texts = new Map(names.map((name) => [nameText(name), name]));
    return { names: [...texts.keys()].sort().flatMap((text) => texts.get(text) ?? []), strangers };
  }
}

function note(entries: Map<string, Set<string>>, name: string): void {
  const alike = entries.get(name.toLowerCase());
  if (alike) alike.add(name);
  else entries.set(name.toLowerCase(), new Set([name]));
}

/** Removes a folder unless something is in it. @returns whether it did */
function removeIfEmpty(folder: string): boolean {
  try {
    rmdirSync(folder);
    return true;
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ENOTEMPTY' || code === 'EEXIST') return false;
    throw error;
  }
}

/** Why a folder can't be listed, by the system's code. */
const unlistable: Readonly<Record<string, string>> = {
  ELOOP: 'is a loop of symbolic links',
  ENAMETOOLONG: 'is nested too deep to be listed',
};

function entriesIn(folder: string): { readonly name: string; readonly isFolder: boolean }[] {
  try {
    return readdirSync(folder, { withFileTypes: true }).map((entry) => ({
      name: entry.name,
      isFolder: entry.isDirectory(),
    }));
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return [];
    const reason = unlistable[code ?? ''];
    if (reason === undefined) throw error;
    throw new Failure('malformed', `${folder} ${reason}`, { hint: 'remove it: it can hold no secret', cause: error });
  }
}
