/** The files that docs/watching.md shows, by their paths. */
import { readFileSync } from 'node:fs';

export function filesOfPage(): Map<string, string> {
  const files = new Map<string, string>();
  let path: string | undefined;
  for (const line of readFileSync('docs/watching.md', 'utf8').split('\n')) {
    const [, begun] = /^ {4}# (\/\S+)$/.exec(line) ?? [];
    if (begun !== undefined) files.set((path = begun), '');
    else if (path !== undefined && (line === '' || line.startsWith('    ')))
      files.set(path, `${files.get(path) ?? ''}${line.slice(4)}\n`);
    else path = undefined;
  }
  return files;
}
