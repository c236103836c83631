/** Finds what lies in a manifest folder and is no manifest file, so that a mistyped ending is not silent. */
import { type Dirent, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Problem } from './declaration.ts';
import { isManifestName } from './folder.ts';

/** Matches hidden files, and the names of dpkg, ucf, rpm and pacman for a configuration file that is not in use. */
const putAside = /^\.|\.(?:dpkg-[a-z]+|ucf-[a-z]+|rpm(?:new|orig|save)|pac(?:new|orig|save))$/;

/**
 * Warns of each entry of the folders that is not read for its name. Hidden entries, what begins with the name of a
 * manifest file beside it, such as an editor's `web.toml~`, and what a package manager puts aside are meant to be left
 * alone.
 * @param root - the folders are below it; without it they are paths as the caller of the program writes them
 */
export const unreadProblems = (folders: readonly string[], root?: string): Problem[] =>
  folders.flatMap((folder) => {
    const entries = entriesIn(root === undefined ? folder : join(root, folder));
    const read = entries.map(({ name }) => name).filter(isManifestName);
    return entries
      .filter(({ name }) => !putAside.test(name) && !read.some((other) => name.startsWith(other)))
      .map(
        (entry): Problem => ({
          severity: 'warning',
          file: join(folder, entry.name),
          line: undefined,
          key: undefined,
          ...(entry.isDirectory() ? aboutFolder : aboutName),
        }),
      );
  });

const aboutFolder = { message: 'folders are not read here', hint: 'its files belong beside it' };
const aboutName = {
  message: 'it is not read: its name does not end in .toml or .json',
  hint: 'rename it, or begin its name with a dot if nothing should read it',
};

/**
 * The entries of a folder, by name. One that can't be read is a problem of its own, which the manifest has. Asks for no
 * entry itself: this user may be allowed to list a folder, and no more.
 */
function entriesIn(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1));
  } catch {
    return [];
  }
}
