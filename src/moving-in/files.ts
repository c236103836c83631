/** Files in the folders that a call names. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Failure } from '../failure.ts';
import { readFileWithin } from '../system/files.ts';

/** The most bytes of a file that is searched. */
const largestFile = 16 << 20;

/** A file, and its path below the folder that the call names. */
export interface SourceFile {
  readonly path: string;
  readonly below: string;
}

/** The named files, and all files of the named folders but hidden ones, sorted. @throws Failure `not-found` */
export function filesIn(from: readonly string[]): SourceFile[] {
  return from.flatMap((path) => {
    const stat = statSync(path, { throwIfNoEntry: false });
    if (!stat) throw new Failure('not-found', `there is no ${path}`, { hint: 'name a file or a folder' });
    if (!stat.isDirectory()) return [{ path, below: path.slice(path.lastIndexOf('/') + 1) }];
    return below(path, '');
  });
}

function below(folder: string, prefix: string): SourceFile[] {
  return readdirSync(join(folder, prefix), { withFileTypes: true })
    .filter(({ name }) => !name.startsWith('.'))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const path = `${prefix}${entry.name}`;
      if (entry.isDirectory()) return below(folder, `${path}/`);
      return entry.isFile() ? [{ path: join(folder, path), below: path }] : [];
    });
}

/** The content of a file as Latin-1, in which every byte is a character; it is encrypted text, or names. */
export function encryptedText(path: string): string {
  return Buffer.from(readFileWithin(path, largestFile) ?? []).toString('latin1');
}

/** The part of a path before the ending of its last segment. */
export const withoutEnding = (path: string): string => path.replace(/(?<=[^/])\.[^./]+$/, '');
