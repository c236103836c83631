/** The options of each kind of secret, read from a declaration. */
import { characterClasses, classOf, type KindName, type KindOptions } from '../derive/kind.ts';
import type { Table } from './table.ts';

const range = (from: string, to: string): string => Array.from({ length: to.charCodeAt(0) - from.charCodeAt(0) + 1 }, (_, i) => String.fromCharCode(from.charCodeAt(0) + i)).join('');
const digits = range('0', '9');
const upper = range('A', 'Z');
const lower = range('a', 'z');

/** Alphabets that have a name; any other text stands for its own characters. All are in code-point order. */
export const namedAlphabets: Readonly<Record<string, string>> = {
  alnum: digits + upper + lower,
  digits,
  upper,
  lower,
  hex: `${digits}abcdef`,
  printable: range('!', '~'),
};

/** The keys that each kind adds to a declaration. */
export const optionKeys: Readonly<Record<KindName, readonly string[]>> = {
  password: ['length', 'alphabet', 'require'],
  hex: ['bytes'],
  base64: ['bytes'],
  bytes: ['bytes'],
  uuid: [],
};

/** The most that the credentials socket delivers in one piece; see docs/formats.md. */
export const largestSecret = 128 * 1024;

/** Random bytes that fill {@link largestSecret} once they are encoded. */
const largestSource: Readonly<Record<'hex' | 'base64' | 'bytes', number>> = { hex: largestSecret / 2, base64: Math.floor(largestSecret / 4) * 3, bytes: largestSecret };

/** The options of a declaration of this kind. What is wrong goes to the table's problems. */
export function readOptions(kind: KindName, table: Table): KindOptions {
  switch (kind) {
    case 'password':
      return readPassword(table);
    case 'hex':
    case 'base64':
    case 'bytes':
      return { kind, bytes: table.whole('bytes', 32, 1, largestSource[kind]) };
    case 'uuid':
      return { kind };
  }
}

function readPassword(table: Table): KindOptions {
  const named = table.text('alphabet', 'alnum');
  const alphabet = [...new Set(Object.hasOwn(namedAlphabets, named) ? namedAlphabets[named] : named)].sort().join('');
  const length = table.whole('length', 32, 1, largestSecret);
  const required = [...new Set(table.list('require'))].sort();
  if (!/^[!-~]{2,}$/.test(alphabet)) table.problem('alphabet', 'an alphabet needs two different printable ASCII characters or more', `a name (${Object.keys(namedAlphabets).join(', ')}) or the characters themselves`);
  if (required.length > length) table.problem('require', `${String(required.length)} required classes do not fit ${String(length)} characters`, undefined);
  const require = required.flatMap((name) => {
    const known = characterClasses.find((candidate) => candidate === name);
    if (known === undefined) table.problem('require', `${JSON.stringify(name)} is not a class of characters`, `classes are ${characterClasses.join(', ')}`);
    else if (![...alphabet].some((character) => classOf(character.charCodeAt(0)) === known)) table.problem('require', `the alphabet has no ${known} character`, undefined);
    return known === undefined ? [] : [known];
  });
  return { kind: 'password', length, alphabet, require };
}
