/** Reads the options of each kind of derived secret from its declaration. */
import { characterClasses, classOf, isKeyKind, type KindName, type KindOptions } from '../derive/kind.ts';
import { acceptance, strengthOf } from '../derive/strength.ts';
import type { ManifestTable } from './table.ts';

const range = (from: string, to: string): string =>
  Array.from({ length: to.charCodeAt(0) - from.charCodeAt(0) + 1 }, (_, i) =>
    String.fromCharCode(from.charCodeAt(0) + i),
  ).join('');
const digits = range('0', '9');
const upper = range('A', 'Z');
const lower = range('a', 'z');
const alnum = digits + upper + lower;

/** The named alphabets, all in code-point order. Any other text is an alphabet of its own characters. */
export const namedAlphabets: Readonly<Record<string, string>> = {
  alnum,
  digits,
  upper,
  lower,
  hex: `${digits}abcdef`,
  printable: range('!', '~'),
  /** Without characters that look alike. */
  readable: [...alnum].filter((character) => !'0O1Il'.includes(character)).join(''),
  /** Needs no escape in a URL, a shell or a file name. */
  url: `-${digits}${upper}_${lower}`,
};

/** The keys that a kind adds to a declaration. */
export function optionKeys(kind: KindName): readonly string[] {
  switch (kind) {
    case 'password':
      return ['length', 'alphabet', 'require', 'weak'];
    case 'passphrase':
      return ['words', 'separator', 'capitalize', 'weak'];
    case 'hex':
    case 'base64':
    case 'bytes':
      return ['bytes', 'weak'];
    case 'ssh-ed25519':
      return ['comment'];
    default:
      return [];
  }
}

/** Bytes. The most that the credentials socket delivers in one piece: see docs/formats.md. */
export const largestSecret = 128 * 1024;

/** The fewest bits of strength, unless `weak = true` asks for a guessable secret such as a PIN. */
const weakestStrength = 64;
/** Passwords are drawn until one holds every required class. If fewer draws than this succeed, that takes too long. */
const leastAcceptance = 1 / 1000;

/** The most random bytes that fit into {@link largestSecret} once they are encoded. */
const largestSource: Readonly<Record<'hex' | 'base64' | 'bytes', number>> = {
  hex: largestSecret / 2,
  base64: Math.floor(largestSecret / 4) * 3,
  bytes: largestSecret,
};
const mostWords = 1024;

/**
 * Reads the options of a declaration of this kind. An ssh key without a comment gets an empty one. Reports what is
 * wrong as problems of the table.
 */
export function readOptions(kind: KindName, table: ManifestTable): KindOptions {
  const options = optionsOf(kind, table);
  const bits = strengthOf(options);
  if (!isKeyKind(kind) && optionKeys(kind).includes('weak') && !table.flag('weak', false) && bits < weakestStrength) {
    table.problem(
      '',
      `it can be guessed: it has ${bits.toFixed(0)} bits of strength, and at least ${weakestStrength} are required`,
      'make it longer; weak = true if you want a weak one, such as a PIN',
    );
  }
  return options;
}

function optionsOf(kind: KindName, table: ManifestTable): KindOptions {
  switch (kind) {
    case 'password':
      return readPassword(table);
    case 'passphrase':
      return {
        kind,
        words: table.whole('words', 6, 1, mostWords),
        separator: printable(table, 'separator', '-', 16),
        capitalize: table.flag('capitalize', false),
      };
    case 'hex':
    case 'base64':
    case 'bytes':
      return { kind, bytes: table.whole('bytes', 32, 1, largestSource[kind]) };
    case 'ssh-ed25519':
      return { kind, comment: printable(table, 'comment', '', 200) };
    default:
      return { kind };
  }
}

function printable(table: ManifestTable, key: string, fallback: string, most: number): string {
  const text = table.text(key, fallback);
  if (!/^[ -~]*$/.test(text) || text.length > most)
    table.problem(
      key,
      `printable ASCII of at most ${String(most)} characters is expected here`,
      `${key} = "${fallback}"`,
    );
  return text;
}

function readPassword(table: ManifestTable): KindOptions {
  const named = table.text('alphabet', 'alnum');
  const alphabet = [...new Set(Object.hasOwn(namedAlphabets, named) ? namedAlphabets[named] : named)].sort().join('');
  const length = table.whole('length', 32, 1, largestSecret);
  const required = [...new Set(table.list('require'))].sort();
  if (!/^[!-~]{2,}$/.test(alphabet)) {
    table.problem(
      'alphabet',
      'an alphabet needs two different printable ASCII characters or more',
      `a name (${Object.keys(namedAlphabets).join(', ')}) or the characters themselves`,
    );
    return { kind: 'password', length: 32, alphabet: alnum, require: [] };
  }
  if (required.length > length) {
    table.problem(
      'require',
      `${String(required.length)} required classes do not fit ${String(length)} characters`,
      undefined,
    );
    return { kind: 'password', length: 32, alphabet, require: [] };
  }
  const require = required.flatMap((name) => {
    const known = characterClasses.find((candidate) => candidate === name);
    if (known === undefined)
      table.problem(
        'require',
        `${JSON.stringify(name)} is not a class of characters`,
        `classes are ${characterClasses.join(', ')}`,
      );
    else if (![...alphabet].some((character) => classOf(character.charCodeAt(0)) === known))
      table.problem('require', `the alphabet has no ${known} character`, undefined);
    else return [known];
    return [];
  });
  const options: KindOptions = { kind: 'password', length, alphabet, require };
  if (acceptance(options) < leastAcceptance)
    table.problem(
      'require',
      'fewer than one in a thousand passwords of this alphabet and length have a character of each class',
      'make it longer, or the alphabet more even',
    );
  return options;
}
