/**
 * `copyright` of the package, in Debian's machine-readable form: our licence, that of every package whose code is in
 * the programs, and that of the word list.
 * Source: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

interface Work {
  /** Where the work stands in the sources. */
  readonly files: string;
  readonly comment?: string;
  readonly holders: readonly string[];
  /** The licence's name in Debian's words. */
  readonly license: string;
  readonly text: string;
}

/** SPDX's names that differ from Debian's. */
const debianNames: Readonly<Record<string, string>> = { MIT: 'Expat', 'BSD-3-Clause': 'BSD-3-clause' };

const wordList: Work = {
  files: 'src/derive/words.ts',
  comment:
    'The large word list for passphrases, eff_large_wordlist.txt, unchanged:\nhttps://www.eff.org/dice. It is inside usr/lib/auxcred/*.cjs.',
  holders: ['2016 Electronic Frontier Foundation'],
  license: 'CC-BY-3.0-US',
  text: 'Creative Commons Attribution 3.0 United States\nhttps://creativecommons.org/licenses/by/3.0/us/legalcode',
};

/**
 * @param packages - the node modules inside the programs
 * @throws Error for one without a licence file, a licence's name, or a holder of its copyright
 */
export function copyright(packages: ReadonlySet<string>): string {
  const own = readFileSync('LICENSE', 'utf8');
  const works: Work[] = [
    { files: '*', holders: holdersIn(own), license: 'Expat', text: own },
    wordList,
    ...[...packages].sort().map(bundledWork),
  ];
  const header = [
    'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/',
    'Upstream-Name: auxcred',
    field('Comment', 'The programs in usr/lib/auxcred contain the node modules named below.'),
  ].join('\n');
  return `${[header, ...works.map(paragraph)].join('\n\n')}\n`;
}

function bundledWork(name: string): Work {
  const folder = join('node_modules', name);
  const file = readdirSync(folder).find((entry) => /^licen[cs]e(\.md|\.txt)?$/i.test(entry));
  if (file === undefined) throw new Error(`${name} has no licence file`);
  const text = readFileSync(join(folder, file), 'utf8');
  const { version, license } = manifestOf(name);
  const holders = holdersIn(text);
  if (holders.length === 0) throw new Error(`${join(folder, file)} names no holder of its copyright`);
  const comment = version === undefined ? undefined : `Version ${version}.`;
  return {
    files: `${folder}/*`,
    ...(comment === undefined ? {} : { comment }),
    holders,
    license: debianNames[license] ?? license,
    text,
  };
}

/** Version and licence; a part that another package brings along without a manifest has the licence of that one. */
function manifestOf(name: string): { version: string | undefined; license: string } {
  const folder = join('node_modules', name);
  const isPart = !readdirSync(folder).includes('package.json');
  const owner = isPart ? name.replace(/\/vendor\/.*/, '') : name;
  const content: unknown = JSON.parse(readFileSync(join('node_modules', owner, 'package.json'), 'utf8'));
  const text = (key: string): string | undefined => {
    const value: unknown = content !== null && typeof content === 'object' ? Reflect.get(content, key) : undefined;
    return typeof value === 'string' ? value : undefined;
  };
  const license = text('license');
  if (license === undefined) throw new Error(`${owner}/package.json names no licence`);
  return { version: isPart ? undefined : text('version'), license };
}

/** What follows "Copyright" at the start of a line, without the sign. */
const holdersIn = (text: string): string[] =>
  [...text.matchAll(/^\s*copyright (?:\(c\)|©)?\s*(.+?)[\s.]*$/gim)].map(([, holder = '']) => holder);

const paragraph = ({ files, comment, holders, license, text }: Work): string =>
  [
    `Files: ${files}`,
    field('Copyright', holders.join('\n')),
    field('License', `${license}\n${text.trim()}`),
    ...(comment === undefined ? [] : [field('Comment', comment)]),
  ].join('\n');

/** A field of several lines: each but the first is indented, and an empty one is a dot. */
const field = (name: string, value: string): string =>
  `${name}: ${value
    .split('\n')
    .map((line, index) => (index === 0 ? line : ` ${line.trimEnd() || '.'}`))
    .join('\n')}`;
