/** Reads the content of a secret, which says what it is made of, from its declaration. */
import { hashMethods, hashRounds } from '../derive/hash-methods.ts';
import { type KindName, kindNames } from '../derive/kind.ts';
import { isFirst, parsePeriod, periodAt, type Rotation, rotations } from '../derive/period.ts';
import { scopeNamePattern } from '../derive/realm.ts';
import { pathProblem } from '../fixed/name.ts';
import type { Content, DerivedContent, FixedContent, HashedContent } from './declaration.ts';
import { optionKeys, readOptions } from './options.ts';
import type { ManifestTable } from './table.ts';
import { readTemplate, templateKeys } from './template.ts';

/** All kinds of secret: the derived ones, and those made in other ways. */
export const contentKinds = [...kindNames, 'fixed', 'vault', 'crypt', 'template'] as const;
/** One kind of secret. */
export type ContentKind = (typeof contentKinds)[number];

const derivedKeys = ['generation', 'share', 'rotate', 'period', 'previous'];

/** The keys that a kind adds to the common ones. */
export function contentKeys(kind: ContentKind): readonly string[] {
  if (kind === 'template') return templateKeys;
  if (kind === 'fixed') return ['path', 'share'];
  if (kind === 'vault') return ['vault', 'path', 'options', 'share'];
  return kind === 'crypt' ? ['of', 'method', 'rounds'] : [...derivedKeys, ...optionKeys(kind)];
}

/** Reads the content of a declaration. Reports what is wrong as problems of the table, and returns defaults for it. */
export function readContent(kind: ContentKind, name: string, table: ManifestTable): Content {
  if (kind === 'fixed' || kind === 'vault') return readFixed(kind, name, table);
  if (kind === 'template') return readTemplate(table);
  return kind === 'crypt' ? readHashed(table) : readDerived(kind, table);
}

function readDerived(kind: KindName, table: ManifestTable): DerivedContent {
  const share = readShare(table);
  const rotate = table.value('rotate') === undefined ? undefined : table.oneOf('rotate', 'monthly', rotations);
  const period = readPeriod(table, rotate);
  const generation = table.whole('generation', 1, 1, 0xffffffff);
  const previous = table.flag('previous', share !== undefined && rotate !== undefined);
  if (previous && rotate === undefined && generation === 1)
    table.problem(
      'previous',
      'nothing comes before the first generation of a secret that does not rotate',
      'rotate = "monthly", or leave it out until generation = 2',
    );
  const held = period === undefined ? undefined : parsePeriod(period);
  if (previous && held && isFirst(held))
    table.problem(
      'previous',
      `nothing comes before ${held.name}, the first period that there is`,
      'previous = false, or another period',
    );
  return { form: 'derived', options: readOptions(kind, table), generation, share, rotate, period, previous };
}

/** The period that a secret is pinned to; it must fit the secret's rotation. */
function readPeriod(table: ManifestTable, rotate: Rotation | undefined): string | undefined {
  const name = optionalText(table, 'period');
  if (name === undefined) return undefined;
  const period = parsePeriod(name);
  if (rotate === undefined)
    table.problem('period', 'a secret that does not rotate has no periods', 'rotate = "monthly"');
  else if (period?.rotation !== rotate)
    table.problem(
      'period',
      `${JSON.stringify(name)} is not a period of a secret that rotates ${rotate}`,
      `period = "${periodAt(rotate, new Date()).name}"`,
    );
  else return name;
  return undefined;
}

function readShare(table: ManifestTable): string | undefined {
  const share = optionalText(table, 'share');
  if (share !== undefined && !scopeNamePattern.test(share))
    table.problem(
      'share',
      `${JSON.stringify(share)} is not the name of a group`,
      'lower-case letters, digits and . _ @ + -',
    );
  return share;
}

/**
 * Reads a `fixed` or `vault` secret. The file of a vault's secret has the secret's own name; `auxcred fetch` writes it.
 */
function readFixed(kind: 'fixed' | 'vault', name: string, table: ManifestTable): FixedContent {
  const share = readShare(table);
  const path = table.text('path', name);
  if (kind === 'fixed') {
    const problem = pathProblem(path);
    if (problem !== undefined) table.problem('path', problem, 'path = "wifi/home"');
    return { form: 'fixed', path, share, vault: undefined };
  }
  const vault = optionalText(table, 'vault') ?? '';
  if (!scopeNamePattern.test(vault))
    table.problem('vault', 'the name of a vault is expected here', 'vault = "pass"; vault.toml says what that is');
  if (path === '') table.problem('path', 'the name of the secret in the vault is expected here', 'path = "web/api"');
  return { form: 'fixed', path: name, share, vault: { name: vault, path, options: table.texts('options') } };
}

function readHashed(table: ManifestTable): HashedContent {
  const of = optionalText(table, 'of') ?? '';
  if (of === '') table.problem('of', 'the name of the secret to hash is missing', 'of = "root-password"');
  const method = table.oneOf('method', 'yescrypt', hashMethods);
  const { least, usual, most } = hashRounds[method];
  return { form: 'crypt', of, method, rounds: table.whole('rounds', usual, least, most) };
}

const optionalText = (table: ManifestTable, key: string): string | undefined =>
  table.value(key) === undefined ? undefined : table.text(key, '');
