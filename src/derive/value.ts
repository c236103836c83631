import { isUtf8 } from 'node:buffer';
import { concat, utf8 } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { escaped } from './escape.ts';
import { openHash } from './hash-seal.ts';
import type { Composed, Fixed, Recipe } from './recipe.ts';
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
    case 'template':
      return composed(recipe, sources);
  }
}

function composed({ pieces }: Composed, sources: Sources): Uint8Array {
  const parts: Uint8Array[] = [];
  try {
    for (const piece of pieces)
      parts.push(typeof piece === 'string' ? utf8(piece) : escaped(recipeValue(piece.of, sources), piece.escapes));
    return concat(...parts);
  } finally {
    for (const part of parts) part.fill(0);
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
