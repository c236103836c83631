import type { Fixed } from '../derive/recipe.ts';
import type { SeedOf, Sources } from '../derive/value.ts';
import { Failure } from '../failure.ts';
import { decodeFixed, digestOf } from './file.ts';
import { nameText } from './name.ts';

/**
 * Makes the `fixedValue` of sources: opens the file that a recipe names, and no other version of it. It throws Failure
 * `malformed` if the file is missing or another one.
 */
export const fixedValues =
  (seedOf: SeedOf, fileOf: (recipe: Fixed) => Uint8Array | undefined): Sources['fixedValue'] =>
  (recipe) => {
    const seed = seedOf(recipe.scope, recipe.epoch);
    const bytes = fileOf(recipe);
    const value = bytes && digestOf(bytes) === recipe.file ? decodeFixed(seed, recipe.path, bytes) : undefined;
    if (!value)
      throw new Failure('malformed', `the file of ${nameText(recipe)} is not the active one`, {
        hint: 'run auxcred provision',
      });
    return value;
  };
