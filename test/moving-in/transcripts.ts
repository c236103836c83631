import { readFileSync } from 'node:fs';

/** A command of docs/moving-in.md, and what the page says that it prints. */
export interface Transcript {
  readonly command: string;
  readonly output: string;
}

/** The consoles of the page, one command each. */
export const transcripts = (): Transcript[] =>
  [...readFileSync('docs/moving-in.md', 'utf8').matchAll(/^```console\n\$ (.*)\n([^]*?)^```$/gm)].map(
    ([, command = '', output = '']) => ({ command, output }),
  );
