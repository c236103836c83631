import { statSync } from 'node:fs';
import mri from 'mri';
import { Failure } from '../failure.ts';
import { nearest } from '../nearest.ts';
import { manual, type OptionEntry, type Verb } from './manual.ts';
import { dashed, written } from './option-text.ts';

/** The options of a call, before a verb interprets them. */
export class Options {
  readonly operands: readonly string[];
  #given: Readonly<Record<string, unknown>>;
  readonly #verb: Verb;

  /**
   * @throws Failure `usage` for an unknown option, a flag with a value, a missing value, or a `--root` without folder
   */
  constructor(verb: Verb, argv: readonly string[]) {
    this.#verb = verb;
    const entries: readonly OptionEntry[] = manual[verb].options;
    const { operands, given } = parsed(verb, entries, argv);
    this.operands = operands;
    this.#given = given;
    for (const entry of entries.filter(({ value }) => value !== undefined)) {
      const values = this.list(entry.name);
      const option = `${dashed(verb, entry.name)} of ${verb}`;
      if (entry.optional !== true && values.includes(''))
        throw new Failure('usage', `${option} needs a value: auxcred ${verb} ${written(verb, entry)}`);
      if (entry.repeated !== true && values.length > 1) throw new Failure('usage', `${option} is given more than once`);
    }
    const root = this.value('root');
    // Otherwise the work would create that folder, and leave the intended system as it is.
    if (root !== undefined && statSync(root, { throwIfNoEntry: false })?.isDirectory() !== true)
      throw new Failure('usage', `--root=${root} is not a folder`, {
        hint: 'the root folder of a mounted system, as in --root=/mnt',
      });
  }

  /** The same options with one value replaced, and no operands. */
  with(name: string, value: string): Options {
    const other = new Options(this.#verb, []);
    other.#given = { ...this.#given, [name]: value };
    return other;
  }

  /** Whether a flag is given. */
  flag(name: string): boolean {
    return this.#given[name] === true;
  }

  /** The value of an option, the first one if it may be repeated. */
  value(name: string): string | undefined {
    return this.list(name)[0];
  }

  /** All values of an option that may be repeated, in their order. */
  list(name: string): string[] {
    const given = this.#given[name];
    if (given === undefined) return [];
    return (Array.isArray(given) ? given : [given]).map(String);
  }

  /**
   * @param names - names of the operands in words: `the name of a secret`
   * @throws Failure `usage` unless there are as many operands as names
   */
  exactly(...names: readonly string[]): readonly string[] {
    const extra = this.operands[names.length];
    if (extra !== undefined) {
      const taken = names.length === 0 ? 'no argument' : `only ${names.join(' and ')}`;
      throw new Failure('usage', `${this.#verb} takes ${taken}, and ${JSON.stringify(extra)} is one too many`);
    }
    const missing = names[this.operands.length];
    if (missing !== undefined) throw this.lacks(missing);
    return this.operands;
  }

  /** The failure of a call that lacks something. @param form - a complete call; by default the verb's own usage */
  lacks(what: string, form = this.form): Failure {
    return new Failure('usage', `${this.#verb} needs ${what}: ${form}`);
  }

  /** The verb's first usage that is more than optional parts, without these: `auxcred mv FROM TO`. */
  private get form(): string {
    const forms = manual[this.#verb].usage.map((line) =>
      line
        .replaceAll(/\[[^\]]*\]/g, '')
        .replaceAll(/ +/g, ' ')
        .trim(),
    );
    return `auxcred ${this.#verb} ${forms.find((line) => line !== '') ?? ''}`.trimEnd();
  }
}

const hidden = '\0';

/**
 * Splits arguments into operands and options. A flag is `true`; an option with a value is a text, or a list of several.
 * @throws Failure `usage` for an unknown option, or a flag with a value
 */
function parsed(
  verb: Verb,
  entries: readonly OptionEntry[],
  argv: readonly string[],
): { readonly operands: readonly string[]; readonly given: Readonly<Record<string, unknown>> } {
  const end = argv.indexOf('--');
  const own = end === -1 ? argv : argv.slice(0, end);
  const known = entries.map(({ name }) => name);
  const flags = entries.filter(({ value }) => value === undefined).map(({ name }) => name);
  for (const name of flags)
    if (own.some((argument) => argument.startsWith(`--${name}=`)))
      throw new Failure('usage', `--${name} of ${verb} takes no value`);
  // Without a value of its own, mri would take the word after a flag. It reads --no-x as the opposite of x, which here
  // is another option, so its name is hidden behind a character that no argument can have.
  const typedFlags = flags.map((name) => `--${name}`);
  const explicit = own.map(
    (argument) => argument.replace(/^--no-/, `--${hidden}no-`) + (typedFlags.includes(argument) ? '=true' : ''),
  );
  const { _: operands, ...options } = mri([...explicit, ...argv.slice(own.length)], {
    boolean: flags.map((name) => name.replace(/^no-/, `${hidden}no-`)),
    string: known.filter((name) => !flags.includes(name)),
  });
  const given = Object.entries(options).map(([marked, value]): [string, unknown] => {
    const name = marked.replace(hidden, '');
    return [name, flags.includes(name) || value];
  });
  for (const [name] of given) if (!known.includes(name)) throw unknownOption(verb, name, known);
  return { operands, given: Object.fromEntries(given) };
}

function unknownOption(verb: Verb, name: string, known: readonly string[]): Failure {
  const options = known.map((item) => dashed(verb, item));
  const near = options.find((option) => option.startsWith(`--${name}`) || `--${name}`.startsWith(option));
  const hint = near === undefined ? nearest(`--${name}`, options) : `did you mean ${near}?`;
  return new Failure('usage', `auxcred ${verb} has no option ${name.length === 1 ? '-' : '--'}${name}`, {
    hint: hint ?? `it takes ${options.join(', ') || 'no options'}`,
  });
}
