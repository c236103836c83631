/** When each secret was active. */
import { type Recipe, sameRecipe } from '../derive/recipe.ts';
import type { History, HistoryEntry } from '../snapshot/snapshot.ts';

/** How many entries of a secret's history are kept. */
const longestHistory = 64;

/** The history with the secrets that are active now at its end, and the time at which others were removed. */
export function continued(history: History | undefined, secrets: ReadonlyMap<string, Recipe>): History {
  const since = `${new Date().toISOString().slice(0, 19)}Z`;
  const next = new Map<string, readonly HistoryEntry[]>(history);
  for (const [name, recipe] of secrets) {
    const entries = next.get(name) ?? [];
    const last = entries.at(-1);
    if (!last || last.until !== undefined || !sameRecipe(last.recipe, recipe))
      next.set(name, [...entries, { since, recipe }].slice(-longestHistory));
    // The same value from another file: the active recipe names the present file.
    else next.set(name, [...entries.slice(0, -1), { since: last.since, recipe }]);
  }
  for (const [name, entries] of history ?? []) {
    const last = entries.at(-1);
    if (last && last.until === undefined && !secrets.has(name))
      next.set(name, [...entries.slice(0, -1), { ...last, until: since }]);
  }
  return next;
}
