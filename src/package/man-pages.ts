/**
 * The manual pages: the verbs' from the manual, those of the manifest and the units from docs/guide.md and
 * docs/formats.md.
 */

import { statusesOf } from '../cli/help.ts';
import { groups, hasOwnFlags, manual, type OptionEntry, type Verb, type VerbEntry, verbNames } from '../cli/manual.ts';
import { dashed, written } from '../cli/option-text.ts';
import { version } from '../version.ts';
import {
  bold,
  chapter,
  fromMarkdown,
  italic,
  lines,
  literal,
  paragraph,
  plain,
  rowsOf,
  section,
  subsection,
  term,
} from './roff.ts';
import { sourceDate } from './source-date.ts';

export interface ManPage {
  readonly name: string;
  readonly manual: 1 | 5 | 8;
  readonly text: string;
}

const formats = 'docs/formats.md';
const guide = 'docs/guide.md';
const pageNames = [
  ['auxcred', 1],
  ...verbNames.map((verb): [string, 1] => [`auxcred-${verb}`, 1]),
  ['auxcred-secrets', 5],
  ['auxcred.service', 8],
] as const;

/** `auxcred.1`, `auxcred-seal.1`, ... */
export const manPageFiles: readonly string[] = pageNames.map(([name, number]) => `${name}.${String(number)}`);

/** @param documentation - reads a file of docs/ by its path */
export const manPages = (documentation: (path: string) => string): ManPage[] => [
  overviewPage(documentation(formats)),
  ...verbNames.map(verbPage),
  manifestPage(documentation(guide), documentation(formats)),
  servicePage(documentation(formats)),
];

function page(
  name: string,
  number: ManPage['manual'],
  title: string,
  summary: string,
  ...sections: readonly string[]
): ManPage {
  const date = new Date(sourceDate * 1000).toISOString().slice(0, 10);
  const heading = `.TH "${plain(name.toUpperCase())}" "${String(number)}" "${date}" "auxcred ${version}" "${title}"`;
  // No hyphenation of names, no justified lines.
  const text = [
    heading,
    '.nh',
    '.ad l',
    section('name', lines(`${plain(name)} \\- ${plain(summary)}`)),
    ...sections,
  ].join('\n');
  // A heading starts a paragraph by itself.
  return { name, manual: number, text: `${text.replaceAll(/^(\.S[HS] .*\n)\.PP\n/gm, '$1')}\n` };
}

const reference = (text: string): string =>
  text.replace(/^(.*)\((\d)\)$/, (_, name: string, number: string) => `${bold(name)}(${number})`);
const seeAlso = (...pages: readonly string[]): string => section('see also', lines(pages.map(reference).join(', ')));

function optionTag(verb: Verb, option: OptionEntry): string {
  const { name, value = '', repeated } = option;
  const typed = dashed(verb, name);
  const rest = written(verb, option).slice(typed.length);
  return `${bold(typed)}${rest.replace(value, () => (value === '' ? '' : italic(value)))}${repeated === true ? ' ...' : ''}`;
}

const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;

/** A value keeps its lower case. */
const optionText = ({ help, choices = [] }: OptionEntry): string =>
  typeof choices !== 'string' && choices.some((choice) => help.startsWith(choice)) ? `${help}.` : sentence(help);

/** A synopsis: literal words in bold, placeholders in italics. */
const synopsis = (verb: Verb, line: string): string =>
  `${bold(`auxcred ${verb}`)} ${line
    .split(/(--?[a-zA-Z0-9-]+|[A-Z][A-Z=@]*)/)
    .map((part) => (part.startsWith('-') ? bold(part) : /^[A-Z]/.test(part) ? italic(part) : plain(part)))
    .join('')}`.trimEnd();

function verbPage(verb: Verb): ManPage {
  const entry: VerbEntry = manual[verb];
  const statuses = statusesOf(entry);
  return page(
    `auxcred-${verb}`,
    1,
    'auxcred',
    entry.summary,
    section('synopsis', entry.usage.map((line) => `.PP\n${lines(synopsis(verb, line))}`).join('\n')),
    section(
      'description',
      paragraph(plain(`${sentence(entry.summary)}`)),
      ...entry.text.map((text) => paragraph(plain(text))),
    ),
    ...(entry.options.length === 0
      ? []
      : [
          section(
            'options',
            ...entry.options.map((option) => term(optionTag(verb, option), plain(optionText(option)))),
          ),
        ]),
    ...(entry.examples
      ? [
          section(
            'examples',
            ...entry.examples.map(({ command, says }) => `${paragraph(plain(sentence(says)))}\n${literal([command])}`),
          ),
        ]
      : []),
    ...(hasOwnFlags(verb)
      ? []
      : [
          section(
            'exit status',
            ...(statuses.length === 0
              ? []
              : statuses.map(({ status, text }) => term(bold(status), plain(sentence(text))))),
            paragraph(`0 on success; ${reference('auxcred(1)')} lists all others.`),
          ),
        ]),
    ...(entry.files
      ? [
          section(
            'files',
            ...Object.entries(entry.files).map(([path, text]) => term(italic(path), plain(sentence(text)))),
          ),
        ]
      : []),
    seeAlso(
      'auxcred(1)',
      'auxcred-secrets(5)',
      ...(entry.seeAlso ?? []).filter((other) => other !== 'auxcred-secrets(5)'),
    ),
  );
}

/** The rows of the table of exit statuses, without its heading. */
const statusesIn = (markdown: string): string[][] =>
  rowsOf(
    chapter(markdown, 'Exit statuses')
      .split('\n')
      .filter((line) => line.startsWith('|')),
  ).slice(1);

const verbsSection = (): string =>
  section(
    'verbs',
    ...Object.entries(groups).flatMap(([group, heading]) => [
      subsection(plain(heading)),
      ...verbNames
        .filter((verb) => manual[verb].group === group)
        .map((verb) => term(`${bold(`auxcred-${verb}`)}(1)`, plain(sentence(manual[verb].summary)))),
    ]),
  );

const statusSection = (markdown: string): string =>
  section(
    'exit status',
    ...statusesIn(markdown).map(([status = '', name = '', text = '']) =>
      term(
        `${bold(status)}${name === '' ? '' : ` (${plain(name.replaceAll('`', ''))})`}`,
        plain(sentence(text.replaceAll('`', ''))),
      ),
    ),
  );

const environmentSection = (): string =>
  section(
    'environment',
    term(bold('AUXCRED_TCTI'), plain('The TPM, unless --tpm2-device= names one.')),
    term(bold('AUXCRED_VAULT'), plain("The operator's vault, unless --vault= names one.")),
    term(bold('AUXCRED_IDENTITY'), plain('A file that opens the fleet seed, in addition to --identity=.')),
    term(`${bold('VISUAL')}, ${bold('EDITOR')}`, plain('The editor that auxcred edit runs.')),
    term(bold('NO_COLOR'), plain('Turns off colors.')),
  );

const filesSection = (): string =>
  section(
    'files',
    ...[
      ['/etc/auxcred/secrets.d', 'the manifest'],
      ['/etc/auxcred/scopes.json', 'the key ids that this machine expects'],
      ['/etc/auxcred/rendered', "the units' drop-ins, as applied"],
      ['/var/lib/auxcred/seeds.age', 'the sealed seeds'],
      ['/var/lib/auxcred/provisioned', 'the active snapshot'],
      ['/var/lib/auxcred/fixed', 'the fixed folder of a machine without a vault'],
      ['~/.local/share/auxcred', "the operator's vault"],
    ].map(([path = '', text = '']) => term(italic(path), plain(sentence(text)))),
  );

function overviewPage(markdown: string): ManPage {
  return page(
    'auxcred',
    1,
    'auxcred',
    'gives every systemd unit its own secrets at boot',
    section('synopsis', lines(`${bold('auxcred')} ${italic('VERB')} [${italic('OPTION')}...] [${italic('NAME')}...]`)),
    section(
      'description',
      paragraph(
        plain(
          "A machine holds one 32-byte seed, sealed to its TPM or to its ssh host key, and each service's secret " +
            'is derived from it when the service starts. No secret is stored and none is fetched: there is no secret ' +
            'server and no network at boot. The manifest says which unit gets which secret; a unit reads them in ' +
            '$CREDENTIALS_DIRECTORY.',
        ),
      ),
      paragraph(
        plain(
          'Secrets that somebody else issued are kept in the fixed folder, one file each, encrypted under a key ' +
            'that is derived from the seed and their name.',
        ),
      ),
    ),
    verbsSection(),
    section(
      'options',
      term(bold('--help'), plain('List all verbs. With a verb: show its options and examples.')),
      term(bold('--version'), plain('Print the version.')),
    ),
    statusSection(markdown),
    environmentSection(),
    filesSection(),
    section(
      'examples',
      literal([
        '# auxcred seal --with-key=tpm2 --tpm2-pcrs=4+7 --recipient=age1...',
        '# cat > /etc/auxcred/secrets.d/web.toml',
        '[secret.session-key]',
        'kind  = "hex"',
        'units = ["web.service"]',
        '# auxcred apply',
        '# systemctl restart web.service',
      ]),
    ),
    seeAlso('auxcred-secrets(5)', 'auxcred.service(8)', 'systemd.exec(5)', 'age(1)', 'systemd-creds(1)'),
  );
}

const manifestPage = (tasks: string, rules: string): ManPage =>
  page(
    'auxcred-secrets',
    5,
    'auxcred',
    'the manifest: which unit gets which secret',
    section(
      'synopsis',
      paragraph(italic('/etc/auxcred/secrets.d/*.toml')),
      paragraph(italic('/run/auxcred/secrets.d/*.toml')),
      paragraph(italic('/usr/lib/auxcred/secrets.d/*.toml')),
    ),
    section('description', fromMarkdown(chapter(tasks, 'Manifest'))),
    section('templates', fromMarkdown(chapter(rules, 'Templates'))),
    section('hooks', fromMarkdown(chapter(tasks, 'Hooks'))),
    section(
      'examples',
      literal([
        '[secret.db-password]',
        'share  = "db"',
        'rotate = "monthly"',
        'units  = ["postgresql.service"]',
        'hook   = ["/usr/local/sbin/set-db-password"]',
        '',
        '[secret.wifi]',
        'kind  = "fixed"',
        'units = ["iwd.service"]',
      ]),
    ),
    seeAlso('auxcred(1)', 'auxcred-check(1)', 'auxcred-apply(1)', 'auxcred-put(1)'),
  );

const units: readonly (readonly [string, string])[] = [
  [
    'auxcred.socket',
    "The socket on which systemd asks for a unit's credentials: /run/auxcred/encrypted.sock. Every drop-in wants it.",
  ],
  [
    'auxcred.service',
    'The broker. Opens the seeds once, gives each unit its own secrets, and exits after an idle minute.',
  ],
  [
    'auxcred-stage.socket',
    'The socket on which auxcred stage asks for secrets with delivery = "stage": /run/auxcred/stage.sock.',
  ],
  [
    'auxcred-host-secret.service',
    'Runs before the broker: has systemd-creds create the host secret with which answers are encrypted, if there ' +
      'is none.',
  ],
  [
    'auxcred-provision.service',
    'Runs at boot, before the broker, if the manifest was changed without auxcred apply, or the seeds lock after it.',
  ],
  [
    'auxcred-bind.service',
    'Runs at the first boot after an installation: seals the seed again, to the requested PCRs.',
  ],
  [
    'auxcred-files.service',
    'Writes secrets with delivery = "file" at boot, before sysinit.target. Enabled by auxcred apply if the manifest ' +
      'declares any.',
  ],
  ['auxcred-user-files.service', 'Writes those with needed-for = "users", before users are made.'],
  [
    'auxcred-rotate.timer',
    'Starts auxcred-rotate.service, which activates the secrets of a new period at its start in UTC. If that fails, ' +
      'it is tried again every ten minutes, and is failed after the sixth time.',
  ],
];

const servicePage = (markdown: string): ManPage =>
  page(
    'auxcred.service',
    8,
    'auxcred',
    'the broker that hands units their secrets, and the units around it',
    section(
      'description',
      paragraph(
        plain(
          "When a unit starts that has LoadCredentialEncrypted= in one of auxcred's drop-ins, systemd connects to " +
            "the socket and decrypts the broker's answer. Only a complete answer, made for that credential within " +
            "the last minute, decrypts: if anything goes wrong, the unit's start fails with status 243/CREDENTIALS.",
        ),
      ),
    ),
    section('units', ...units.map(([name, text]) => term(bold(name), plain(text)))),
    section('drop-ins', fromMarkdown(chapter(markdown, 'Rendered drop-ins'))),
    section('credentials socket', fromMarkdown(chapter(markdown, 'Credentials socket'))),
    section('stage socket', fromMarkdown(chapter(markdown, 'Stage socket'))),
    section('journal', fromMarkdown(chapter(markdown, 'Journal'))),
    section(
      'examples',
      paragraph('What a unit was given, and what it was refused:'),
      literal(["journalctl -u 'auxcred*' AUXCRED_UNIT=web.service"]),
      paragraph('Why the seed does not open:'),
      literal(['journalctl -b -u auxcred.service -p err']),
    ),
    seeAlso('auxcred(1)', 'auxcred-secrets(5)', 'systemd.exec(5)', 'systemd.socket(5)'),
  );
