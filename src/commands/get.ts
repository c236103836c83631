import { parsePeriod, type Period } from '../derive/period.ts';
import { type Recipe } from '../derive/recipe.ts';
import { valueOf } from '../derive/value.ts';
import { computeHash } from '../derive/hash.ts';
import { Failure } from '../failure.ts';
import { pathProblem, splitName } from '../fixed/name.ts';
import { unheld } from '../manifest/declaration.ts';
import { Recipes } from '../manifest/recipes.ts';
import { Options } from '../cli/options.ts';
import { nameIn, placeOf, withSeeds } from '../cli/chosen-folder.ts';
import { printBytes, say, warn } from '../terminal/say.ts';
import { isMachine, isVault, viewOf, withOpenView, type OpenView } from '../cli/chosen-manifest.ts';

/**
 * `auxcred get NAME` prints a secret's bytes: one that is declared (on a machine as it is in force, on the operator's side as it is now; with
 * `--at=` that of a period, with `--generation=` that of another generation), else the file of the fixed folder that has that name.
 */
export async function get(argv: readonly string[]): Promise<number> {
  const options = new Options('get', argv);
  const [name = ''] = options.exactly('the name of a secret');
  const value = isFile(name, options) ? await fixedValue(name, options) : await withOpenView(options, (view) => declaredValue(view, name, options));
  printBytes(value);
  value.fill(0);
  return 0;
}

/** The caller wipes it. */
function declaredValue(view: OpenView, name: string, options: Options): Uint8Array {
  const recipe = chosen(view, name, options);
  try {
    return valueOf(hashed(recipe, view), view.sources);
  } catch (error) {
    // The files of fixed secrets go with the snapshot that named them, and seeds with their epoch.
    if (!(error instanceof Failure) || removalOf(view, name) === undefined) throw error;
    throw new Failure('not-found', `the value of ${name} is gone too`, { hint: 'the operator\'s vault or a backup may have it', cause: error });
  }
}

/** When a secret was removed that was active on this machine; undefined for any other. */
const removalOf = ({ snapshot }: OpenView, name: string): string | undefined => snapshot?.history.get(name)?.at(-1)?.until;

/** `host/web1/wifi` is a file of the fixed folder, and so is a name that the manifest does not declare and the folder has. */
function isFile(name: string, options: Options): boolean {
  if (options.value('at') !== undefined || options.value('generation') !== undefined || options.list('manifest').length > 0) return false;
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
  const place = placeOf(splitName(text) === undefined && isMachine(options) ? options.with('root', options.value('root') ?? '/') : options);
  return await withSeeds(place, options, ({ folder, seedOf, former }) => folder.open(nameIn(place, text), seedOf, former).value);
}

/** The recipe that `--at=` and `--generation=` ask for; without them the active one, or with a warning the last one of a secret that was removed. @throws Failure */
export function chosen(view: OpenView, name: string, options: Options): Recipe {
  const at = options.value('at');
  const generation = options.value('generation');
  const current = view.inForce(name);
  if (at === undefined && generation === undefined && current !== undefined) {
    const removed = removalOf(view, name);
    if (removed !== undefined) warn(`${name} was removed at ${removed}, and no unit gets it any more: this is what it was`);
    return current;
  }
  const period = at === undefined ? undefined : periodNamed(at);
  // A period that is asked for goes before the one that the secret is held in.
  const declarations = period ? unheld(view.manifest.declarations) : view.manifest.declarations;
  const recipe = new Recipes(declarations, period ? { ...view.standpoint, at: period.start } : view.standpoint).of(name);
  if (period) checkPeriod(view, name, period);
  if (generation === undefined) return recipe;
  const number = Number(generation);
  if (recipe.form !== 'derived' || !/^[1-9]\d*$/.test(generation) || number > 0xffffffff) throw new Failure('usage', recipe.form === 'derived' ? '--generation= takes a number from 1' : `a ${recipe.form} has no generation`);
  say(`generation ${generation} of ${name}`);
  return { ...recipe, generation: number };
}

/** @throws Failure `usage` */
export function periodNamed(text: string): Period {
  const period = parsePeriod(text);
  if (!period) throw new Failure('usage', `${text} is not a period`, { hint: '2026, 2026-Q4, 2026-11, 2026-W47 or 2026-11-23, in UTC' });
  return period;
}

/** A month does not say which of its days is meant. @throws Failure `usage` */
function checkPeriod({ manifest, standpoint }: OpenView, name: string, { name: asked, start, end }: Period): void {
  const at = (time: Date): Recipe => new Recipes(unheld(manifest.declarations), { ...standpoint, at: time }).of(name);
  if (JSON.stringify(at(start)) === JSON.stringify(at(new Date(end.getTime() - 1)))) return;
  throw new Failure('usage', `${name} changes within ${asked}`, { hint: 'name a shorter period, such as a day: --at=2026-11-23' });
}

/** A hash that was never put in force is computed here and now. */
function hashed(recipe: Recipe, view: OpenView): Recipe {
  if (recipe.form === 'template') return { ...recipe, pieces: recipe.pieces.map((piece) => (typeof piece === 'string' ? piece : { ...piece, of: hashed(piece.of, view) })) };
  if (recipe.form !== 'crypt' || recipe.sealed !== '') return recipe;
  return { ...recipe, sealed: computeHash(view.sources, recipe) };
}
