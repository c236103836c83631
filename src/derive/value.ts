import { isUtf8 } from 'node:buffer';
import { concat, utf8 } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { base64 } from './encoding.ts';
import { openHash } from './hash-seal.ts';
import type { Composed, Escape, Fixed, Recipe } from './recipe.ts';
import { derivePublic, deriveSecret } from './secret.ts';

/** The seed (32 bytes) of a scope in an epoch. @throws Failure if it is not available. */
export type SeedOf = (scope: string, epoch: number) => Uint8Array;

/** The sources of values: seeds, and the values of fixed secrets. */
export interface Sources {
  readonly seedOf: SeedOf;
  /**
   * The value of a fixed secret, which the caller wipes.
   * @throws Failure if its file is not available or does not open
   */
  readonly fixedValue: (recipe: Fixed) => Uint8Array;
}

/**
 * Makes the bytes of a recipe. The caller wipes them.
 * @throws Failure if a seed or a file is not available, or a hash has not been computed
 */
export function recipeValue(recipe: Recipe, sources: Sources): Uint8Array {
  const { seedOf, fixedValue } = sources;
  switch (recipe.form) {
    case 'fixed':
      return fixedValue(recipe);
    case 'derived':
      return deriveSecret(seedOf(recipe.scope, recipe.epoch), recipe);
    case 'public': {
      const value = derivePublic(seedOf(recipe.of.scope, recipe.of.epoch), recipe.of);
      if (!value) throw new Failure('malformed', `a ${recipe.of.options.kind} secret has no public half`);
      return value;
    }
    case 'crypt':
      return openHash(seedOf(recipe.of.scope, recipe.of.epoch), recipe);
    case 'template': {
      const parts = recipe.pieces.map((piece) =>
        typeof piece === 'string' ? utf8(piece) : escaped(recipeValue(piece.of, sources), piece.escapes),
      );
      const text = concat(...parts);
      for (const part of parts) part.fill(0);
      return text;
    }
  }
}

/**
 * Checks that the values that a template escapes with `json` or `env` can be read back: JSON and systemd read UTF-8
 * only, and an environment has no zero byte. A secret that is encoded as base64 or for a URL before that is ASCII.
 * @throws Failure `malformed` that names the secret, or if a file is not available
 */
export function checkQuotable({ name, pieces }: Composed, sources: Sources): void {
  for (const piece of pieces) {
    if (typeof piece === 'string') continue;
    const { of, escapes } = piece;
    const [first] = escapes;
    const culprit = first === 'json' || first === 'env' ? notText(of, first, sources) : undefined;
    if (culprit !== undefined)
      throw new Failure(
        'malformed',
        `${name}: ${culprit} is not text that ${first === 'env' ? 'an environment' : 'JSON'} can hold`,
        { hint: `{{${culprit} | base64}}` },
      );
    if (of.form === 'template') checkQuotable(of, sources);
  }
}

/** The name of the secret in `recipe` whose bytes are not text; undefined if there is none. */
function notText(recipe: Recipe, form: 'json' | 'env', sources: Sources): string | undefined {
  switch (recipe.form) {
    case 'derived':
      return recipe.options.kind === 'bytes' ? recipe.name : undefined;
    case 'fixed': {
      const value = sources.fixedValue(recipe);
      const isText = isUtf8(value) && !(form === 'env' && value.includes(0));
      value.fill(0);
      return isText ? undefined : recipe.name;
    }
    case 'template':
      return recipe.pieces
        .map((piece) =>
          typeof piece === 'string' || piece.escapes.some((each) => each === 'base64' || each === 'url')
            ? undefined
            : notText(piece.of, form, sources),
        )
        .find((name) => name !== undefined);
    default:
      return undefined;
  }
}

/** Applies `escapes` in order. Takes ownership of `value` and wipes it. */
function escaped(value: Uint8Array, escapes: readonly Escape[]): Uint8Array {
  return escapes.reduce((bytes, one) => {
    const next = escapers[one](bytes);
    bytes.fill(0);
    return next;
  }, value);
}

/** Replaces each byte by what `replace` returns; keeps it if that is undefined. */
function replaced(bytes: Uint8Array, replace: (byte: number) => string | undefined): Uint8Array {
  const length = bytes.reduce((sum, byte) => sum + (replace(byte)?.length ?? 1), 0);
  const text = new Uint8Array(length);
  let at = 0;
  for (const byte of bytes) {
    const replacement = replace(byte);
    if (replacement === undefined) text[at++] = byte;
    else for (let i = 0; i < replacement.length; i++) text[at++] = replacement.charCodeAt(i);
  }
  return text;
}

const hexadecimal = (byte: number, digits: number): string => byte.toString(16).toUpperCase().padStart(digits, '0');
const unreserved = /^[A-Za-z0-9._~-]$/;

/** Escape a value for the place that it is written to. Text is UTF-8 before and after. */
export const escapers: Readonly<Record<Escape, (bytes: Uint8Array) => Uint8Array>> = {
  base64: (bytes) => base64(bytes),
  /** Percent-encodes all but unreserved characters (RFC 3986 section 2.1), so that the value fits any part of a URL. */
  url: (bytes) =>
    replaced(bytes, (byte) => (unreserved.test(String.fromCharCode(byte)) ? undefined : `%${hexadecimal(byte, 2)}`)),
  /** For between the double quotes of a JSON string (RFC 8259 section 7). */
  json: (bytes) =>
    replaced(bytes, (byte) =>
      byte === 0x22 || byte === 0x5c
        ? `\\${String.fromCharCode(byte)}`
        : byte < 0x20
          ? `\\u${hexadecimal(byte, 4)}`
          : undefined,
    ),
  /**
   * For between double quotes, in EnvironmentFile= (systemd's src/basic/env-file.c) and in a shell: both take a
   * backslash before these four, and only these.
   */
  env: (bytes) =>
    replaced(bytes, (byte) =>
      byte === 0x22 || byte === 0x5c || byte === 0x24 || byte === 0x60 ? `\\${String.fromCharCode(byte)}` : undefined,
    ),
};
