/** What `auxcred apply` leaves for the generator: the drop-ins, and by what it knows that they are those of the present manifest. */
import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { utf8 } from '../derive/framing.ts';
import type { ManifestFile } from '../manifest/folder.ts';
import type { Manifest } from '../manifest/manifest.ts';
import { ensureFolder, linkTarget, namesIn, readIfPresent, removeLeftovers, replaceLink, syncFolder, writeNew } from '../system/files.ts';
import { dropInName, type Paths } from '../system/paths.ts';
import { readRendering, renderUnits, type Rendering } from './rendering.ts';

/**
 * The manifest's files as `sha256sum --check` reads them in the root folder, in the order in which they are in force. A name
 * that sha256sum would have to escape never matches, so that the generator renders such a manifest anew each time.
 */
export const manifestSums = (files: readonly ManifestFile[]): string =>
  files.map(({ path, text }) => `${createHash('sha256').update(text ?? '').digest('hex')}  ${path.slice(1)}\n`).join('');

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
 * Writes the manifest's rendering beside the sums of what it came from, in a fresh folder that one symlink swap puts in force.
 * @returns what it changed
 */
export function applyRendering(paths: Paths, manifest: Manifest): UnitChange[] {
  const rendering = renderUnits(manifest.declarations);
  const changes = changesOf(readRendering(paths), rendering);
  const text = utf8(manifestSums(manifest.files));
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
  for (const name of namesIn(parent)) if (name.startsWith('.rendered.') && name !== current) rmSync(join(parent, name), { recursive: true, force: true });
}
