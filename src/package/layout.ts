/** What is installed where. */
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

interface InstalledFile {
  readonly source: string;
  /** Below the prefix. */
  readonly destination: string;
  readonly mode: number;
  /** Whether `@node@`, `@libdir@`, `@bindir@` and `@root@` in it are replaced. */
  readonly template: boolean;
}

export interface Place {
  /** The root of the system or of the package being built. */
  readonly destination: string;
  /** `/usr`. */
  readonly prefix: string;
  /** The Node that runs it there. */
  readonly node: string;
}

const unitFolder = 'lib/systemd/system';
const libraryFolder = 'lib/auxcred';
const link = { path: 'bin/auxcred', target: `../${libraryFolder}/auxcred.cjs` };

const file = (source: string, destination: string, { mode = 0o644, template = false } = {}): InstalledFile => ({ source, destination, mode, template });

const files: readonly InstalledFile[] = [
  file('dist/auxcred.cjs', `${libraryFolder}/auxcred.cjs`, { mode: 0o755, template: true }),
  file('dist/auxcred-broker.cjs', `${libraryFolder}/auxcred-broker.cjs`),
  file('dist/auxcred-generator.cjs', `${libraryFolder}/auxcred-generator.cjs`),
  file('dist/koffi.node', `${libraryFolder}/koffi.node`),
  file('generators/auxcred-generator', 'lib/systemd/system-generators/auxcred-generator', { mode: 0o755, template: true }),
  ...['auxcred.socket', 'auxcred-stage.socket', 'auxcred.service', 'auxcred-provision.service'].map((unit) => file(`units/${unit}`, `${unitFolder}/${unit}`, { template: true })),
  file('units/sysusers.conf', 'lib/sysusers.d/auxcred.conf'),
  file('units/tmpfiles.conf', 'lib/tmpfiles.d/auxcred.conf'),
  file('src/manifest/schema.json', 'share/auxcred/secrets.schema.json'),
  file('LICENSE', 'share/doc/auxcred/copyright'),
  file('dist/THIRD-PARTY', 'share/doc/auxcred/THIRD-PARTY'),
];

/** Puts everything in place. @returns the paths, as the installed system will see them */
export function install({ destination, prefix, node }: Place): string[] {
  const values: Readonly<Record<string, string>> = { node, libdir: join(prefix, libraryFolder), bindir: join(prefix, 'bin'), root: '' };
  for (const entry of files) {
    const path = join(destination, prefix, entry.destination);
    mkdirSync(dirname(path), { recursive: true });
    const content = readFileSync(entry.source);
    writeFileSync(path, entry.template ? filled(content.toString('utf8'), values) : content);
    chmodSync(path, entry.mode);
  }
  const linkPath = join(destination, prefix, link.path);
  mkdirSync(dirname(linkPath), { recursive: true });
  rmSync(linkPath, { force: true });
  symlinkSync(link.target, linkPath);
  return [...files.map((entry) => join(prefix, entry.destination)), join(prefix, link.path)];
}

/** Removes what {@link install} put there, and the folders that are empty then. */
export function remove({ destination, prefix }: Omit<Place, 'node'>): void {
  for (const below of [...files.map((entry) => entry.destination), link.path]) {
    const path = join(destination, prefix, below);
    rmSync(path, { force: true });
    for (let folder = dirname(path); folder.length > destination.length && isEmpty(folder); folder = dirname(folder)) rmdirSync(folder);
  }
}

const isEmpty = (folder: string): boolean => existsSync(folder) && readdirSync(folder).length === 0;

function filled(text: string, values: Readonly<Record<string, string>>): string {
  return text.replace(/@(node|libdir|bindir|root)@/g, (_, name: string) => values[name] ?? '');
}
