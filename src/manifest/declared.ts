/**
 * Digests of the secrets that a configuration declares. A snapshot records them, so that after a switch whose secrets
 * could not be provisioned nobody takes the old value of a secret for the new one.
 */
import { readFileSync, statSync } from 'node:fs';
import { canonicalJson } from '../system/json.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import type { ManifestFile } from './folder.ts';

/** SHA-256, in hexadecimal, by the name of the secret. */
export type Digests = ReadonlyMap<string, string>;

/** The secret that a release was made from, and the digest of its declaration then. */
export interface Declared {
  readonly secret: string;
  readonly digest: string;
}

/** Keys that do not change a secret's value. */
const besideValue = [
  'units',
  'credential',
  'delivery',
  'change',
  'hook',
  'owner',
  'group',
  'mode',
  'link',
  'needed-for',
];

type Table = Readonly<Record<string, unknown>>;

const isTable = (value: unknown): value is Table =>
  value !== null && typeof value === 'object' && !Array.isArray(value);

/**
 * The digests of the secrets in a manifest's JSON: each covers everything that decides the value, of the secret and of
 * those that it is made of. What a digest does not cover are fixed files and the clock.
 * @throws SyntaxError, RangeError for what is no manifest
 */
export function digestsOf(text: string): Digests {
  const manifest: unknown = JSON.parse(text);
  // Loaded only here: the generator, which reads manifests too, has to be quick.
  const { createHash } = process.getBuiltinModule('node:crypto');
  const tables = isTable(manifest) && isTable(manifest['secret']) ? manifest['secret'] : {};
  return new Map(
    Object.keys(tables).map((name) => {
      const parts = [...closureOf(name, tables)].sort().map((part) => [part, withoutPlace(tables[part])]);
      return [name, createHash('sha256').update(canonicalJson(parts)).digest('hex')];
    }),
  );
}

const withoutPlace = (table: unknown): unknown =>
  isTable(table) ? Object.fromEntries(Object.entries(table).filter(([key]) => !besideValue.includes(key))) : table;

/** A secret and all that it is made of, by name. */
function closureOf(name: string, tables: Table): Set<string> {
  const found = new Set([name]);
  for (const next of found)
    for (const reference of referencesIn(withoutPlace(tables[next])))
      for (const other of [reference, reference.replace(/\.(?:public|previous)$/, '')])
        if (Object.hasOwn(tables, other)) found.add(other);
  return found;
}

/** The secrets that a value may name: `of`, and `{{NAME}}` in any text. */
function referencesIn(value: unknown): string[] {
  if (typeof value === 'string')
    return [...value.matchAll(/\{\{\s*([^{}|]*?)\s*(?:\||\}\})/g)].map(([, reference = '']) => reference);
  if (Array.isArray(value)) return value.flatMap(referencesIn);
  if (!isTable(value)) return [];
  const { of } = value;
  return [...(typeof of === 'string' ? [of] : []), ...Object.values(value).flatMap(referencesIn)];
}

/** The digests of the configuration's own file among these. */
export function digestsIn(files: readonly ManifestFile[]): Digests {
  const text = files.find(({ path }) => path === pathsUnder('/').configured)?.text;
  return text === undefined || text === '' ? new Map() : digestsOf(text);
}

/**
 * Reads what the configuration declares now. Each call of the result reads the file again if it was replaced or edited.
 * @returns a reader, which returns undefined if no configuration renders the manifest, and an empty map if the file is
 * missing or damaged, so that all of it counts as changed
 */
export function presentDigests({
  configuration,
  configured,
}: Pick<Paths, 'configuration' | 'configured'>): () => Digests | undefined {
  let known: { readonly version: string; readonly digests: Digests } | undefined;
  return () => {
    if (statSync(configuration, { throwIfNoEntry: false }) === undefined) return undefined;
    const stat = statSync(configured, { throwIfNoEntry: false });
    const version = stat ? [stat.dev, stat.ino, stat.size, stat.mtimeMs, stat.ctimeMs].join() : '';
    if (known?.version !== version) known = { version, digests: readDigests(configured) };
    return known.digests;
  };
}

function readDigests(file: string): Digests {
  try {
    return digestsOf(readFileSync(file, 'utf8'));
  } catch {
    return new Map();
  }
}

/** Whether a release is of a declaration that the configuration has changed since. */
export const isOutdated = (declared: Declared | undefined, present: Digests | undefined): boolean =>
  declared !== undefined && present !== undefined && present.get(declared.secret) !== declared.digest;
