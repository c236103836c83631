import { lstatSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { messageOf } from '../failure.ts';
import { pathsUnder } from '../system/paths.ts';

/**
 * An active manifest file: the one by its name in the strongest folder. Or a manifest folder that can't be read, so
 * that its files are unknown.
 */
export interface ManifestFile {
  /** The path as seen from inside `root`. */
  readonly path: string;
  /** Empty for a mask; undefined if the file can't be read or is not UTF-8. */
  readonly text: string | undefined;
  /** Why there is no text. */
  readonly fault?: { readonly message: string; readonly hint: string };
  /** The file's bytes if they are not UTF-8. */
  readonly bytes?: Uint8Array;
}

/**
 * Lists the active manifest files under `root`, from the strongest folder to the weakest, and within one in byte order
 * of their names. As in systemd, a file hides those of the same name in weaker folders, and a link to /dev/null only
 * hides them. `generators/auxcred-generator` lists them in the same order.
 */
export const manifestFiles = (root: string): ManifestFile[] => filesIn(pathsUnder('/').manifestFolders, root);

/**
 * Does the same for other folders, given from the strongest to the weakest.
 * @param root - the folders are below it; without it they are paths as the caller of the program writes them
 */
export function filesIn(folders: readonly string[], root?: string): ManifestFile[] {
  const seen = new Set<string>();
  const at = (...path: string[]): string => (root === undefined ? join(...path) : join(root, ...path));
  return folders.flatMap((folder) => {
    const names = namesIn(resolve(at(folder)));
    if (!names)
      return [
        {
          path: folder,
          text: undefined,
          fault: { message: "it can't be read", hint: 'it must be a folder of manifest files, or absent' },
        },
      ];
    return names
      .filter((name) => !seen.has(name))
      .map((name) => {
        seen.add(name);
        return { path: join(folder, name), ...contentAt(at(folder, name)) };
      });
  });
}

/** Whether a file of this name is read. */
export const isManifestName = (name: string): boolean => /^[^.].*\.(?:toml|json)$/s.test(name);

/** The names in a folder; none if there is no such folder, undefined if it can't be read. */
function namesIn(folder: string): string[] | undefined {
  try {
    return readdirSync(folder)
      .filter(isManifestName)
      .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  } catch {
    return isAbsent(folder) ? [] : undefined;
  }
}

/** Whether nothing is at a path, and what exists above it is a folder, neither a file nor a dangling link. */
function isAbsent(path: string): boolean {
  try {
    for (let at = path; ; at = dirname(at))
      if (lstatSync(at, { throwIfNoEntry: false })) return at !== path && statSync(at).isDirectory();
  } catch {
    return false;
  }
}

type Content = Pick<ManifestFile, 'text' | 'fault' | 'bytes'>;

function contentAt(path: string): Content {
  const unreadable = (hint: string): Content => ({ text: undefined, fault: { message: "it can't be read", hint } });
  const irregular = 'a manifest is a regular file';
  try {
    const kind = statSync(path);
    if (kind.isFile()) return contentOf(readFileSync(path));
    // A FIFO or /dev/zero would block PID 1.
    return kind.isCharacterDevice() && kind.rdev === statSync('/dev/null').rdev ? { text: '' } : unreadable(irregular);
  } catch (error) {
    return unreadable(messageOf(error).startsWith('EACCES') ? 'run it as root' : irregular);
  }
}

/** Decodes the bytes of a manifest file. */
export function contentOf(bytes: Uint8Array): Content {
  try {
    return { text: new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes) };
  } catch {
    return { text: undefined, fault: { message: 'it is not UTF-8', hint: 'save it as UTF-8' }, bytes };
  }
}
