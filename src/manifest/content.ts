/** What a secret is made of, read from its declaration. */
import { hashRounds } from '../derive/hash-rounds.ts';
import { type KindName, kindNames } from '../derive/kind.ts';
import { rotations } from '../derive/period.ts';
import { namePattern } from '../derive/realm.ts';
import { hashMethods } from '../derive/recipe.ts';
import { compositionKeys, readComposition } from './composition.ts';
import type { Content, DerivedContent, HashedContent } from './declaration.ts';
import { optionKeys, readOptions } from './options.ts';
import type { Table } from './table.ts';

export const contentKinds = [...kindNames, 'crypt', 'template'] as const;
export type ContentKind = (typeof contentKinds)[number];

const derivedKeys = ['generation', 'share', 'rotate', 'previous'];

/** The keys that a kind adds to those that every declaration has. */
export function contentKeys(kind: ContentKind): readonly string[] {
  if (kind === 'template') return compositionKeys;
  return kind === 'crypt' ? ['of', 'method', 'rounds'] : [...derivedKeys, ...optionKeys(kind)];
}

/** What is wrong goes to the table's problems. */
export function readContent(kind: ContentKind, table: Table): Content {
  if (kind === 'template') return readComposition(table);
  return kind === 'crypt' ? readHashed(table) : readDerived(kind, table);
}

function readDerived(kind: KindName, table: Table): DerivedContent {
  const share = optionalText(table, 'share');
  if (share !== undefined && !namePattern.test(share)) table.problem('share', `${JSON.stringify(share)} is not the name of a group`, 'lower-case letters, digits and . _ @ + -, in segments joined by /');
  const rotate = table.value('rotate') === undefined ? undefined : table.oneOf('rotate', 'monthly', rotations);
  const generation = table.whole('generation', 1, 1, 0xffffffff);
  const previous = table.flag('previous', share !== undefined && rotate !== undefined);
  if (previous && rotate === undefined && generation === 1) table.problem('previous', 'nothing comes before the first generation of a secret that does not rotate', 'rotate = "monthly", or leave it out until generation = 2');
  return { form: 'derived', options: readOptions(kind, table), generation, share, rotate, previous };
}

function readHashed(table: Table): HashedContent {
  const of = optionalText(table, 'of') ?? '';
  if (of === '') table.problem('of', 'the name of the secret to hash is missing', 'of = "root-password"');
  const method = table.oneOf('method', 'yescrypt', hashMethods);
  const { least, usual, most } = hashRounds[method];
  return { form: 'crypt', of, method, rounds: table.whole('rounds', usual, least, most) };
}

const optionalText = (table: Table, key: string): string | undefined => (table.value(key) === undefined ? undefined : table.text(key, ''));
