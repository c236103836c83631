/**
 * The fixed folder: `host/NAME/PATH.sealed` and `group/NAME/PATH.sealed`, one file a secret. Looking around in it takes no seed.
 */
import { readdirSync, rmdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { keyId } from '../derive/tree.ts';
import { Failure } from '../failure.ts';
import { ensureFolder, readIfPresent, replaceFile, syncFolder } from '../system/files.ts';
import { commandLine } from '../system/shell.ts';
import { decodeFixed, digestOf, encodeFixed, fingerprintOf, type FixedHeader, readHeader } from './file.ts';
import { checkedPath, type FixedName, nameText, pathProblem, splitName } from './name.ts';

const ending = '.sealed';

/** The seed (32 bytes) of a scope, and its epoch. @throws Failure where it is not at hand */
export type ScopeSeed = (scope: string) => { readonly seed: Uint8Array; readonly epoch: number };

/** A scope's seeds (32 bytes each) of the epochs before the one in force, the latest first; the caller wipes them. */
export type FormerSeeds = (scope: string) => { readonly seed: Uint8Array; readonly epoch: number }[];

/** A file of the folder, opened. */
export interface OpenFile extends FixedHeader {
  /** The caller wipes it. */
  readonly value: Uint8Array;
  readonly bytes: Uint8Array;
  /** SHA-256 of the file, in hexadecimal. */
  readonly digest: string;
  readonly fingerprint: string;
}

export class FixedFolder {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  fileOf({ scope, path }: FixedName): string {
    return join(this.path, scope, `${checkedPath(path)}${ending}`);
  }

  /** The file's bytes; undefined where there is none. */
  read(name: FixedName): Uint8Array | undefined {
    return readIfPresent(this.fileOf(name));
  }

  /** @throws Failure `not-found` */
  bytes(name: FixedName): Uint8Array {
    const bytes = this.read(name);
    if (!bytes) throw new Failure('not-found', `there is no ${nameText(name)} in ${this.path}`, { hint: `${commandLine('auxcred', 'put', nameText(name))} makes it; auxcred find helps to look` });
    return bytes;
  }

  /**
   * Opens a file. Looks around where it does not open, to say why.
   * @throws Failure `not-found`, or `malformed` that tells one renamed, of another epoch or scope, cut off and changed apart
   */
  open(name: FixedName, seedOf: ScopeSeed, former: FormerSeeds = () => []): OpenFile {
    const bytes = this.bytes(name);
    const header = readHeader(name, bytes);
    const { seed, epoch } = seedOf(name.scope);
    if (Buffer.compare(header.keyId, keyId(seed)) !== 0) throw this.#foreign(name, header, epoch, former);
    const value = decodeFixed(seed, name.path, bytes);
    if (!value) throw this.#unopened(name, seed, bytes);
    return { ...header, value, bytes, digest: digestOf(bytes), fingerprint: fingerprintOf(seed, name.path, value) };
  }

  #foreign({ scope, path }: FixedName, { keyId: actual }: FixedHeader, epoch: number, former: FormerSeeds): Failure {
    const seeds = former(scope);
    const older = seeds.find(({ seed }) => Buffer.compare(keyId(seed), actual) === 0);
    for (const { seed } of seeds) seed.fill(0);
    const text = nameText({ scope, path });
    if (older) return new Failure('malformed', `${text} is of epoch ${String(older.epoch)}, and ${scope} is in epoch ${String(epoch)}`, { hint: `auxcred rekey ${scope}` });
    return new Failure('malformed', `${text} was encrypted for another scope, or for another epoch than ${String(epoch)} of ${scope}`, { hint: 'auxcred mv and cp move a file between scopes, auxcred rekey between epochs; the operator\'s vault has the rest' });
  }

  #unopened(name: FixedName, seed: Uint8Array, bytes: Uint8Array): Failure {
    const other = this.list(name.scope).names.find((candidate) => {
      const value = candidate.path === name.path ? undefined : decodeFixed(seed, candidate.path, bytes);
      value?.fill(0);
      return value !== undefined;
    });
    const text = nameText(name);
    if (other) return new Failure('malformed', `${text} is the file of ${nameText(other)} under another name`, { hint: 'auxcred mv renames a secret: its name is part of its key' });
    return new Failure('malformed', `${text} does not open: it was changed, or it is the file of a name that is gone`, { hint: 'restore it from a backup, or put it again' });
  }

  /** Encrypts `value` as that secret, in place of what it was. The caller wipes the value. @returns the new file's sequence */
  write(name: FixedName, value: Uint8Array, seedOf: ScopeSeed): number {
    const file = this.fileOf(name);
    this.refuseLookalike(name);
    const before = readIfPresent(file);
    const sequence = Math.max(before ? sequenceOf(name, before) + 1 : 0, Date.now());
    const bytes = encodeFixed(seedOf(name.scope).seed, name.path, sequence, value);
    this.#keep(file, bytes);
    return sequence;
  }

  /** Puts a file that is encrypted already in place of what was there. */
  place(name: FixedName, bytes: Uint8Array): void {
    this.refuseLookalike(name);
    this.#keep(this.fileOf(name), bytes);
  }

  #keep(file: string, bytes: Uint8Array): void {
    this.#ensure(dirname(file));
    replaceFile(file, bytes, { mode: 0o600 });
  }

  /** Folders of one's own, 0700, down to `folder`. */
  #ensure(folder: string): void {
    if (folder.length > this.path.length) this.#ensure(dirname(folder));
    ensureFolder(folder, { mode: 0o700 });
  }

  /** Two names that differ in their case only would be one file on other systems. @throws Failure `refused` */
  refuseLookalike({ scope, path }: FixedName): void {
    const segments = path.split('/');
    segments.forEach((segment, i) => {
      const wanted = i === segments.length - 1 ? `${segment}${ending}` : segment;
      const like = entriesIn(join(this.path, scope, ...segments.slice(0, i))).find(({ name }) => name !== wanted && name.toLowerCase() === wanted.toLowerCase());
      if (like) throw new Failure('refused', `${nameText({ scope, path })} would differ from ${[scope, ...segments.slice(0, i), like.name.replace(/\.sealed$/, '')].join('/')} in its case only`, { hint: 'choose another name' });
    });
  }

  /** Deletes a secret's file and the folders that it leaves empty. @throws Failure `not-found` */
  remove(name: FixedName): void {
    this.bytes(name);
    const file = this.fileOf(name);
    rmSync(file);
    let folder = dirname(file);
    syncFolder(folder);
    for (; folder.length > this.path.length && entriesIn(folder).length === 0; folder = dirname(folder)) rmdirSync(folder);
  }

  /** Every secret below `scope` and `prefix` in the order of their names, and the files that are none. */
  list(scope?: string, prefix = ''): { readonly names: FixedName[]; readonly strangers: string[] } {
    const names: FixedName[] = [];
    const strangers: string[] = [];
    const walk = (below: string): void => {
      for (const { name, isFolder } of entriesIn(join(this.path, below))) {
        const path = below === '' ? name : `${below}/${name}`;
        if (isFolder && !name.startsWith('.')) walk(path);
        else {
          const known = name.endsWith(ending) ? splitName(path.slice(0, -ending.length)) : undefined;
          if (known && pathProblem(known.path) === undefined) names.push(known);
          else strangers.push(path);
        }
      }
    };
    const start = [scope ?? '', prefix].filter((part) => part !== '').join('/');
    const exact = scope !== undefined && prefix !== '' && this.read({ scope, path: prefix }) !== undefined;
    if (exact) names.push({ scope, path: prefix });
    walk(start);
    const texts = new Map(names.map((name) => [nameText(name), name]));
    return { names: [...texts.keys()].sort().flatMap((text) => texts.get(text) ?? []), strangers };
  }
}

const sequenceOf = (name: FixedName, bytes: Uint8Array): number => {
  try {
    return readHeader(name, bytes).sequence;
  } catch {
    // A damaged file may be replaced.
    return 0;
  }
};

function entriesIn(folder: string): { readonly name: string; readonly isFolder: boolean }[] {
  try {
    return readdirSync(folder, { withFileTypes: true }).map((entry) => ({ name: entry.name, isFolder: entry.isDirectory() }));
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR')) return [];
    throw error;
  }
}
