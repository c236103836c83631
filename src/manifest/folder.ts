import { lstatSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pathsUnder } from '../system/paths.ts';

/**
 * A manifest file in force: its folder is the strongest that has its name. Or a manifest folder that can't be read,
 * which may have any.
 */
export interface ManifestFile {
  /** As the system at `root` sees it. */
  readonly path: string;
  /** Empty for a mask; undefined if it can't be read, or is not UTF-8. */
  readonly text: string | undefined;
  /** Why there is no text. */
  readonly fault?: { readonly message: string; readonly hint: string };
  /** What could be read where it is not UTF-8. */
  readonly bytes?: Uint8Array;
}

/**
 * The manifest files in force under `root`, folder by folder from the strongest, by byte order of their names within
 * one: a file hides those of the same name in weaker folders, and a link to /dev/null hides them without saying
 * anything itself, as in systemd.
 * `generators/auxcred-generator` lists them in the same order.
 */
export const manifestFiles = (root: string): ManifestFile[] => filesIn(pathsUnder('/').manifestFolders, root);

/** The same for folders of one's own, the strongest first, below `root`. */
export function filesIn(folders: readonly string[], root = '/'): ManifestFile[] {
  const seen = new Set<string>();
  return folders.flatMap((folder) => {
    const names = namesIn(join(root, folder));
    if (!names)
      return [
        {
          path: folder,
          text: undefined,
          fault: { message: "it can't be read", hint: 'a folder of manifest files, or nothing at all' },
        },
      ];
    return names
      .filter((name) => !seen.has(name))
      .map((name) => {
        seen.add(name);
        return { path: join(folder, name), ...contentAt(join(root, folder, name)) };
      });
  });
}

/** The names in a folder; none if there is no such folder, undefined if there is something that can't be read. */
function namesIn(folder: string): string[] | undefined {
  try {
    return readdirSync(folder)
      .filter((name) => /^[^.].*\.(?:toml|json)$/s.test(name))
      .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  } catch {
    return isAbsent(folder) ? [] : undefined;
  }
}

/**
 * Whether there is nothing at a path: the next thing above it is a folder, and neither a file nor a link that leads
 * nowhere.
 */
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
  const unreadable = { text: undefined, fault: { message: "it can't be read", hint: 'a manifest is a regular file' } };
  try {
    const kind = statSync(path);
    if (kind.isFile()) return contentOf(readFileSync(path));
    // A FIFO or /dev/zero would hold up PID 1.
    return kind.isCharacterDevice() && kind.rdev === statSync('/dev/null').rdev ? { text: '' } : unreadable;
  } catch {
    return unreadable;
  }
}

/** What the bytes of a manifest file say. */
export function contentOf(bytes: Uint8Array): Content {
  try {
    return { text: new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes) };
  } catch {
    return { text: undefined, fault: { message: 'it is not UTF-8', hint: 'save it as UTF-8' }, bytes };
  }
}
