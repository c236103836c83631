/** Finds what lies in a manifest folder and is no manifest file, so that a mistyped ending is not silent. */
import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Problem } from './declaration.ts';
import { isManifestName } from './folder.ts';

/**
 * Warns of each entry of the folders that is not read for its name. Hidden entries and what begins with the name of a
 * manifest file beside it, such as an editor's `web.toml~`, are meant to be left alone.
 * @param root - the folders are below it; without it they are paths as the caller of the program writes them
 */
export const unreadProblems = (folders: readonly string[], root?: string): Problem[] =>
  folders.flatMap((folder) => {
    const names = namesIn(root === undefined ? folder : join(root, folder));
    const read = names.filter(isManifestName);
    return names
      .filter((name) => !name.startsWith('.') && !read.some((other) => name.startsWith(other)))
      .map((name): Problem => {
        const file = join(folder, name);
        const isFolder = lstatSync(join(root ?? '', file), { throwIfNoEntry: false })?.isDirectory() === true;
        return {
          severity: 'warning',
          file,
          line: undefined,
          key: undefined,
          message: isFolder ? 'folders are not read here' : 'it is not read: its name does not end in .toml or .json',
          hint: isFolder
            ? 'its files belong beside it'
            : 'rename it, or begin its name with a dot if nothing should read it',
        };
      });
  });

/** A folder that can't be read is a problem of its own, which the manifest has. */
function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}
