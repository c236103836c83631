/** The recipe that `--at=` and `--generation=` select. */
import { type Period, parsePeriod } from '../derive/period.ts';
import type { Recipe } from '../derive/recipe.ts';
import { Failure } from '../failure.ts';
import { unheld } from '../manifest/declaration.ts';
import { Recipes } from '../manifest/recipes.ts';
import { say, warn } from '../terminal/say.ts';
import type { OpenView } from './chosen-manifest.ts';
import type { Options } from './options.ts';

/** The period of `--at=`. @throws Failure `usage` if the text names none */
export function periodNamed(text: string): Period {
  const period = parsePeriod(text);
  if (!period)
    throw new Failure('usage', `${text} is not a period`, {
      hint: '2026, 2026-Q4, 2026-11, 2026-W47 or 2026-11-23, in UTC',
    });
  return period;
}

/** When a secret was removed that had been active on this machine; undefined for any other secret. */
export const removalOf = ({ snapshot }: OpenView, name: string): string | undefined =>
  snapshot?.history.get(name)?.at(-1)?.until;

/**
 * The recipe that `--at=` and `--generation=` select. By default the active one or, with a warning, the last one of a
 * removed secret.
 * @throws Failure `usage` for a period or generation that the secret can't have, `not-found` for an unknown secret
 */
export function chosenRecipe(view: OpenView, name: string, options: Options): Recipe {
  const at = options.value('at');
  const generation = options.value('generation');
  const current = view.activeRecipe(name);
  if (at === undefined && generation === undefined && current !== undefined) {
    const removed = removalOf(view, name);
    if (removed !== undefined)
      warn(`${name} was removed at ${removed}, and no unit gets it any more: this is its last value`);
    return current;
  }
  const period = at === undefined ? undefined : periodNamed(at);
  // The requested period takes precedence over the one that the manifest names.
  const declarations = period ? unheld(view.manifest.declarations) : view.manifest.declarations;
  const recipe = new Recipes(declarations, period ? { ...view.standpoint, at: period.start } : view.standpoint).of(
    name,
  );
  if (period) checkPeriod(view, name, period);
  if (generation === undefined) return recipe;
  const number = Number(generation);
  if (recipe.form !== 'derived' || !/^[1-9]\d*$/.test(generation) || number > 0xffffffff)
    throw new Failure(
      'usage',
      recipe.form === 'derived' ? '--generation= takes a number, at least 1' : `a ${recipe.form} has no generation`,
    );
  say(`generation ${generation} of ${name}`);
  return { ...recipe, generation: number };
}

/** Refuses a period that is too long: a month does not say which of its days is meant. @throws Failure `usage` */
function checkPeriod({ manifest, standpoint }: OpenView, name: string, { name: asked, start, end }: Period): void {
  const at = (time: Date): Recipe => new Recipes(unheld(manifest.declarations), { ...standpoint, at: time }).of(name);
  if (JSON.stringify(at(start)) === JSON.stringify(at(new Date(end.getTime() - 1)))) return;
  throw new Failure('usage', `${name} changes within ${asked}`, {
    hint: 'name a shorter period, such as a day: --at=2026-11-23',
  });
}
