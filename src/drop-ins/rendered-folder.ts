/** What `auxcred apply` leaves for the generator: the drop-ins, and by what it knows that they are those of the present manifest. */
import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { utf8 } from '../bytes.ts';
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
import { dropInName, type Paths, pathsUnder } from '../system/paths.ts';
import { type Rendering, readRendering, renderingVersion, renderUnits } from './rendering.ts';

/**
 * The version of the rendering, as a comment, and what `sha256sum` says in the root folder of the drop-ins, by path, and of the manifest's files that they came from, in the order in
 * which they are in force. The manifest's files come last, so that sums that were cut off match no manifest.
 */
export function renderingSums(files: readonly ManifestFile[], rendering: Rendering): string {
  const dropIns = [...rendering]
    .map(([unit, dropIn]) => sumLine(dropInPath(unit), dropIn))
    .sort((a, b) => (pathIn(a) < pathIn(b) ? -1 : 1));
  return [`${renderingVersion}\n`, ...dropIns, ...files.map(({ path, text }) => sumLine(path.slice(1), text))].join('');
}

/** A path below the root without its leading slash, as the generator names it. */
const dropInPath = (unit: string): string => join(pathsUnder('/').rendered.slice(1), 'units', `${unit}.d`, dropInName);

/** A line of sha256sum(1), which escapes names that have a backslash or a line's end. What can't be read has no sum. */
function sumLine(path: string, text: string | undefined): string {
  const sum = text === undefined ? '-' : createHash('sha256').update(text).digest('hex');
  const escaped = path.replaceAll(
    /[\\\n\r]/g,
    (character) => ({ '\\': '\\\\', '\n': '\\n', '\r': '\\r' })[character] ?? character,
  );
  return `${escaped === path ? '' : '\\'}${sum}  ${escaped}\n`;
}

const pathIn = (line: string): string => line.slice(line.indexOf('  ') + 2);

/** Every unit that was applied last, with its drop-in; undefined where that is not there any more as it was written. */
export type Applied = ReadonlyMap<string, string | undefined>;

/** Reads what was applied last from the drop-ins and from their sums, neither of which need be whole. */
export function readApplied(paths: Pick<Paths, 'rendered'>): Applied {
  const lines = new TextDecoder()
    .decode(readIfPresent(join(paths.rendered, 'manifest')) ?? new Uint8Array())
    .split('\n');
  const rendering = readRendering(paths);
  const listed = lines.flatMap((line) => /\/units\/([^/]+)\.d\/[^/]+$/.exec(line)?.[1]?.replaceAll('\\\\', '\\') ?? []);
  const present = namesIn(join(paths.rendered, 'units'))
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

export interface UnitChange {
  readonly unit: string;
  readonly change: 'added' | 'changed' | 'removed';
}

/** What putting `after` in place of `before` would do. */
export function changesOf(before: Rendering, after: Rendering): UnitChange[] {
  return [...new Set([...before.keys(), ...after.keys()])].sort().flatMap((unit): UnitChange[] => {
    if (before.get(unit) === after.get(unit)) return [];
    return [{ unit, change: !before.has(unit) ? 'added' : after.has(unit) ? 'changed' : 'removed' }];
  });
}

/**
 * Writes the manifest's rendering beside the sums of it and of what it came from, in a fresh folder that one symlink swap puts in force.
 * @returns what it changed
 */
export function applyRendering(paths: Paths, manifest: Manifest): UnitChange[] {
  const rendering = renderUnits(manifest.declarations);
  const changes = changesOf(readRendering(paths), rendering);
  const text = utf8(renderingSums(manifest.files, rendering));
  const current = readIfPresent(join(paths.rendered, 'manifest'));
  removeStrayRenderings(paths);
  if (changes.length === 0 && current && Buffer.compare(current, text) === 0) return changes;

  const parent = dirname(paths.rendered);
  const next = `.rendered.${String(Number(/(\d+)$/.exec(linkTarget(paths.rendered) ?? '')?.[1] ?? 0) + 1)}`;
  const folder = join(parent, next);
  const units = join(folder, 'units');
  const access = { mode: 0o755 };
  try {
    for (const made of [parent, folder, units]) ensureFolder(made, access);
    writeNew(join(folder, 'manifest'), text, { mode: 0o644 });
    for (const [unit, dropIn] of rendering) {
      ensureFolder(join(units, `${unit}.d`), access);
      writeNew(join(units, `${unit}.d`, dropInName), utf8(dropIn), { mode: 0o644 });
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

/** Keeps the rendering in force; what it replaced goes, and what a killed run began. */
function removeStrayRenderings(paths: Paths): void {
  const parent = dirname(paths.rendered);
  removeLeftovers(parent);
  const current = linkTarget(paths.rendered);
  for (const name of namesIn(parent))
    if (name.startsWith('.rendered.') && name !== current) rmSync(join(parent, name), { recursive: true, force: true });
}
