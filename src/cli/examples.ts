/** The examples of docs/services: one folder for each service, with its files as below `/`. */
import { existsSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Failure } from '../failure.ts';
import { nearest } from '../nearest.ts';

/** One file of an example. */
export interface ExampleFile {
  /** Absolute, as on the system that it is for. */
  readonly path: string;
  readonly text: string;
  readonly isExecutable: boolean;
}

/**
 * The folder that the examples were installed in: `PREFIX/share/doc/auxcred/examples`, or `examples` of a checkout.
 * @throws Failure `not-found` if documentation was left out, as in container images
 */
export function examplesFolder(program = process.argv[1]): string {
  const folder = dirname(realpathSync(program ?? '.'));
  const folders = ['../../share/doc/auxcred/examples', '../examples'].map((path) => join(folder, path));
  const found = folders.find((path) => existsSync(path));
  if (found === undefined)
    throw new Failure('not-found', `the examples are not installed in ${folders[0] ?? ''}`, {
      hint: 'dpkg may be set to leave documentation out: path-exclude in /etc/dpkg/dpkg.cfg.d',
    });
  return found;
}

/** The path of an example's page, which is installed beside the examples. */
export const pageOf = (folder: string, name: string): string => join(folder, '../docs/services', `${name}.md`);

/** What people look for, and the example that has it under another name. */
const otherNames: Readonly<Record<string, string>> = {
  docker: 'registry',
  htpasswd: 'nginx',
  mysql: 'mariadb',
  podman: 'quadlet',
  redis: 'valkey',
  wifi: 'wpa-supplicant',
};

/** The hint for a name that no example has: by what it is otherwise called, by a part of the name, by its letters. */
function nearestExample(name: string, names: readonly string[]): string {
  const word = name.toLowerCase();
  const other = Object.hasOwn(otherNames, word) ? otherNames[word] : undefined;
  const meant = other ?? (word.length < 3 ? undefined : names.find((one) => one.includes(word) || word.includes(one)));
  return meant === undefined ? (nearest(word, names) ?? 'auxcred example lists them') : `did you mean ${meant}?`;
}

/** The names of all examples, sorted. */
export const exampleNames = (folder: string): string[] => readdirSync(folder).sort();

/**
 * The files of an example, the manifest first.
 * @throws Failure `not-found` if there is no example of this name
 */
export function exampleOf(folder: string, name: string): ExampleFile[] {
  const names = exampleNames(folder);
  if (!names.includes(name))
    throw new Failure('not-found', `there is no example ${JSON.stringify(name)}`, {
      hint: nearestExample(name, names),
    });
  return readdirSync(join(folder, name), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => {
      const source = join(entry.parentPath, entry.name);
      const path = source.slice(join(folder, name).length);
      return { path, text: readFileSync(source, 'utf8'), isExecutable: (statSync(source).mode & 0o100) !== 0 };
    })
    .sort((one, other) => (one.path < other.path ? -1 : 1));
}
