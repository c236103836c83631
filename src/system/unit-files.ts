/** Finds and parses unit files as systemd does (systemd.unit(5), systemd.syntax(7)). */

import { lstatSync, readlinkSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { namesIn, textIfReadable } from './files.ts';
import { templateOf } from './unit-name.ts';

/** The unit load path, the strongest first. The folders in /run are empty except in the running system. */
const unitFolders = [
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

/**
 * The unit files of the system at a root: `/`, or the target of an installation, of which only the files are known. The
 * folders of the load path are listed once, since most units have nothing in most of them.
 */
export class UnitFiles {
  readonly #folders: readonly { readonly path: string; readonly names: ReadonlySet<string> }[];
  #installed: ReadonlyMap<string, string> | undefined;

  constructor(root: string) {
    this.#folders = unitFolders.map((folder) => {
      const path = join(root, folder);
      return { path, names: new Set(namesIn(path)) };
    });
  }

  /** All names in the load path, of units and of their folders. */
  names(): string[] {
    return [...new Set(this.#folders.flatMap(({ names }) => [...names]))];
  }

  /** The paths of a file, link or folder by this name, the strongest first. */
  named(name: string): string[] {
    return this.#folders.flatMap(({ path, names }) => (names.has(name) ? [join(path, name)] : []));
  }

  /** The paths of all services, the strongest first, also of those that a stronger file hides. */
  services(): string[] {
    return this.#folders.flatMap(({ path, names }) =>
      [...names].filter((name) => name.endsWith('.service')).map((name) => join(path, name)),
    );
  }

  /**
   * The files of a unit in the order in which systemd reads them: its own, then the drop-ins sorted by name, including
   * those of its template, of the prefixes of its name and of all services. Of several drop-ins by one name, the
   * strongest counts.
   * @param has - drop-ins that will exist
   */
  of(unit: string, has: readonly string[] = []): string[] {
    const template = templateOf(unit);
    const [fragment] = [unit, ...(template === undefined ? [] : [template])].flatMap((name) => this.named(name));
    const names = unitsWithDropInsFor(unit);
    const dropIns = new Map<string, string>();
    const will = has.map((file) => ({ name: basename(file), folder: dirname(file) }));
    for (const dropInFolders of [names.map((name) => `${name}.d`), ['service.d']]) {
      for (const { path, names: present } of this.#folders) {
        for (const folder of dropInFolders) {
          const at = `${path}/${folder}`;
          const found = present.has(folder) ? namesIn(at) : [];
          const coming = will.filter((file) => file.folder === at).map(({ name }) => name);
          for (const name of [...found, ...coming])
            if (name.endsWith('.conf') && !name.startsWith('.') && !dropIns.has(name))
              dropIns.set(name, `${at}/${name}`);
        }
      }
    }
    return [
      ...(fragment === undefined ? [] : [fragment]),
      ...[...dropIns].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, path]) => path),
    ];
  }

  /**
   * The real name of a unit, if this one is an alias: a symbolic link to a unit by another name, or an `Alias=` of a
   * unit that is not enabled.
   * @returns undefined for a unit that is not an alias or does not exist
   */
  aliased(unit: string): string | undefined {
    const seen = new Set<string>();
    let name = unit;
    while (!seen.has(name)) {
      seen.add(name);
      const next = this.#linkedName(name);
      if (next === undefined) break;
      name = next;
    }
    return name === unit ? undefined : name;
  }

  #linkedName(unit: string): string | undefined {
    const [file] = this.named(unit);
    const template = templateOf(unit);
    if (file === undefined) {
      const ofTemplate = template === undefined ? undefined : this.#linkedName(template);
      return (
        ofTemplate?.replace('@.', `@${unit.slice(unit.indexOf('@') + 1, unit.lastIndexOf('.'))}.`) ??
        (template === undefined ? this.#installedAs(unit) : undefined)
      );
    }
    if (!lstatSync(file).isSymbolicLink()) return undefined;
    const target = basename(readlinkSync(file));
    // Not aliases: a link to a file of the same name elsewhere, a mask (/dev/null), and an enabled instance's link to
    // its template.
    return target === unit || target === template || !target.endsWith('.service') ? undefined : target;
  }

  /** The unit whose [Install] section would make this name its alias. */
  #installedAs(unit: string): string | undefined {
    this.#installed ??= installedAliases(this.services());
    return this.#installed.get(unit);
  }
}

/** What the [Install] sections of services would make aliases of them, by alias. */
function installedAliases(services: readonly string[]): Map<string, string> {
  const aliases = new Map<string, string>();
  for (const path of services)
    for (const { section, key, value } of assignmentsOf(textIfReadable(path) ?? '')) {
      if (section !== 'Install' || key !== 'Alias') continue;
      for (const alias of value.split(/\s+/))
        if (alias !== basename(path) && !aliases.has(alias)) aliases.set(alias, basename(path));
    }
  return aliases;
}

/** One `Key=value` of a unit file. */
export interface Assignment {
  readonly section: string;
  readonly key: string;
  readonly value: string;
}

/** An assignment as a line: `KEY=value`. */
export const lineOf = ({ key, value }: Assignment): string => `${key}=${value}`;

/** The credential's id in an assignment such as `LoadCredential=id:path`. */
export const credentialIdOf = ({ value }: Assignment): string => value.split(':', 1)[0] ?? '';

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
 * The names whose drop-ins count for a unit, the strongest first, as systemd finds them. `a-b@1.service` also has those
 * of `a-b@.service`, `a-.service`, `a-@1.service` and `a-@.service`.
 */
function unitsWithDropInsFor(unit: string): string[] {
  const more = [templateOf(unit), prefixOf(unit)].filter((name) => name !== undefined);
  return [...new Set([unit, ...more.flatMap(unitsWithDropInsFor)])];
}

/** The next shorter prefix: `a-.service` of `a-b.service` and `a-b@.service`, but `a-@1.service` of `a-b@1.service`. */
function prefixOf(unit: string): string | undefined {
  const dot = unit.lastIndexOf('.');
  const [name = '', ...instance] = unit.slice(0, dot).split('@');
  const dash = name.lastIndexOf('-', name.length - 2);
  if (dash === -1) return undefined;
  const given = instance.join('@');
  return `${name.slice(0, dash + 1)}${given === '' ? '' : `@${given}`}${unit.slice(dot)}`;
}
