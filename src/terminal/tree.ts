/** Draws trees like pass and tree(1). */
export interface Branch {
  readonly label: string;
  readonly below: readonly Branch[];
}

/** The lines below a tree's root. */
export const drawTree = (branches: readonly Branch[], indent = ''): string[] =>
  branches.flatMap(({ label, below }, i) => {
    const last = i === branches.length - 1;
    return [`${indent}${last ? '└── ' : '├── '}${label}`, ...drawTree(below, `${indent}${last ? '    ' : '│   '}`)];
  });

/** Turns names with slashes into folders and their contents, in the given order. */
export function branchesOf(names: readonly string[]): Branch[] {
  const grown: (Branch & { readonly below: Branch[] })[] = [];
  const known = new Map<string, Branch[]>([['', grown]]);
  for (const name of names) {
    const segments = name.split('/');
    segments.forEach((label, i) => {
      const path = segments.slice(0, i + 1).join('/');
      if (known.has(path)) return;
      const below: Branch[] = [];
      known.set(path, below);
      known.get(segments.slice(0, i).join('/'))?.push({ label, below });
    });
  }
  return grown;
}
