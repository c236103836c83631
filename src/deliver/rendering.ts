/** The drop-ins of all units, and the copy of them that the generator hands to systemd at boot. */
import { mkdirSync, readdirSync, readFileSync, readlinkSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { utf8 } from '../derive/framing.ts';
import { manifestText } from '../manifest/folder.ts';
import type { Manifest } from '../manifest/manifest.ts';
import { ensureFolder, readIfPresent, syncFolder, writeNew } from '../system/files.ts';
import { dropInName, type Paths } from '../system/paths.ts';
import { renderDropIn, type UnitSecret } from './drop-in.ts';

/** Drop-in text by unit. */
export type Rendering = ReadonlyMap<string, string>;

/** The drop-ins of every unit that the declarations name. */
export function renderUnits(declarations: Manifest['declarations']): Rendering {
  const secrets = new Map<string, UnitSecret[]>();
  for (const declaration of declarations) {
    for (const unit of declaration.units) {
      const ofUnit = secrets.get(unit);
      if (ofUnit) ofUnit.push(declaration);
      else secrets.set(unit, [declaration]);
    }
  }
  return new Map([...secrets].sort(([a], [b]) => (a < b ? -1 : 1)).map(([unit, ofUnit]) => [unit, renderDropIn(unit, ofUnit)]));
}

const unitFolder = (folder: string, unit: string): string => join(folder, `${unit}.d`);

/** The drop-ins that were applied last. */
export function readRendering(paths: Pick<Paths, 'rendered'>): Rendering {
  const folder = join(paths.rendered, 'units');
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch {
    return new Map();
  }
  return new Map(names.filter((name) => name.endsWith('.d')).map((name) => [name.slice(0, -2), readFileSync(join(folder, name, dropInName), 'utf8')]));
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
 * Writes the manifest's rendering beside the text it came from, in a fresh folder that one symlink swap puts in force.
 * @returns what it changed
 */
export function applyRendering(paths: Paths, manifest: Manifest): UnitChange[] {
  const rendering = renderUnits(manifest.declarations);
  const changes = changesOf(readRendering(paths), rendering);
  const text = utf8(manifestText(manifest.files));
  const current = readIfPresent(join(paths.rendered, 'manifest'));
  if (changes.length === 0 && current && Buffer.compare(current, text) === 0) return changes;

  const parent = dirname(paths.rendered);
  ensureFolder(parent, { mode: 0o755 });
  const old = linkTarget(paths.rendered);
  const next = `.rendered.${String(Number(/(\d+)$/.exec(old ?? '')?.[1] ?? 0) + 1)}`;
  const folder = join(parent, next);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(join(folder, 'units'), { recursive: true, mode: 0o755 });
  writeNew(join(folder, 'manifest'), text, { mode: 0o644 });
  for (const [unit, dropIn] of rendering) {
    mkdirSync(unitFolder(join(folder, 'units'), unit), { mode: 0o755 });
    writeNew(join(unitFolder(join(folder, 'units'), unit), dropInName), utf8(dropIn), { mode: 0o644 });
  }
  syncFolder(folder);
  const link = `${paths.rendered}.new`;
  rmSync(link, { force: true });
  symlinkSync(next, link);
  renameSync(link, paths.rendered);
  syncFolder(parent);
  if (old !== undefined && old.startsWith('.rendered.')) rmSync(join(parent, basename(old)), { recursive: true, force: true });
  return changes;
}

function linkTarget(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}
