/** The tables of docs/comparison.md. */
import { readFileSync } from 'node:fs';
import { chapter, rowsOf } from '../../src/package/roff.ts';

export type Outcome = 'opens' | 'refuses';

export interface Sealing {
  readonly program: 'auxcred' | 'systemd-creds';
  /** As in a column's heading, after the program. */
  readonly name: string;
  readonly command: string;
}

/** What each sealing does after a change, by its title: `auxcred, PCR 7`. */
export interface Change {
  readonly title: string;
  readonly wanted: Outcome;
  readonly outcomes: ReadonlyMap<string, Outcome>;
}

const page = (): string => readFileSync('docs/comparison.md', 'utf8');

const tablesIn = (heading: string): string[][][] =>
  chapter(page(), heading)
    .split('\n\n')
    .map((block) => block.split('\n').filter((line) => line.startsWith('|')))
    .filter((block) => block.length > 0)
    .map(rowsOf);

/** The sealings, with their commands. @throws Error for a row that is none */
export function sealings(): Sealing[] {
  const [[, ...rows] = []] = tablesIn('The sealings');
  return rows.map(([title = '', code = '']) => {
    const [, program, name = ''] = /^(auxcred|systemd-creds), (.+)$/.exec(title) ?? [];
    const [, command] = /^`(.+)`$/.exec(code) ?? [];
    if ((program !== 'auxcred' && program !== 'systemd-creds') || command?.startsWith(`${program} `) !== true)
      throw new Error(`docs/comparison.md: no sealing: ${title} ${code}`);
    return { program, name, command };
  });
}

/**
 * The changes and what is said to happen.
 * @throws Error if the tables differ in their changes, a cell says neither, or is bold for no reason
 */
export function changes(): Change[] {
  const tables = tablesIn('What happens').map(([heading = [], ...rows]) => {
    const [program = '', , ...names] = heading;
    return rows.map(([title = '', wish = '', ...cells]) => {
      const wanted = outcomeIn(wish, title);
      const outcomes = cells.map((cell, i): [string, Outcome] => {
        const outcome = outcomeIn(cell.replaceAll('**', ''), title);
        if (cell.startsWith('**') !== (outcome !== wanted))
          throw new Error(`docs/comparison.md: ${title}: ${cell}, while the owner wants: ${wanted}`);
        return [`${program}, ${names[i] ?? ''}`, outcome];
      });
      return { title, wanted, outcomes };
    });
  });
  const [first = [], ...others] = tables;
  return first.map(({ title, wanted, outcomes }, i) => {
    const same = others.map((table) => table[i]);
    if (same.some((other) => other?.title !== title || other.wanted !== wanted))
      throw new Error(`docs/comparison.md: ${title} is not in each table`);
    return { title, wanted, outcomes: new Map([...outcomes, ...same.flatMap((other) => other?.outcomes ?? [])]) };
  });
}

function outcomeIn(text: string, title: string): Outcome {
  if (text === 'opens' || text === 'refuses') return text;
  throw new Error(`docs/comparison.md: ${title}: ${text}`);
}
