/** Symbolic links to secrets that are files, in places where they are a risk. */
import { readdirSync, readlinkSync, realpathSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { credentialsOf, type SecretDeclaration } from '../manifest/declaration.ts';
import { linksIn, ownerId } from '../provision/file-folder.ts';
import { objectionTo } from '../system/held-folder.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import type { ReadableFiles } from './readable-files.ts';

/** A link that should not be where it is. */
export interface StrayLink {
  /** Its path, with all links above it resolved. */
  readonly path: string;
  /** What is wrong with the path that it was made under; undefined for a link that auxcred did not record. */
  readonly objection: string | undefined;
}

/** Folders from which programs that run as root read whatever they find. */
const readByRoot = ['etc', 'root', 'run/systemd', 'usr/lib/systemd', 'usr/local', 'var/spool'];

/**
 * Links to auxcred's files in folders that others could have redirected, and undeclared ones in folders that root's
 * programs read.
 */
export function strayLinks(
  readable: ReadableFiles,
  paths: Paths,
  declarations: readonly SecretDeclaration[],
): StrayLink[] {
  const recorded = linksIn(readable.read(paths.fileLinks));
  const declared = declarations.flatMap(({ credential, content, placement }) => {
    if (placement?.link === undefined) return [];
    const { link } = placement;
    const owner = ownerId(paths.root, placement);
    return credentialsOf({ credential, content }).map(({ id }) => ({
      link: `${link}${id.slice(credential.length)}`,
      owner,
    }));
  });
  const known = new Map<string, number | undefined>([
    ...recorded.map((link): [string, undefined] => [link, undefined]),
    ...declared.map(({ link, owner }): [string, number | undefined] => [link, owner]),
  ]);
  const led = [...known].flatMap(([link, owner]) => {
    const objection = objectionTo(paths.root, dirname(link), { owner });
    const path = objection && realPlace(join(paths.root, link));
    return path !== undefined && leadsToFiles(paths, path) ? [{ path, objection: objection?.message }] : [];
  });
  // Without the record every link would look unknown.
  if (readable.isHidden(paths.fileLinks)) return led;
  const unknown = readByRoot
    .flatMap((folder) => linksBelow(join(paths.root, folder)))
    .filter(
      (path) =>
        leadsToFiles(paths, path) &&
        ![...known.keys()].some((link) => join(paths.root, link) === path) &&
        led.every((one) => one.path !== path),
    );
  return [...led, ...unknown.map((path) => ({ path, objection: undefined }))];
}

function realPlace(path: string): string | undefined {
  try {
    return join(realpathSync(dirname(path)), basename(path));
  } catch {
    return undefined;
  }
}

function leadsToFiles(paths: Paths, path: string): boolean {
  try {
    const target = readlinkSync(path);
    return [paths, pathsUnder('/')].some(({ files }) => target.startsWith(`${files}/`));
  } catch {
    return false;
  }
}

function linksBelow(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
      const path = join(folder, entry.name);
      return entry.isDirectory() ? linksBelow(path) : entry.isSymbolicLink() ? [path] : [];
    });
  } catch {
    // Gone, or not readable by this user.
    return [];
  }
}
