/**
 * What `auxcred apply` leaves for the generator: the drop-ins, and the sums that show whether they match the present
 * manifest.
 */
import { rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { sameBytes, utf8 } from '../bytes.ts';
import type { ManifestFile } from '../manifest/folder.ts';
import type { Manifest } from '../manifest/manifest.ts';
import {
  ensureFolder,
  linkTarget,
  namesIn,
  readIfPresent,
  removeLeftovers,
  replaceLink,
  syncFolder,
  writeNew,
} from '../system/files.ts';
import { dropInFile, type Paths, pathsUnder } from '../system/paths.ts';
import { type Rendering, readRendering, renderingVersion, renderUnits, unitsFolder } from './rendering.ts';

const sumsFile = 'manifest';
/** The sums of what was applied last. */
export const sumsPath = ({ rendered }: Pick<Paths, 'rendered'>): string => join(rendered, sumsFile);
/** The folder of one rendering is this and a number. */
const folderPrefix = '.rendered.';

/**
 * The version of the rendering, as a comment, then the output of `sha256sum`, run in the root folder, for the drop-ins,
 * by path, and the manifest files that they came from, in order of precedence. The manifest files come last, so
 * truncated sums match no manifest.
 */
export function renderingSums(files: readonly ManifestFile[], rendering: Rendering): string {
  const dropIns = [...rendering]
    .map(([unit, dropIn]) => sumLine(dropInPath(unit), dropIn))
    .sort((a, b) => (pathIn(a) < pathIn(b) ? -1 : 1));
  return [`${renderingVersion}\n`, ...dropIns, ...files.map(({ path, text }) => sumLine(path.slice(1), text))].join('');
}

/** A path relative to the root, as the generator writes it. */
const dropInPath = (unit: string): string => dropInFile(`${pathsUnder('/').rendered.slice(1)}/${unitsFolder}`, unit);

/** A line of sha256sum(1), which escapes names that contain a backslash or a newline. An unreadable file has no sum. */
function sumLine(path: string, text: string | undefined): string {
  // Loaded only here: the generator has to be quick, and makes no sums.
  const { createHash } = process.getBuiltinModule('node:crypto');
  const sum = text === undefined ? '-' : createHash('sha256').update(text).digest('hex');
  const escaped = path.replaceAll(
    /[\\\n\r]/g,
    (character) => ({ '\\': '\\\\', '\n': '\\n', '\r': '\\r' })[character] ?? character,
  );
  return `${escaped === path ? '' : '\\'}${sum}  ${escaped}\n`;
}

const pathIn = (line: string): string => line.slice(line.indexOf('  ') + 2);

/** Every unit that was applied last, with its drop-in; undefined if that is gone or was altered. */
export type Applied = ReadonlyMap<string, string | undefined>;

/** Reads what was applied last from the drop-ins and their sums; both may be incomplete. */
export function readApplied(paths: Pick<Paths, 'rendered'>): Applied {
  const lines = new TextDecoder().decode(readIfPresent(sumsPath(paths)) ?? new Uint8Array()).split('\n');
  const rendering = readRendering(paths);
  const listed = lines.flatMap((line) => /\/units\/([^/]+)\.d\/[^/]+$/.exec(line)?.[1]?.replaceAll('\\\\', '\\') ?? []);
  const present = namesIn(join(paths.rendered, unitsFolder))
    .filter((name) => name.endsWith('.d'))
    .map((name) => name.slice(0, -2));
  return new Map(
    [...new Set([...listed, ...present])].map((unit) => {
      const dropIn = rendering.get(unit);
      return [
        unit,
        dropIn !== undefined && lines.includes(sumLine(dropInPath(unit), dropIn).trimEnd()) ? dropIn : undefined,
      ];
    }),
  );
}

/** A unit whose drop-in changes. */
export interface UnitChange {
  readonly unit: string;
  readonly change: 'added' | 'changed' | 'removed';
}

/** The changes from `before` to `after`. */
export function changesOf(before: Rendering, after: Rendering): UnitChange[] {
  return [...new Set([...before.keys(), ...after.keys()])].sort().flatMap((unit): UnitChange[] => {
    if (before.get(unit) === after.get(unit)) return [];
    return [{ unit, change: !before.has(unit) ? 'added' : after.has(unit) ? 'changed' : 'removed' }];
  });
}

/**
 * Writes the manifest's rendering and its sums to a new folder, which one symlink swap activates.
 * @returns the changes
 */
export function applyRendering(paths: Paths, manifest: Manifest): UnitChange[] {
  const rendering = renderUnits(manifest.declarations);
  const changes = changesOf(readRendering(paths), rendering);
  const text = utf8(renderingSums(manifest.files, rendering));
  removeStrayRenderings(paths);
  if (changes.length === 0 && sameBytes(readIfPresent(sumsPath(paths)), text)) return changes;

  const parent = dirname(paths.rendered);
  const active = Number(/(\d+)$/.exec(linkTarget(paths.rendered) ?? '')?.[1] ?? 0);
  const next = `${folderPrefix}${String(active + 1)}`;
  const folder = join(parent, next);
  const units = join(folder, unitsFolder);
  const access = { mode: 0o755 };
  try {
    for (const made of [parent, folder, units]) ensureFolder(made, access);
    writeNew(join(folder, sumsFile), text, { mode: 0o644 });
    for (const [unit, dropIn] of rendering) {
      ensureFolder(join(units, `${unit}.d`), access);
      writeNew(dropInFile(units, unit), utf8(dropIn), { mode: 0o644 });
      syncFolder(join(units, `${unit}.d`));
    }
    for (const made of [units, folder, parent]) syncFolder(made);
    replaceLink(paths.rendered, next);
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  }
  syncFolder(parent);
  removeStrayRenderings(paths);
  return changes;
}

/** Removes all renderings but the active one: replaced ones, and those of killed runs. */
function removeStrayRenderings(paths: Paths): void {
  const parent = dirname(paths.rendered);
  removeLeftovers(parent);
  const current = linkTarget(paths.rendered);
  for (const name of namesIn(parent))
    if (name.startsWith(folderPrefix) && name !== current) rmSync(join(parent, name), { recursive: true, force: true });
}
