/** Unit files as systemd finds and reads them (systemd.unit(5), systemd.syntax(7)). */

import { lstatSync, readlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { namesIn, readIfPresent } from './files.ts';
import { templateOf } from './unit-name.ts';

/** The unit load path, the strongest first. Those of /run are empty but in the system that runs. */
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
 * The name that systemd knows a unit by, where this one is an alias: a symbolic link to a unit of another name, or an
 * `Alias=` of a unit that is not enabled.
 * @param root - `/`, or the target of an installation: then only what is in its files is known
 * @returns undefined for a name of its own, and for a unit that is not there
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
  // A link to a file of the same name brings a unit from elsewhere, one to /dev/null masks it, and an instance's link
  // to its template is how it is enabled.
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
    // A folder, or what this user may not read.
    return '';
  }
}

/** One `Key=value` of a unit file. */
export interface Assignment {
  readonly section: string;
  readonly key: string;
  readonly value: string;
}

/** The assignments of a unit file in their order, lines that go on with a backslash joined. */
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
 * The files that make up a unit, in the order in which systemd reads them: the unit's own, then its drop-ins by name,
 * those of its template, of the names it begins with and of all services included. Of drop-ins with one name the
 * strongest counts.
 * @param has - drop-ins that will be there
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

/** `a-b-.service` and `a-.service` of `a-b-c.service`. */
function prefixesOf(unit: string): string[] {
  const dot = unit.lastIndexOf('.');
  const words = unit.slice(0, dot).split('-');
  return words
    .slice(1)
    .map((_, i) => `${words.slice(0, words.length - 1 - i).join('-')}-${unit.slice(dot)}`)
    .filter((name) => name !== unit);
}
