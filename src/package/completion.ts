/** Completion scripts for bash, zsh and fish, generated from the manual. */
import {
  hasOwnFlags,
  manual,
  nameLists,
  type OptionEntry,
  type Verb,
  type VerbEntry,
  verbNames,
} from '../cli/manual.ts';
import { dashed, isShort } from '../cli/option-text.ts';

/** Files below share/, where Debian's shells look for them. */
export const completionFiles = {
  bash: 'bash-completion/completions/auxcred',
  zsh: 'zsh/vendor-completions/_auxcred',
  fish: 'fish/vendor_completions.d/auxcred.fish',
} as const;
export type Shell = keyof typeof completionFiles;

type Choices = NonNullable<OptionEntry['choices']>;

const header = "# Generated from auxcred's own table of verbs and options.";
/** The verbs to offer. The others are called by units and programs; their options still complete. */
const isOffered = (verb: Verb): boolean => manual[verb].group !== 'units';
const entryOf = (verb: Verb): VerbEntry => manual[verb];
const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

/** The completion script of each shell. */
export const completion: Readonly<Record<Shell, () => string>> = {
  bash: () => `${header}

# Names are never expanded: they are untrusted, and this is a shell.
_auxcred_offer() {
    local name
    while IFS= read -r name; do
        [[ $name == "$cur"* ]] && COMPREPLY+=("$(printf %q "$name")")
    done
}

_auxcred_complete() {
    local -a whose=()
    local word
    case $1 in
        '') ;;
        file) _filedir ;;
        folder) _filedir -d ;;
        ${nameLists.join(' | ')})
            for word in "\${words[@]}"; do
                case $word in --host=* | --group=* | --vault=* | --root=*) whose+=("$word") ;; esac
            done
            _auxcred_offer < <(auxcred names "$1" "\${whose[@]}" 2> /dev/null)
            ;;
        *) COMPREPLY=($(compgen -W "$1" -- "$cur")) ;;
    esac
}

_auxcred() {
    local cur prev words cword
    _init_completion -n = || return
    local verb=\${words[1]-} operand=0 word
    if [[ $cword -eq 1 ]]; then
        COMPREPLY=($(compgen -W '${[...verbNames.filter(isOffered), 'help', '--help', '--version'].join(' ')}' -- "$cur"))
        return
    fi
    for word in "\${words[@]:2:cword-2}"; do
        [[ $word == -* ]] || operand=$((operand + 1))
    done
    if [[ $cur == --*=* ]]; then
        word=\${cur%%=*}
        cur=\${cur#*=}
        case "$verb $word" in
${indented(12, cases(choicesOfOptions()))}
        esac
        return
    fi
    case "$verb $prev" in
${indented(
  8,
  cases(
    verbNames.flatMap((verb) =>
      entryOf(verb).options.flatMap(({ name, value, choices }): [string, Choices][] =>
        value === undefined || !isShort(verb, name) ? [] : [[`'${verb} ${dashed(verb, name)}'`, choices ?? []]],
      ),
    ),
  ).map((line) => line.replace(/ ;;$/, '; return ;;')),
)}
    esac
    if [[ $cur == -* ]]; then
        case $verb in
${indented(
  12,
  verbNames.map((verb) => `${verb}) COMPREPLY=($(compgen -W '${optionWords(verb)}' -- "$cur")) ;;`),
)}
        esac
        [[ \${COMPREPLY-} == *= ]] && compopt -o nospace
        return
    fi
    case "$verb $operand" in
        'help 0') _auxcred_complete '${verbNames.join(' ')}' ;;
${indented(
  8,
  [false, true].flatMap((last) =>
    cases(
      verbNames.flatMap((verb) =>
        operandsOf(verb)
          .filter(({ isLast }) => isLast === last)
          .map(({ choices, from }): [string, Choices] => [last ? `'${verb} '*` : `'${verb} ${String(from)}'`, choices]),
      ),
    ),
  ),
)}
    esac
} &&
    complete -F _auxcred auxcred
`,

  zsh: () => `#compdef auxcred
${header}

_auxcred_names() {
    local -a found
    found=(\${(f)"$(auxcred names $1 \${(Q)\${(M)words:#--(host|group|vault|root)=*}} 2> /dev/null)"})
    compadd -- $found
}

_auxcred() {
    local -a verbs
    verbs=(
${indented(
  8,
  verbNames.filter(isOffered).map((verb) => quoted(`${verb}:${entryOf(verb).summary.replaceAll(':', '\\:')}`)),
)}
        'help:a verb, its options and examples'
    )
    if (( CURRENT == 2 )); then
        _describe -t verbs verb verbs
        return
    fi
    local verb=$words[2]
    shift words
    (( CURRENT-- ))
    case $verb in
        help) _arguments '1:verb: _auxcred_names verbs' ;;
${indented(
  8,
  verbNames.map((verb) => `${verb}) _arguments ${zshArguments(verb)} ;;`),
)}
    esac
}

_auxcred "$@"
`,

  fish: () => `${header}

function __auxcred_names
    auxcred names $argv (commandline -opc | string match --regex -- '^--(?:host|group|vault|root)=.*') 2>/dev/null
end

# Whether the verb is this one.
function __auxcred_verb
    set -l words (commandline -opc)
    test (count $words) -ge 2; and contains -- $words[2] $argv
end

# Whether the verb is this one and an operand from this number on is wanted.
function __auxcred_operand
    __auxcred_verb $argv[1]; or return 1
    set -l given (count (commandline -opc | string match --invert -- '-*'))
    test $given -ge (math $argv[2] + 2); and test $given -le (math $argv[3] + 2)
end

complete -c auxcred -f
complete -c auxcred -n 'test (count (commandline -opc)) -eq 1' -a help -d 'a verb, its options and examples'
complete -c auxcred -n '__auxcred_verb help' -a '${verbNames.join(' ')}'
${verbNames
  .flatMap((verb) => [
    ...(isOffered(verb)
      ? [
          `complete -c auxcred -n 'test (count (commandline -opc)) -eq 1' -a ${verb} -d ${fishQuoted(entryOf(verb).summary)}`,
        ]
      : []),
    ...entryOf(verb).options.map((option) => fishOption(verb, option)),
    ...operandsOf(verb).map(
      ({ choices, from, isLast }) =>
        `complete -c auxcred -n '__auxcred_operand ${verb} ${String(from)} ${String(isLast ? 9999 : from)}'${fishChoices(choices)}`,
    ),
  ])
  .join('\n')}
`,
};

/** The choices of each operand; the last entry also serves all that follow. */
const operandsOf = (verb: Verb): { readonly choices: Choices; readonly from: number; readonly isLast: boolean }[] => {
  const { operands = [] } = entryOf(verb);
  return operands.map((choices, from) => ({ choices, from, isLast: from === operands.length - 1 }));
};

const indented = (columns: number, lines: readonly string[]): string =>
  lines.map((line) => `${' '.repeat(columns)}${line}`).join('\n');

/** The arms of a case; those with the same answer share one. */
function cases(entries: readonly (readonly [string, Choices])[]): string[] {
  const patterns = new Map<string, string[]>();
  for (const [pattern, choices] of entries) {
    const offered = typeof choices === 'string' ? choices : choices.join(' ');
    patterns.set(offered, [...(patterns.get(offered) ?? []), pattern]);
  }
  return [...patterns].map(([offered, all]) => `${all.join(' | ')}) _auxcred_complete '${offered}' ;;`);
}

const zshChoices = (choices: OptionEntry['choices']): string => {
  if (choices === undefined) return ' ';
  if (typeof choices !== 'string') return `(${choices.join(' ')})`;
  return choices === 'file' ? '_files' : choices === 'folder' ? '_files -/' : ` _auxcred_names ${choices}`;
};

function zshOption(verb: Verb, { name, value, optional, help, repeated, choices }: OptionEntry): string {
  const said = `[${help.replaceAll(/[[\]:]/g, '\\$&')}]`;
  if (value === undefined) return quoted(`${dashed(verb, name)}${said}`);
  const flag = `${repeated === true ? '*' : ''}${dashed(verb, name)}${isShort(verb, name) ? '' : '=-'}`;
  const colon = optional === true ? '::' : ':';
  return quoted(`${flag}${said}${colon}${value.replaceAll(':', '\\:')}:${zshChoices(choices)}`);
}

/** What zsh's _arguments is told of a verb. */
function zshArguments(verb: Verb): string {
  const options = entryOf(verb).options.map((option) => zshOption(verb, option));
  const operands = operandsOf(verb).map(({ choices, from, isLast }) =>
    quoted(`${isLast ? '*' : String(from + 1)}:name:${zshChoices(choices)}`),
  );
  return [...options, ...operands].join(' ');
}

/** A verb's options as bash completes them; `=` follows those with a value. */
function optionWords(verb: Verb): string {
  const options = entryOf(verb).options.map(({ name, value }) => {
    return `${dashed(verb, name)}${value === undefined || isShort(verb, name) ? '' : '='}`;
  });
  return [...options, '--help'].join(' ');
}

/** The options with a list of choices, as `'VERB --NAME'`, but for verbs with flags of their own. */
function choicesOfOptions(): [string, Choices][] {
  return verbNames
    .filter((verb) => !hasOwnFlags(verb))
    .flatMap((verb) =>
      entryOf(verb).options.flatMap(({ name, choices }): [string, Choices][] =>
        choices === undefined ? [] : [[`'${verb} --${name}'`, choices]],
      ),
    );
}

const fishQuoted = (text: string): string => `'${text.replaceAll(/['\\]/g, '\\$&')}'`;

const fishChoices = (choices: OptionEntry['choices']): string => {
  if (choices === undefined) return '';
  if (typeof choices !== 'string') return ` -a '${choices.join(' ')}'`;
  return choices === 'file'
    ? ' -F'
    : choices === 'folder'
      ? " -a '(__fish_complete_directories)'"
      : ` -a '(__auxcred_names ${choices})'`;
};

function fishOption(verb: Verb, { name, value, help, choices }: OptionEntry): string {
  // fish calls a single letter short (-s), and more letters after one dash old (-o).
  const form = name.length === 1 ? '-s' : hasOwnFlags(verb) ? '-o' : '-l';
  const wanted = value === undefined ? '' : choices === 'file' ? ' -r -F' : ` -x${fishChoices(choices)}`;
  return `complete -c auxcred -n '__auxcred_verb ${verb}' ${form} ${name}${wanted} -d ${fishQuoted(help)}`;
}
