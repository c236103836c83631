/** Finds and parses unit files as systemd does (systemd.unit(5), systemd.syntax(7)). */

import { lstatSync, readlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { namesIn, readIfPresent } from './files.ts';
import { templateOf } from './unit-name.ts';

/** The unit load path, the strongest first. The folders in /run are empty except in the running system. */
export const unitFolders = [
  'etc/systemd/system.control',
  'run/systemd/system.control',
  'run/systemd/transient',
  'run/systemd/generator.early',
  'etc/systemd/system',
  'etc/systemd/system.attached',
  'run/systemd/system',
  'run/systemd/system.attached',
  'run/systemd/generator',
  'usr/local/lib/systemd/system',
  'usr/lib/systemd/system',
  'lib/systemd/system',
  'run/systemd/generator.late',
] as const;

/** The first file or link of this name in the unit load path. */
function fragmentOf(root: string, unit: string): string | undefined {
  return unitFolders
    .map((folder) => join(root, folder, unit))
    .find((path) => lstatSync(path, { throwIfNoEntry: false }) !== undefined);
}

/**
 * The real name of a unit, if this one is an alias: a symbolic link to a unit by another name, or an `Alias=` of a unit
 * that is not enabled.
 * @param root - `/`, or the target of an installation, of which only the files are known
 * @returns undefined for a unit that is not an alias or does not exist
 */
export function aliasedUnit(root: string, unit: string): string | undefined {
  const seen = new Set<string>();
  let name = unit;
  while (!seen.has(name)) {
    seen.add(name);
    const next = linkedName(root, name);
    if (next === undefined) break;
    name = next;
  }
  return name === unit ? undefined : name;
}

function linkedName(root: string, unit: string): string | undefined {
  const file = fragmentOf(root, unit);
  const template = templateOf(unit);
  if (file === undefined) {
    const ofTemplate = template === undefined ? undefined : linkedName(root, template);
    return (
      ofTemplate?.replace('@.', `@${unit.slice(unit.indexOf('@') + 1, unit.lastIndexOf('.'))}.`) ??
      (template === undefined ? installedAs(root, unit) : undefined)
    );
  }
  if (!lstatSync(file).isSymbolicLink()) return undefined;
  const target = basename(readlinkSync(file));
  // Not aliases: a link to a file of the same name elsewhere, a mask (/dev/null), and an enabled instance's link to its
  // template.
  return target === unit || target === template || !target.endsWith('.service') ? undefined : target;
}

/** The unit whose [Install] section would make this name its alias. */
function installedAs(root: string, unit: string): string | undefined {
  for (const folder of unitFolders) {
    for (const name of namesIn(join(root, folder))) {
      if (!name.endsWith('.service') || name === unit) continue;
      if (
        assignmentsOf(textOf(join(root, folder, name))).some(
          ({ section, key, value }) => section === 'Install' && key === 'Alias' && value.split(/\s+/).includes(unit),
        )
      )
        return name;
    }
  }
  return undefined;
}

function textOf(path: string): string {
  try {
    return new TextDecoder().decode(readIfPresent(path));
  } catch {
    // A folder, or a file that this user may not read.
    return '';
  }
}

/** One `Key=value` of a unit file. */
export interface Assignment {
  readonly section: string;
  readonly key: string;
  readonly value: string;
}

/** Parses the assignments of a unit file, in order. Joins lines that end in a backslash. */
export function assignmentsOf(text: string): Assignment[] {
  const assignments: Assignment[] = [];
  let section = '';
  let begun = '';
  for (const line of text.split('\n')) {
    if (/^\s*[#;]/.test(line)) continue;
    const whole = begun + line.trim();
    begun = '';
    if (whole.endsWith('\\')) {
      begun = `${whole.slice(0, -1)} `;
      continue;
    }
    const heading = /^\[(.*)\]$/.exec(whole);
    const equals = whole.indexOf('=');
    if (heading) section = heading[1] ?? '';
    else if (equals > 0)
      assignments.push({ section, key: whole.slice(0, equals).trim(), value: whole.slice(equals + 1).trim() });
  }
  return assignments;
}

/**
 * The files of a unit in the order in which systemd reads them: its own, then the drop-ins sorted by name, including
 * those of its template, of the prefixes of its name and of all services. Of several drop-ins by one name, the
 * strongest counts.
 * @param has - drop-ins that will exist
 */
export function filesOfUnit(root: string, unit: string, has: readonly string[] = []): string[] {
  const template = templateOf(unit);
  const fragment = fragmentOf(root, unit) ?? (template === undefined ? undefined : fragmentOf(root, template));
  const names = [unit, ...(template === undefined ? [] : [template])].flatMap((name) => [name, ...prefixesOf(name)]);
  const folders = [
    ...unitFolders.flatMap((folder) => names.map((name) => join(root, folder, `${name}.d`))),
    ...unitFolders.map((folder) => join(root, folder, 'service.d')),
  ];
  const dropIns = new Map<string, string>();
  for (const folder of folders) {
    for (const name of [
      ...namesIn(folder),
      ...has.filter((path) => path === join(folder, basename(path))).map((path) => basename(path)),
    ]) {
      if (name.endsWith('.conf') && !dropIns.has(name)) dropIns.set(name, join(folder, name));
    }
  }
  return [
    ...(fragment === undefined ? [] : [fragment]),
    ...[...dropIns].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, path]) => path),
  ];
}

/** The prefixes of a unit's name: `a-b-.service` and `a-.service` for `a-b-c.service`. */
function prefixesOf(unit: string): string[] {
  const dot = unit.lastIndexOf('.');
  const words = unit.slice(0, dot).split('-');
  return words
    .slice(1)
    .map((_, i) => `${words.slice(0, words.length - 1 - i).join('-')}-${unit.slice(dot)}`)
    .filter((name) => name !== unit);
}
