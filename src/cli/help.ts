/** The text of `auxcred --help` and `auxcred VERB --help`. */
import { exitStatus } from '../failure.ts';
import { groups, hasOwnFlags, manual, type OptionEntry, type Verb, type VerbEntry, verbNames } from './manual.ts';
import { written } from './option-text.ts';

/** The column at which help is folded. */
const width = 100;

/** All verbs on one page. */
export function overview(): string {
  const longest = Math.max(...verbNames.map(({ length }) => length));
  const listed = Object.entries(groups).map(([group, heading]) => {
    const verbs = verbNames.filter((verb) => manual[verb].group === group);
    return `${heading}:\n${verbs.map((verb) => `    ${verb.padEnd(longest)}  ${manual[verb].summary}`).join('\n')}\n`;
  });
  return `Usage:
    auxcred VERB [OPTION...] [NAME...]
    auxcred help VERB                 what VERB does, its options, examples

${listed.join('\n')}
The manifest is in /etc/auxcred/secrets.d: man 5 auxcred-secrets.

Example:
    $ auxcred seal --with-key=tpm2 --tpm2-pcrs=4+7 --recipient=age1...
    $ cat > /etc/auxcred/secrets.d/web.toml
    [secret.session-key]
    kind  = "hex"
    units = ["web.service"]
    $ auxcred apply
    $ systemctl restart web.service     # reads $CREDENTIALS_DIRECTORY/session-key
    $ auxcred status`;
}

/** One verb, its options and examples. */
export function helpOf(verb: Verb): string {
  const entry: VerbEntry = manual[verb];
  const blocks = [
    `auxcred ${verb}: ${entry.summary}`,
    `Usage:\n${entry.usage.map((line) => `    auxcred ${verb} ${line}`.trimEnd()).join('\n')}`,
    ...entry.text.map((paragraph) => folded(paragraph, width).join('\n')),
    ...(entry.options.length > 0 ? [`Options:\n${optionLines(verb)}`] : []),
    ...(entry.examples
      ? [`Examples:\n${entry.examples.map(({ command, says }) => `    # ${says}\n    ${command}`).join('\n')}`]
      : []),
    ...(entry.statuses
      ? [
          `Exit status:\n${statusesOf(entry)
            .map(({ status, text }) => `    ${status.padStart(2)}  ${text}`)
            .join('\n')}`,
        ]
      : []),
  ];
  return blocks.join('\n\n');
}

/** The exit statuses that have a meaning of their own for a verb, in numerical order. */
export const statusesOf = ({ statuses = {} }: VerbEntry): { readonly status: string; readonly text: string }[] =>
  Object.entries(exitStatus).flatMap(([name, status]) =>
    Object.entries(statuses)
      .filter(([known]) => known === name)
      .map(([, text]) => ({ status: String(status), text })),
  );

/** The options of a verb in two columns. */
export function optionLines(verb: Verb): string {
  const entries: readonly OptionEntry[] = manual[verb].options;
  const texts = entries.map((entry) => `${written(verb, entry)}${entry.repeated === true ? ' ...' : ''}`);
  const column = Math.max(...texts.map(({ length }) => length)) + 2;
  return entries
    .map(
      ({ help }, i) =>
        `    ${(texts[i] ?? '').padEnd(column)}${folded(help, width - column - 4).join(`\n${' '.repeat(column + 4)}`)}`,
    )
    .join('\n');
}

/** Whether the arguments ask for help. */
export const asksForHelp = (verb: Verb, argv: readonly string[]): boolean => {
  const end = argv.indexOf('--');
  return (
    !hasOwnFlags(verb) &&
    (end === -1 ? argv : argv.slice(0, end)).some((argument) => argument === '--help' || argument === '-h')
  );
};

function folded(text: string, columns: number): string[] {
  const lines = [''];
  for (const word of text.split(' ')) {
    const line = lines.at(-1) ?? '';
    if (line !== '' && line.length + 1 + word.length > columns) lines.push(word);
    else lines[lines.length - 1] = line === '' ? word : `${line} ${word}`;
  }
  return lines;
}
