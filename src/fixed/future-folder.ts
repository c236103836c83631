/**
 * Whether names can be files of one fixed folder, also where a file system does not tell upper from lower case. Looks
 * at names alone: no seed, no disk.
 */

/** Two names that can't be in one folder. */
export interface NameConflict {
  /** As `host/web1/Wifi`. */
  readonly name: string;
  /** The name before it, or the folder of one, that differs in its case only: `host/web1/wifi`. */
  readonly other: string;
}

const ending = '.sealed';

/**
 * The names that differ from an earlier one, or from a folder of an earlier one, in their case only. They would be one
 * file on other systems, and after a merge of two branches they lie side by side. Takes time in proportion to the
 * length of all names together.
 *
 * No name has a segment that ends in `.sealed` (`pathProblem`), so that no folder of one is the file of another.
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

/** The first of `entries` that is known in another case; all of them are known afterwards. */
function differing(entries: readonly string[], known: Map<string, string>): string | undefined {
  let found: string | undefined;
  for (const entry of entries) {
    const folded = entry.toLowerCase();
    const before = known.get(folded);
    if (before === undefined) known.set(folded, entry);
    else if (before !== entry) found ??= before.endsWith(ending) ? before.slice(0, -ending.length) : before;
  }
  return found;
}

/** The folders of a name and its file: `host`, `host/web1`, `host/web1/wifi.sealed`. */
function entriesOf(name: string): string[] {
  const segments = name.split('/');
  return segments.map((_, i) => `${segments.slice(0, i + 1).join('/')}${i === segments.length - 1 ? ending : ''}`);
}

/** In words, for a failure. */
export const conflictText = ({ name, other }: NameConflict): string => `${name} differs from ${other} in its case only`;
