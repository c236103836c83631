import { Failure } from '../failure.ts';

/** gokey's own flags, with its names and defaults. */
export interface GokeyFlags {
  /** File of the master password. */
  readonly P: string;
  /** Realm. */
  readonly r: string;
  /** Seed file. */
  readonly s: string;
  /** Type. */
  readonly t: string;
  /** The file that is written instead of standard output. */
  readonly o: string;
  /** Bytes of the seed file to skip. */
  readonly skip: number;
  /** Characters or bytes; undefined if the flag was not given. */
  readonly l: number | undefined;
  /** Whether keys may be derived from the master password alone. */
  readonly u: boolean;
}

/**
 * Parses flags as Go's package flag does: one dash or two, a value after `=` or in the next argument, and no more flags
 * after `--` or the first other argument. Numbers and booleans are read as by Go's strconv, so `-l 010` is 8.
 * @returns undefined if `-h` or `-help` comes before any mistake
 * @throws Failure `usage` for flags that gokey refuses too, and for `-p`
 */
export function parseFlags(argv: readonly string[]): GokeyFlags | undefined {
  const texts = { P: '', r: '', s: '', t: 'pass', o: '' };
  let [skip, l, u]: [number, number | undefined, boolean] = [0, undefined, false];
  for (let i = 0; i < argv.length; i++) {
    const argument = argv[i] ?? '';
    if (!argument.startsWith('-') || argument === '-' || argument === '--') break;
    const [, name, assigned] = /^--?([^-=][^=]*)(?:=(.*))?$/s.exec(argument) ?? [];
    if (name === undefined) throw new Failure('usage', `bad flag syntax: ${argument}`);
    const value = (): string => {
      const text = assigned ?? argv[++i];
      if (text === undefined) throw new Failure('usage', `flag needs an argument: -${name}`);
      return text;
    };
    switch (name) {
      case 'P':
      case 'r':
      case 's':
      case 't':
      case 'o':
        texts[name] = value();
        break;
      case 'l':
        l = whole(name, value());
        break;
      case 'skip':
        skip = whole(name, value());
        break;
      case 'u':
        u = assigned === undefined || truth(name, assigned);
        break;
      case 'p':
        throw new Failure(
          'usage',
          '-p would show the master password to every process on this machine: ' +
            'give it in a file (-P FILE), in GOKEY_ROOT_PASS or at the prompt',
        );
      case 'h':
      case 'help':
        return undefined;
      default:
        throw new Failure('usage', `flag provided but not defined: -${name}`);
    }
  }
  return { ...texts, skip, l, u };
}

/** strconv.ParseInt with base 0: 0x, 0o, 0b, a leading 0 for octal, and single underscores between digits. */
function whole(name: string, text: string): number {
  const [, sign, digits] =
    /^([+-]?)(0x(?:_?[\da-f])+|0o(?:_?[0-7])+|0b(?:_?[01])+|0(?:_?[0-7])*|[1-9](?:_?\d)*)$/i.exec(text) ?? [];
  if (digits === undefined)
    throw new Failure('usage', `invalid value ${JSON.stringify(text)} for flag -${name}: parse error`);
  const size = BigInt(digits.replaceAll('_', '').replace(/^0(?=\d)/, '0o'));
  const number = sign === '-' ? -size : size;
  if (BigInt.asIntN(64, number) !== number)
    throw new Failure('usage', `invalid value ${JSON.stringify(text)} for flag -${name}: value out of range`);
  return Number(number);
}

/** strconv.ParseBool. */
function truth(name: string, text: string): boolean {
  if (['1', 't', 'T', 'true', 'TRUE', 'True'].includes(text)) return true;
  if (['0', 'f', 'F', 'false', 'FALSE', 'False'].includes(text)) return false;
  throw new Failure('usage', `invalid boolean value ${JSON.stringify(text)} for -${name}: parse error`);
}
