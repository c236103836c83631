/** Recipes: what each credential's bytes are made of. Public: a recipe holds no secret, and without the seeds yields none. */
import { createHash } from 'node:crypto';
import { canonicalJson } from '../system/json.ts';
import { concat, framed, u32be } from './framing.ts';
import type { Derivation } from './secret.ts';
import { realmOf } from './secret.ts';

/** A secret derived from one of the machine's scopes. */
export interface Derived extends Derivation {
  readonly form: 'derived';
  /** `host/web1`, `group/db`. */
  readonly scope: string;
  /** Counts from 1. */
  readonly epoch: number;
}

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
  readonly of: Derived;
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

export type Recipe = Derived | PublicHalf | Hashed | Composed;

/** A recipe's derived secrets, itself included, in the order in which they stand. */
export function ingredients(recipe: Recipe): Derived[] {
  switch (recipe.form) {
    case 'derived':
      return [recipe];
    case 'public':
    case 'crypt':
      return [recipe.of];
    case 'template':
      return recipe.pieces.flatMap((piece) => (typeof piece === 'string' ? [] : ingredients(piece.of)));
  }
}

/** `password`, `crypt`, `template`; `public` for a public half. */
export const kindOf = (recipe: Recipe): string => (recipe.form === 'derived' ? recipe.options.kind : recipe.form);

/** The name that the manifest gives it. */
export const nameOf = (recipe: Recipe): string => (recipe.form === 'public' ? recipe.of.name : recipe.name);

/** Whether two recipes yield the same bytes: what was computed from them, the encrypted hash, does not count. */
export const sameRecipe = (a: Recipe, b: Recipe): boolean => textOf(a) === textOf(b);

const textOf = (recipe: Recipe): string => canonicalJson(recipe, 'sealed');

/** The public name of one derived secret (32 bytes): SHA-256 over its scope and realm. */
export function realmDigest({ scope, epoch, ...derivation }: Derived): Uint8Array {
  const realm = realmOf(derivation);
  return createHash('sha256')
    .update(concat(framed(scope), u32be(epoch), framed(realm.type), framed(realm.name), framed(realm.period), u32be(realm.generation), framed(realm.params)))
    .digest();
}
