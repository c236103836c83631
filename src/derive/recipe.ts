/** Recipes: what each credential's bytes are made of. Public: a recipe holds no secret, and without the seeds yields none. */
import { createHash } from 'node:crypto';
import { concat, framed, u32be } from '../bytes.ts';
import { canonicalJson, sameJson } from '../system/json.ts';
import { type Derivation, realmOf } from './secret.ts';

/** A secret derived from one of the machine's scopes. */
export interface Derived extends Derivation {
  readonly form: 'derived';
  /** `host/web1`, `group/db`. */
  readonly scope: string;
  /** Counts from 1. */
  readonly epoch: number;
}

/** A secret that somebody chose, in a file of the fixed folder. */
export interface Fixed {
  readonly form: 'fixed';
  readonly name: string;
  readonly scope: string;
  /** Counts from 1. */
  readonly epoch: number;
  /** Inside the scope. */
  readonly path: string;
  /** Of the file; grows with each change. */
  readonly sequence: number;
  /** SHA-256 of the file, in hexadecimal. */
  readonly file: string;
  /** Keyed, of the value, in hexadecimal: another file with the same value has the same. Empty if it was not opened. */
  readonly fingerprint: string;
}

/** What is taken from nothing else. */
export type Source = Derived | Fixed;

/** The public half of a key pair. */
export interface PublicHalf {
  readonly form: 'public';
  readonly of: Derived;
}

export const hashMethods = ['yescrypt', 'sha512-crypt', 'bcrypt'] as const;

export type HashMethod = (typeof hashMethods)[number];

/** Another secret hashed as crypt(5) says, for /etc/shadow, htpasswd and the like. */
export interface Hashed {
  readonly form: 'crypt';
  readonly name: string;
  readonly method: HashMethod;
  /** Rounds of sha512-crypt, the binary logarithm of bcrypt's, the cost factor of yescrypt. */
  readonly rounds: number;
  readonly of: Source;
  /** The hash as `provision` computed it, encrypted, in base64; empty before that. */
  readonly sealed: string;
}

/** How a secret is written into a text; the innermost comes first. `json` and `env` are what stands between the double quotes. */
export const escapes = ['base64', 'url', 'json', 'env'] as const;

export type Escape = (typeof escapes)[number];

/** A secret's place in a template. */
export interface Slot {
  readonly of: Recipe;
  readonly escapes: readonly Escape[];
}

/** A text with other secrets in it. */
export interface Composed {
  readonly form: 'template';
  readonly name: string;
  readonly pieces: readonly (string | Slot)[];
}

export type Recipe = Derived | Fixed | PublicHalf | Hashed | Composed;

/** The derived and fixed secrets that a recipe is made of, itself included, in the order in which they stand. */
export function ingredients(recipe: Recipe): Source[] {
  switch (recipe.form) {
    case 'derived':
    case 'fixed':
      return [recipe];
    case 'public':
    case 'crypt':
      return [recipe.of];
    case 'template':
      return recipe.pieces.flatMap((piece) => (typeof piece === 'string' ? [] : ingredients(piece.of)));
  }
}

/** `password`, `fixed`, `crypt`, `template`; `public` for a public half. */
export const kindOf = (recipe: Recipe): string => (recipe.form === 'derived' ? recipe.options.kind : recipe.form);

/** The name that the manifest gives it. */
export const nameOf = (recipe: Recipe): string => (recipe.form === 'public' ? recipe.of.name : recipe.name);

/** Whether two recipes yield the same bytes: the encrypted hash that was computed from one, and the file that a fixed value lies in, do not count. */
export const sameRecipe = (a: Recipe, b: Recipe): boolean => sameJson(a, b, notOfTheValue);

/** The same text for all recipes that yield the same bytes. */
export const recipeText = (recipe: Recipe): string => canonicalJson(recipe, notOfTheValue);

const notOfTheValue = ['sealed', 'file', 'sequence'];

/** The period of a secret that rotates; else empty. */
export const periodOf = (source: Source): string => (source.form === 'derived' ? source.period : '');

/** The generation of a derived secret, the sequence of a fixed one. */
export const generationOf = (source: Source): number =>
  source.form === 'derived' ? source.generation : source.sequence;

/** The public name of one secret's value (32 bytes): SHA-256 over its scope and realm; a fixed one's realm has its path for a name and its fingerprint for params. */
export function realmDigest({ epoch, ...source }: Source): Uint8Array {
  const { scope } = source;
  const realm =
    source.form === 'derived'
      ? realmOf(source)
      : { type: 'fixed', name: source.path, period: '', generation: 1, params: `fingerprint=${source.fingerprint}\n` };
  return createHash('sha256')
    .update(
      concat(
        framed(scope),
        u32be(epoch),
        framed(realm.type),
        framed(realm.name),
        framed(realm.period),
        u32be(realm.generation),
        framed(realm.params),
      ),
    )
    .digest();
}

/** @throws Failure `not-found` if there is no such file, `malformed` if it is not what it should be */
export type FixedLookup = (scope: string, path: string) => Pick<Fixed, 'sequence' | 'file' | 'fingerprint'>;
