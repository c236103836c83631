/** Password hashes of recipes that become active. */
import { computeHash } from '../derive/hash.ts';
import { type Hashed, type Recipe, recipeText } from '../derive/recipe.ts';
import type { Sources } from '../derive/value.ts';
import type { Snapshot } from '../snapshot/snapshot.ts';

/** Password hashes are slow to compute, so active ones are reused. */
export class Hashes {
  readonly #known = new Map<string, string>();
  readonly #sources: Sources;

  constructor(snapshot: Snapshot | undefined, sources: Sources) {
    this.#sources = sources;
    for (const { recipe } of snapshot?.releases ?? []) this.#learn(recipe);
    for (const entries of snapshot?.history.values() ?? []) for (const { recipe } of entries) this.#learn(recipe);
  }

  #learn(recipe: Recipe): void {
    for (const hashed of hashesIn(recipe)) this.#known.set(recipeText(hashed), hashed.sealed);
  }

  /** The recipe with all its hashes computed. */
  fill(recipe: Recipe): Recipe {
    if (recipe.form === 'template')
      return {
        ...recipe,
        pieces: recipe.pieces.map((piece) =>
          typeof piece === 'string' ? piece : { ...piece, of: this.fill(piece.of) },
        ),
      };
    if (recipe.form !== 'crypt') return recipe;
    const key = recipeText(recipe);
    const sealed = this.#known.get(key) ?? computeHash(this.#sources, recipe);
    this.#known.set(key, sealed);
    return { ...recipe, sealed };
  }
}

/** The password hashes in a recipe, those inside a template too. */
export function hashesIn(recipe: Recipe): Hashed[] {
  if (recipe.form === 'template')
    return recipe.pieces.flatMap((piece) => (typeof piece === 'string' ? [] : hashesIn(piece.of)));
  return recipe.form === 'crypt' ? [recipe] : [];
}
