/** A page of docs/services: the files that it shows, and the commands that it tells to run. */
import { readFileSync } from 'node:fs';

export interface Page {
  /** Text by the path above its block. */
  readonly files: ReadonlyMap<string, string>;
  /** The lines that begin with `$ `, by heading. */
  commands(heading: Heading): readonly string[];
  /** What `apt install` is told under "What it needs". */
  readonly packages: readonly string[];
  readonly headings: readonly string[];
}

/** Every page has these, in this order. */
export const headings = [
  'What it needs',
  'The manifest',
  'The configuration',
  'First start',
  'Rotation',
  'What to check',
] as const;
export type Heading = (typeof headings)[number];

export function readPage(name: string): Page {
  const text = readFileSync(`docs/services/${name}.md`, 'utf8');
  const files = new Map(
    [...text.matchAll(/^`(\/\S+)`\n\n((?:(?: {4}.*)?\n)+)/gm)].map(([, path = '', block = '']) => [
      path,
      `${block.replaceAll(/^ {4}/gm, '').trimEnd()}\n`,
    ]),
  );
  const sections = new Map(
    text
      .split(/^## /m)
      .slice(1)
      .map((section) => [section.slice(0, section.indexOf('\n')), section]),
  );
  return {
    files,
    headings: [...sections.keys()],
    packages: [...(sections.get('What it needs') ?? '').matchAll(/`apt install ([^`]+)`/g)].flatMap(
      ([, packages = '']) => packages.split(' '),
    ),
    commands: (heading) =>
      [...(sections.get(heading) ?? '').matchAll(/^ {4}\$ (.*)$/gm)].map(([, command = '']) => command),
  };
}
