/** The values of secrets that a command names: declared ones, and files of the fixed folder. */
import { computeHash } from '../derive/hash.ts';
import type { Recipe } from '../derive/recipe.ts';
import { recipeValue } from '../derive/value.ts';
import { Failure } from '../failure.ts';
import { pathProblem, splitName } from '../fixed/name.ts';
import { nameIn, type Place, placeOf, withSeeds } from './chosen-folder.ts';
import { type OpenView, viewOf, withOpenView } from './chosen-manifest.ts';
import { chosenRecipe, removalOf } from './chosen-recipe.ts';
import { secretSide } from './chosen-side.ts';
import type { Options } from './options.ts';

/**
 * Does `work` with the values of `names`, in their order, and wipes them. A name is that of a declared secret, else of
 * a fixed file. Seeds are opened at most three times: for declared secrets, for files that are named without a scope
 * (`wifi`), and for files that are named with one (`host/web1/wifi`).
 * @throws Failure
 */
export async function withValues<T>(
  names: readonly string[],
  options: Options,
  work: (values: readonly Uint8Array[]) => T | Promise<T>,
): Promise<T> {
  const unique = [...new Set(names)];
  const files = unique.filter((name) => isFile(name, options));
  const declared = unique.filter((name) => !files.includes(name));
  const values = new Map<string, Uint8Array>();
  const add = async (group: readonly string[], open: () => Promise<Uint8Array[]>): Promise<void> => {
    if (group.length === 0) return;
    for (const [i, value] of (await open()).entries()) values.set(group[i] ?? '', value);
  };
  try {
    await add(
      declared,
      async () =>
        await withOpenView(options, (view) => gathered(declared, (name) => declaredValue(view, name, options))),
    );
    for (const hasScope of [false, true]) {
      const group = files.filter((name) => (splitName(name) !== undefined) === hasScope);
      await add(group, async () => await fixedValues(group, options));
    }
    return await work(names.map((name) => values.get(name) ?? new Uint8Array(0)));
  } finally {
    for (const value of values.values()) value.fill(0);
  }
}

/** The caller wipes it. */
function declaredValue(view: OpenView, name: string, options: Options): Uint8Array {
  const recipe = chosenRecipe(view, name, options);
  try {
    return recipeValue(hashed(recipe, view), view.sources);
  } catch (error) {
    // Fixed files are removed with the snapshot that named them, and seeds with their epoch.
    if (!(error instanceof Failure) || removalOf(view, name) === undefined) throw error;
    throw new Failure('not-found', `the value of ${name} is gone too`, {
      hint: "the operator's vault or a backup may have it",
      cause: error,
    });
  }
}

/** A fixed file is named by a scope (`host/web1/wifi`), or by a name that is in the folder but not in the manifest. */
function isFile(name: string, options: Options): boolean {
  if (
    options.value('at') !== undefined ||
    options.value('generation') !== undefined ||
    options.list('manifest').length > 0
  )
    return false;
  if (splitName(name) !== undefined || options.value('group') !== undefined) return true;
  const side = secretSide(options);
  if (side !== 'machine' && options.value('host') === undefined) return side === 'vault';
  if (pathProblem(name) !== undefined) return false;
  const place = ownPlace(options);
  if (place.scope === undefined || place.folder.read({ scope: place.scope, path: name }) === undefined) return false;
  try {
    return viewOf(options).manifest.declarations.every((declaration) => declaration.name !== name);
  } catch (error) {
    if (error instanceof Failure && error.code === 'not-found') return true;
    throw error;
  }
}

/** The place of names without a scope: on a machine, its own folder even if there is a vault too. */
const ownPlace = (options: Options): Place =>
  secretSide(options) === 'machine' ? placeOf(options, 'machine') : placeOf(options);

/** Those of the vault, or of this machine. The caller wipes them. */
async function fixedValues(texts: readonly string[], options: Options): Promise<Uint8Array[]> {
  const place = texts.some((text) => splitName(text)) ? placeOf(options) : ownPlace(options);
  return await withSeeds(place, options, ({ folder, seedOf, former }) =>
    gathered(texts, (text) => folder.open(nameIn(place, text), seedOf, former).value),
  );
}

/** The values of all names; if one fails, the others are wiped. */
function gathered(names: readonly string[], open: (name: string) => Uint8Array): Uint8Array[] {
  const values: Uint8Array[] = [];
  try {
    for (const name of names) values.push(open(name));
    return values;
  } catch (error) {
    for (const value of values) value.fill(0);
    throw error;
  }
}

/** Computes the hashes of a recipe that was never active. */
function hashed(recipe: Recipe, view: OpenView): Recipe {
  if (recipe.form === 'template')
    return {
      ...recipe,
      pieces: recipe.pieces.map((piece) =>
        typeof piece === 'string' ? piece : { ...piece, of: hashed(piece.of, view) },
      ),
    };
  if (recipe.form !== 'crypt' || recipe.sealed !== '') return recipe;
  return { ...recipe, sealed: computeHash(view.sources, recipe) };
}
