import { nameIn, placeOf, withSeeds } from '../cli/chosen-folder.ts';
import { isMachine, isVault, type OpenView, viewOf, withOpenView } from '../cli/chosen-manifest.ts';
import { chosen, removalOf } from '../cli/chosen-recipe.ts';
import { Options } from '../cli/options.ts';
import { computeHash } from '../derive/hash.ts';
import type { Recipe } from '../derive/recipe.ts';
import { recipeValue } from '../derive/value.ts';
import { Failure } from '../failure.ts';
import { pathProblem, splitName } from '../fixed/name.ts';
import { printBytes } from '../terminal/say.ts';

/**
 * `auxcred get NAME` prints a secret's bytes: of a declared secret (the active value on a machine, today's on the
 * operator's side; `--at=` selects a period, `--generation=` a generation), else of the fixed file with that name.
 */
export async function get(argv: readonly string[]): Promise<number> {
  const options = new Options('get', argv);
  const [name = ''] = options.exactly('the name of a secret');
  const value = isFile(name, options)
    ? await fixedValue(name, options)
    : await withOpenView(options, (view) => declaredValue(view, name, options));
  printBytes(value);
  value.fill(0);
  return 0;
}

/** The caller wipes it. */
function declaredValue(view: OpenView, name: string, options: Options): Uint8Array {
  const recipe = chosen(view, name, options);
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
  if (!isMachine(options) && options.value('host') === undefined) return isVault(options);
  if (pathProblem(name) !== undefined) return false;
  const place = placeOf(isMachine(options) ? options.with('root', options.value('root') ?? '/') : options);
  if (place.scope === undefined || place.folder.read({ scope: place.scope, path: name }) === undefined) return false;
  try {
    return viewOf(options).manifest.declarations.every((declaration) => declaration.name !== name);
  } catch (error) {
    if (error instanceof Failure && error.code === 'not-found') return true;
    throw error;
  }
}

async function fixedValue(text: string, options: Options): Promise<Uint8Array> {
  const place = placeOf(
    splitName(text) === undefined && isMachine(options) ? options.with('root', options.value('root') ?? '/') : options,
  );
  return await withSeeds(
    place,
    options,
    ({ folder, seedOf, former }) => folder.open(nameIn(place, text), seedOf, former).value,
  );
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
