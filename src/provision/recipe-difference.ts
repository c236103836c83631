/** What changed in a recipe or a file, in a few words. */
import { generationOf, ingredients, kindOf, periodOf, type Recipe, type Source, sameRecipe } from '../derive/recipe.ts';

/** How a recipe changed, in a few words. */
export function difference(before: Recipe, after: Recipe): string {
  if (kindOf(before) !== kindOf(after)) return `${kindOf(before)} -> ${kindOf(after)}`;
  if (isSource(before) && isSource(after)) return sourceDifference(before, after);
  const old = namedIngredients(before);
  const inside = [...namedIngredients(after)].flatMap(([name, source]) => {
    const was = old.get(name);
    return was && sameRecipe(was, source) ? [] : [`${name}: ${was ? sourceDifference(was, source) : 'new'}`];
  });
  return inside.length === 0 ? (after.form === 'template' ? 'text' : 'options') : inside.join(', ');
}

/** The name and the value of a field. */
export type Field = readonly [name: string, value: string];

/** The fields that changed: `period 2026-10 -> 2026-11`. An empty value is `none`. */
export function changedFields(before: readonly Field[], after: readonly Field[]): string[] {
  const old = new Map(before);
  return after.flatMap(([name, value]) =>
    old.get(name) === value ? [] : [`${name} ${old.get(name) || 'none'} -> ${value || 'none'}`],
  );
}

/** Ingredients by the names that a template has for them: a secret, and the one before it as `NAME.previous`. */
function namedIngredients(recipe: Recipe): Map<string, Source> {
  const named = new Map<string, Source>();
  for (const source of ingredients(recipe).toSorted(laterFirst)) {
    const later = named.get(source.name);
    if (later === undefined) named.set(source.name, source);
    else if (!sameRecipe(later, source)) named.set(`${source.name}.previous`, source);
  }
  return named;
}

/** The periods of one rotation sort by their names. */
const laterFirst = (a: Source, b: Source): number =>
  periodOf(b).localeCompare(periodOf(a)) || generationOf(b) - generationOf(a);

const isSource = (recipe: Recipe): recipe is Source => recipe.form === 'derived' || recipe.form === 'fixed';

const fieldsOf = (source: Source): Field[] => [
  ['scope', source.scope],
  ['epoch', String(source.epoch)],
  ...(source.form === 'derived'
    ? ([
        ['period', periodOf(source)],
        ['generation', String(source.generation)],
      ] satisfies [string, string][])
    : ([['path', source.path]] satisfies [string, string][])),
];

function sourceDifference(before: Source, after: Source): string {
  if (before.form !== after.form) return `${kindOf(before)} -> ${kindOf(after)}`;
  const changed = changedFields(fieldsOf(before), fieldsOf(after));
  if (changed.length > 0) return changed.join(', ');
  return after.form === 'fixed' ? 'value' : 'options';
}
