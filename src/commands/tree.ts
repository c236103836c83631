/** Names with slashes as a tree, as pass and tree(1) draw it. */
export function treeLines(title: string, names: readonly string[]): string[] {
  interface Node { readonly below: Map<string, Node> }
  const root: Node = { below: new Map() };
  for (const name of names) {
    let node = root;
    for (const segment of name.split('/')) {
      const next = node.below.get(segment) ?? { below: new Map<string, Node>() };
      node.below.set(segment, next);
      node = next;
    }
  }
  const draw = ({ below }: Node, indent: string): string[] =>
    [...below].flatMap(([segment, node], i) => {
      const last = i === below.size - 1;
      return [`${indent}${last ? '└── ' : '├── '}${segment}`, ...draw(node, `${indent}${last ? '    ' : '│   '}`)];
    });
  return [title, ...draw(root, '')];
}
