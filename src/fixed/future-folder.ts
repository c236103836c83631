/**
 * Checks that names can be files of one fixed folder on every file system, with or without case. Looks at names only,
 * without seeds or disk.
 */

import { fileEnding, withoutEnding } from './name.ts';

/** Two names that can't be in one folder. */
export interface NameConflict {
  /** As `host/web1/Wifi`. */
  readonly name: string;
  /** The earlier name, or its folder, that differs only in case: `host/web1/wifi`. */
  readonly other: string;
}

/**
 * Finds the names that differ only in case from an earlier one, or from a folder of an earlier one. They would be one
 * file on other systems, and a merge of two branches can bring them together. Takes linear time.
 *
 * No segment of a name ends in `.sealed` (`pathProblem`), so no name's folder is another name's file.
 * @param names - as `host/web1/wifi`, each once
 */
export function conflictsIn(names: Iterable<string>): NameConflict[] {
  const known = new Map<string, string>();
  const conflicts: NameConflict[] = [];
  for (const name of names) {
    const other = differing(entriesOf(name), known);
    if (other !== undefined) conflicts.push({ name, other });
  }
  return conflicts;
}

/** The first of `entries` that is known in another case. Adds all of them to `known`. */
function differing(entries: readonly string[], known: Map<string, string>): string | undefined {
  let found: string | undefined;
  for (const entry of entries) {
    const folded = entry.toLowerCase();
    const before = known.get(folded);
    if (before === undefined) known.set(folded, entry);
    else if (before !== entry) found ??= withoutEnding(before);
  }
  return found;
}

/** The folders of a name and its file: `host`, `host/web1`, `host/web1/wifi.sealed`. */
function entriesOf(name: string): string[] {
  const segments = name.split('/');
  return segments.map((_, i) => `${segments.slice(0, i + 1).join('/')}${i === segments.length - 1 ? fileEnding : ''}`);
}

/** A conflict in words, for messages. */
export const conflictText = ({ name, other }: NameConflict): string => `${name} differs from ${other} only in case`;
