/** The keys that a table of the operator's files may have. */
import { Failure } from '../failure.ts';
import { nearest } from '../nearest.ts';
import type { Json } from './json.ts';

/**
 * Refuses other keys than these.
 * @param top - those of the top level, where TOML puts no key that stands below a table's heading
 * @throws Failure `malformed` with the nearest one
 */
export function allowKeys(table: Json, keys: readonly string[], file: string, top: readonly string[] = []): void {
  for (const [key, { place }] of table.entries())
    if (!keys.includes(key))
      throw new Failure('malformed', `${file} has no key ${place}`, {
        hint: hintFor(table, key, keys, top),
      });
}

function hintFor(table: Json, key: string, keys: readonly string[], top: readonly string[]): string {
  if (top.includes(key)) return `${key} belongs above the first [table]`;
  if (table.place !== '' && isTable(table.at(key))) return 'a name with a dot has quotes: [host."web1.example.org"]';
  return nearest(key, keys) ?? `it has ${keys.join(', ')}`;
}

function isTable(item: Json): boolean {
  try {
    item.entries();
    return true;
  } catch {
    return false;
  }
}
