import mri from 'mri';
import { Failure } from '../failure.ts';
import { nearest } from '../nearest.ts';
import { type Verb, manual } from './manual.ts';

/** Options as given, before a verb makes sense of them. */
export class Options {
  readonly operands: readonly string[];
  #given: Readonly<Record<string, unknown>>;
  readonly #verb: Verb;

  /** @throws Failure `usage` for an unknown option, a flag with a value or a value that is missing. */
  constructor(verb: Verb, argv: readonly string[]) {
    const entries = manual[verb].options;
    const flags = entries.filter(({ value }) => value === undefined).map(({ name }) => name);
    const values = entries.filter(({ value }) => value !== undefined);
    this.#verb = verb;
    const known = entries.map(({ name }) => name);
    for (const name of flags) if (argv.some((argument) => argument.startsWith(`--${name}=`))) throw new Failure('usage', `--${name} takes no value`);
    const { _: operands, ...parsed } = mri([...argv], { boolean: flags.filter((name) => !name.startsWith('no-')), string: values.map(({ name }) => name) });
    // mri takes --no-x for x = false; here it is an option of its own.
    const negated = argv.flatMap((argument) => /^--(no-[^=]*)$/.exec(argument)?.[1] ?? []);
    const given: Record<string, unknown> = Object.fromEntries([...Object.entries(parsed).filter(([name]) => !negated.includes(`no-${name}`)), ...negated.map((name) => [name, true])]);
    for (const name of Object.keys(given)) if (!known.includes(name)) throw unknownOption(verb, name, known);
    this.operands = operands;
    this.#given = given;
    for (const { name, value } of values) if (this.list(name).includes('')) throw new Failure('usage', `--${name} needs a value`, { hint: `--${name}=${value ?? '...'}` });
    for (const { name, repeated } of values) if (repeated !== true && this.list(name).length > 1) throw new Failure('usage', `--${name} is given more than once`);
  }

  /** The same options with another value of one of them, and no operands. */
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

  /** @throws Failure `usage` unless there are exactly as many operands as names. */
  exactly(...names: readonly string[]): readonly string[] {
    const extra = this.operands[names.length];
    if (extra !== undefined) throw new Failure('usage', `unexpected argument ${extra}`);
    const missing = names[this.operands.length];
    if (missing !== undefined) throw new Failure('usage', `${missing} is missing`);
    return this.operands;
  }
}

function unknownOption(verb: string, name: string, known: readonly string[]): Failure {
  const options = known.map((item) => `--${item}`);
  const near = options.find((option) => option.startsWith(`--${name}`) || `--${name}`.startsWith(option));
  const hint = near === undefined ? nearest(`--${name}`, options) : `did you mean ${near}?`;
  return new Failure('usage', `auxcred ${verb} has no option ${name.length === 1 ? '-' : '--'}${name}`, { hint: hint ?? `it takes ${options.join(', ') || 'no options'}` });
}
