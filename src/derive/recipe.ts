/**
 * Recipes: how each credential is made. A recipe is public: it holds no secret, and without the seeds it yields none.
 */
import { createHash } from 'node:crypto';
import { concat, framed, u32be } from '../bytes.ts';
import { canonicalJson, sameJson } from '../system/json.ts';
import type { Escape } from './escape.ts';
import type { HashMethod } from './hash-methods.ts';
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
  /** The path inside the scope. */
  readonly path: string;
  /** The file's sequence number, which grows with each change. */
  readonly sequence: number;
  /** SHA-256 of the file, in hexadecimal. */
  readonly file: string;
  /**
   * A keyed digest of the value, in hexadecimal: equal for two files with the same value. Empty if the file was not
   * opened.
   */
  readonly fingerprint: string;
}

/** A secret that is not made of other secrets. */
export type Source = Derived | Fixed;

/** The public half of a key pair. */
export interface PublicHalf {
  readonly form: 'public';
  readonly of: Derived;
}

/** The crypt(5) hash of another secret, for /etc/shadow, htpasswd and the like. */
export interface Hashed {
  readonly form: 'crypt';
  readonly name: string;
  readonly method: HashMethod;
  /** The rounds of sha512-crypt, the binary logarithm of bcrypt's rounds, or the cost factor of yescrypt. */
  readonly rounds: number;
  readonly of: Source;
  /** The hash that `provision` computed, encrypted, in base64; empty before that. */
  readonly sealed: string;
}

/** A secret's place in a template. */
export interface Slot {
  readonly of: Recipe;
  /** Applied in this order. */
  readonly escapes: readonly Escape[];
}

/** A text with other secrets in it. */
export interface Composed {
  readonly form: 'template';
  readonly name: string;
  readonly pieces: readonly (string | Slot)[];
}

/** How one credential is made. */
export type Recipe = Derived | Fixed | PublicHalf | Hashed | Composed;

/**
 * The derived and fixed secrets that a recipe is made of, in the order in which they stand; of one of these, itself.
 */
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

/** The kind of a recipe: `password`, `fixed`, `crypt`, `template`; `public` for a public half. */
export const kindOf = (recipe: Recipe): string => (recipe.form === 'derived' ? recipe.options.kind : recipe.form);

/** The secret's name in the manifest. */
export const nameOf = (recipe: Recipe): string => (recipe.form === 'public' ? recipe.of.name : recipe.name);

/** Whether two recipes yield the same bytes. Ignores the encrypted hash, and the file that holds a fixed value. */
export const sameRecipe = (a: Recipe, b: Recipe): boolean => sameJson(a, b, notOfTheValue);

/** A text that is equal for all recipes that {@link sameRecipe} calls the same. */
export const recipeText = (recipe: Recipe): string => canonicalJson(recipe, notOfTheValue);

const notOfTheValue = ['sealed', 'file', 'sequence'];

/** The period of a rotating secret; empty for any other. */
export const periodOf = (source: Source): string => (source.form === 'derived' ? source.period : '');

/** The generation of a derived secret, or the sequence number of a fixed one. */
export const generationOf = (source: Source): number =>
  source.form === 'derived' ? source.generation : source.sequence;

/**
 * A public identifier of one secret's value: SHA-256 (32 bytes) over its scope and realm. The realm of a fixed secret
 * has its path as name and its fingerprint as params.
 */
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

/** Looks at the file of a fixed secret. @throws Failure `not-found` if there is none, `malformed` if it is damaged */
export type FixedLookup = (scope: string, path: string) => Pick<Fixed, 'sequence' | 'file' | 'fingerprint'>;
