/** The hint `did you mean ...?` for the nearest choice, if one is at most two edits away; of equally near ones, what goes on from it. */
export function nearest(word: string, choices: readonly string[]): string | undefined {
  const continues = (choice: string): boolean => choice.startsWith(word.toLowerCase());
  const [best] = choices
    .map((choice) => ({ choice, distance: edits(word.toLowerCase(), choice) }))
    .filter(({ distance }) => distance <= 2)
    .sort((a, b) => a.distance - b.distance || Number(continues(b.choice)) - Number(continues(a.choice)));
  return best && `did you mean ${best.choice}?`;
}

/** The Levenshtein distance of two short words. */
function edits(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next[j] = Math.min(
        (row[j] ?? 0) + 1,
        (next[j - 1] ?? 0) + 1,
        (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1),
      );
    row = next;
  }
  return row[b.length] ?? 0;
}
