import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { pathsUnder } from '../system/paths.ts';

/** A manifest file in force: its folder is the strongest that has its name. */
export interface ManifestFile {
  /** As the system at `root` sees it. */
  readonly path: string;
  /** Empty for a mask; undefined where it can't be read. */
  readonly text: string | undefined;
}

/**
 * The manifest files in force under `root`, folder by folder from the strongest, by byte order of their names within one: a file hides
 * those of the same name in weaker folders, and a link to /dev/null hides them without saying anything itself, as in systemd.
 * `generators/auxcred-generator` lists them in the same order.
 */
export const manifestFiles = (root: string): ManifestFile[] => filesIn(pathsUnder('/').manifestFolders, root);

/** The same for folders of one's own, the strongest first, below `root`. */
export function filesIn(folders: readonly string[], root = '/'): ManifestFile[] {
  const seen = new Set<string>();
  return folders.flatMap((folder) =>
    namesIn(join(root, folder)).filter((name) => !seen.has(name)).map((name) => {
      seen.add(name);
      return { path: join(folder, name), text: read(join(root, folder, name)) };
    }));
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder).filter((name) => /^[^.].*\.(?:toml|json)$/s.test(name)).sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  } catch {
    return [];
  }
}

function read(path: string): string | undefined {
  try {
    // /dev/null, and nothing else that could be waited for: a FIFO would hold up PID 1.
    const kind = statSync(path);
    if (kind.isFile()) return readFileSync(path, 'utf8');
    return kind.isCharacterDevice() ? '' : undefined;
  } catch {
    return undefined;
  }
}
