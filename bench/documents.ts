/** Writes what the documentation shows of a run: docs/peers.json, and the plot and the page that are made of it. */
import { writeFileSync } from 'node:fs';
import { reported } from './report.ts';
import { must } from './scratch.ts';

/** The subjects whose numbers are in the documentation. */
export const documented = ['peers', 'tpm'] as const;

export function writeDocuments(): void {
  const lines = reported().flatMap(({ data }) => (data === undefined ? [] : [JSON.stringify(data)]));
  writeFileSync('docs/peers.json', `[\n${lines.join(',\n')}\n]\n`);
  for (const [file, ...args] of [
    ['docs/peers.svg', 'svg'],
    ['docs/bench.md', 'page'],
  ] as const)
    writeFileSync(file, `${must(process.execPath, ['docs/peers.mjs', ...args])}\n`);
}
