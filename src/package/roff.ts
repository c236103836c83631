/** Text for man(7): from plain text, and from the Markdown of docs/. */

const special: Readonly<Record<string, string>> = {
  '\\': '\\e',
  '-': '\\-',
  "'": '\\(aq',
  '`': '\\(ga',
  '^': '\\(ha',
  '~': '\\(ti',
};

/** Literal text, escaped. */
export const plain = (text: string): string =>
  text.replaceAll(
    /[\\\-'`^~]|[^\x20-\x7e]/gu,
    (character) =>
      special[character] ?? `\\[u${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}]`,
  );

export const bold = (text: string): string => `\\fB${plain(text)}\\fR`;
export const italic = (text: string): string => `\\fI${plain(text)}\\fR`;

/** Maximum width of a source line: longer ones are hard to read in a diff, and some man(7) linters warn. */
const columns = 78;

/** Folds text, which roff fills anyway, and keeps a line that begins with a dot from being a request. */
export function lines(text: string): string {
  const folded = [''];
  for (const word of text.split(/ +/)) {
    const line = folded.at(-1) ?? '';
    if (line !== '' && line.length + 1 + word.length > columns) folded.push(word);
    else folded[folded.length - 1] = line === '' ? word : `${line} ${word}`;
  }
  return folded.map(harmless).join('\n');
}

const harmless = (line: string): string => (/^[.']/.test(line) ? `\\&${line}` : line);

export const section = (heading: string, ...blocks: readonly string[]): string =>
  [`.SH ${heading.toUpperCase()}`, ...blocks].join('\n');

export const subsection = (heading: string): string => `.SS ${heading}`;

export const paragraph = (text: string): string => `.PP\n${lines(text)}`;

/** A term, and its description. */
export const term = (tag: string, text: string): string =>
  `.TP\n${harmless(tag)}\n${text === '' ? '\\&' : lines(text)}`;

/** Preformatted lines. */
export const literal = (code: readonly string[]): string =>
  ['.PP', '.RS 4', '.nf', ...code.map((line) => harmless(plain(line)) || '\\&'), '.fi', '.RE'].join('\n');

/** Code, links, bold and italic words inside a line of Markdown. */
function inline(markdown: string): string {
  const parts =
    /(?<fence>`+)(?<code>.+?)\k<fence>|\*\*(?<strong>[^*]+)\*\*|(?<![\w*])\*(?<soft>[^*\s][^*]*)\*|\[(?<link>[^\]]+)\]\([^)]*\)/g;
  let text = '';
  let end = 0;
  for (const { 0: whole, index, groups = {} } of markdown.matchAll(parts)) {
    text += plain(markdown.slice(end, index));
    if (groups['code'] !== undefined) text += bold(groups['code'].replaceAll('\\|', '|').trim());
    else if (groups['strong'] !== undefined) text += bold(groups['strong']);
    else if (groups['soft'] !== undefined) text += italic(groups['soft']);
    else text += inline(groups['link'] ?? '');
    end = index + whole.length;
  }
  return text + plain(markdown.slice(end));
}

/**
 * The text below a heading of a Markdown file, up to the next heading of the same level.
 * @throws Error if there is none
 */
export function chapter(markdown: string, heading: string): string {
  const all = markdown.split('\n');
  const start = all.findIndex((line) => /^#+ /.test(line) && line.replace(/^#+ /, '') === heading);
  const level = /^#+/.exec(all[start] ?? '')?.[0].length ?? 0;
  if (start === -1) throw new Error(`the documentation has no chapter ${heading}`);
  const length = all.slice(start + 1).findIndex((line) => (/^#+(?= )/.exec(line)?.[0].length ?? level + 1) <= level);
  return all.slice(start + 1, length === -1 ? undefined : start + 1 + length).join('\n');
}

/** Paragraphs, lists, tables, code and headings, in the Markdown subset that docs/ uses. */
export function fromMarkdown(markdown: string): string {
  const blocks: string[] = [];
  for (const block of blocksOf(markdown)) {
    const [first = ''] = block;
    if (/^#+ /.test(first)) blocks.push(subsection(plain(first.replace(/^#+ /, ''))));
    else if (first.startsWith('    ')) blocks.push(literal(block.map((line) => line.slice(4))));
    else if (first.startsWith('|')) blocks.push(table(block));
    else if (/^(?:- |\d+\. )/.test(first))
      blocks.push(...items(block).map(({ mark, text }) => `.IP ${mark} 4\n${lines(inline(text))}`));
    else blocks.push(paragraph(inline(block.join(' '))));
  }
  return blocks.join('\n');
}

type LineKind = 'gap' | 'code' | 'table' | 'heading' | 'list' | 'text';

function kindOf(line: string): LineKind {
  if (line === '') return 'gap';
  if (line.startsWith('    ')) return 'code';
  if (line.startsWith('|')) return 'table';
  if (line.startsWith('#')) return 'heading';
  return /^(?:- |\d+\. )/.test(line) ? 'list' : 'text';
}

/** Groups lines into blocks: code keeps its empty lines, and a list or a table starts a new block. */
function blocksOf(markdown: string): string[][] {
  const blocks: string[][] = [];
  let last: LineKind = 'gap';
  for (const line of markdown.split('\n')) {
    const kind: LineKind = last === 'list' && /^ {2,3}\S/.test(line) ? 'list' : kindOf(line);
    if (kind !== 'gap' && kind === last && kind !== 'heading') blocks.at(-1)?.push(line);
    else if (kind !== 'gap') blocks.push([line]);
    last = kind;
  }
  return blocks;
}

function items(block: readonly string[]): { mark: string; text: string }[] {
  const all: { mark: string; text: string }[] = [];
  for (const line of block) {
    const { mark, text } = /^(?<mark>-|\d+\.) (?<text>.*)$/.exec(line)?.groups ?? {};
    const item = all.at(-1);
    if (mark !== undefined && text !== undefined) all.push({ mark: mark === '-' ? '\\(bu' : mark, text });
    else if (item) item.text += ` ${line.trim()}`;
  }
  return all;
}

/** A table as terms (the first column) with the other columns, under their headings, as descriptions. */
function table(block: readonly string[]): string {
  const [[, ...headings] = [], ...entries] = rowsOf(block);
  const described = (cells: readonly string[]): string[] =>
    cells.flatMap((cell, i) => {
      if (cell === '') return [];
      const heading = cells.length === 1 ? '' : (headings[i] ?? '');
      return [`${heading === '' ? '' : `${italic(heading)}: `}${inline(cell)}`];
    });
  return entries
    .map(([tag = '', ...cells]) => term(tag.includes('`') ? inline(tag) : bold(tag), described(cells).join('; ')))
    .join('\n');
}

/** The cells of a Markdown table, heading first, without the separator line. */
export const rowsOf = (block: readonly string[]): string[][] =>
  block
    .filter((line) => !/^\|(?:-+\|)+$/.test(line.replaceAll(' ', '')))
    .map((line) =>
      line
        .replace(/^\|/, '')
        .replace(/\|\s*$/, '')
        .split(/(?<!\\)\|/)
        .map((cell) => cell.trim().replaceAll('\\|', '|')),
    );
