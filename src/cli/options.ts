import { statSync } from 'node:fs';
import mri from 'mri';
import { Failure } from '../failure.ts';
import { nearest } from '../nearest.ts';
import { manual, type Verb } from './manual.ts';

/** The options of a call, before a verb interprets them. */
export class Options {
  readonly operands: readonly string[];
  #given: Readonly<Record<string, unknown>>;
  readonly #verb: Verb;

  /**
   * @throws Failure `usage` for an unknown option, a flag with a value, a missing value, or a `--root` without folder
   */
  constructor(verb: Verb, argv: readonly string[]) {
    const entries = manual[verb].options;
    const flags = entries.filter(({ value }) => value === undefined).map(({ name }) => name);
    const values = entries.filter(({ value }) => value !== undefined);
    this.#verb = verb;
    const known = entries.map(({ name }) => name);
    for (const name of flags)
      if (argv.some((argument) => argument.startsWith(`--${name}=`)))
        throw new Failure('usage', `--${name} of ${verb} takes no value`);
    const { _: operands, ...parsed } = mri([...argv], {
      boolean: flags.filter((name) => !name.startsWith('no-')),
      string: values.map(({ name }) => name),
    });
    // mri reads --no-x as x = false; here it is an option of its own.
    const negated = argv.flatMap((argument) => /^--(no-[^=]*)$/.exec(argument)?.[1] ?? []);
    const given: Record<string, unknown> = Object.fromEntries([
      ...Object.entries(parsed).filter(([name]) => !negated.includes(`no-${name}`)),
      ...negated.map((name) => [name, true]),
    ]);
    for (const name of Object.keys(given)) if (!known.includes(name)) throw unknownOption(verb, name, known);
    this.operands = operands;
    this.#given = given;
    for (const { name, value, optional } of values)
      if (optional !== true && this.list(name).includes(''))
        throw new Failure('usage', `--${name} of ${verb} needs a value: auxcred ${verb} --${name}=${value ?? '...'}`);
    for (const { name, repeated } of values)
      if (repeated !== true && this.list(name).length > 1)
        throw new Failure('usage', `--${name} of ${verb} is given more than once`);
    const root = this.value('root');
    // A folder that is missing would be made, and the system meant left as it is.
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

  flag(name: string): boolean {
    return this.#given[name] === true;
  }

  value(name: string): string | undefined {
    return this.list(name)[0];
  }

  list(name: string): string[] {
    const given = this.#given[name];
    if (given === undefined) return [];
    return (Array.isArray(given) ? given : [given]).map(String);
  }

  /**
   * @param names - names of the operands in words: `the name of a secret`
   * @throws Failure `usage` unless there are exactly as many operands as names.
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

  /** How the verb is called with its operands, without optional options: `auxcred mv FROM TO`. */
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

function unknownOption(verb: string, name: string, known: readonly string[]): Failure {
  const options = known.map((item) => `--${item}`);
  const near = options.find((option) => option.startsWith(`--${name}`) || `--${name}`.startsWith(option));
  const hint = near === undefined ? nearest(`--${name}`, options) : `did you mean ${near}?`;
  return new Failure('usage', `auxcred ${verb} has no option ${name.length === 1 ? '-' : '--'}${name}`, {
    hint: hint ?? `it takes ${options.join(', ') || 'no options'}`,
  });
}
