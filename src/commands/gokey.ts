import { readFileSync } from 'node:fs';
import { timingSafeEqual } from 'node:crypto';
import { Failure, messageOf } from '../failure.ts';
import { gokey as derive, type GokeyType, gokeyTypes } from '../gokey/gokey.ts';
import { makeSeedFile } from '../gokey/seed-file.ts';
import { utf8 } from '../derive/framing.ts';
import { replaceFile } from '../system/files.ts';
import { askSecret } from './prompt.ts';
import { printBytes, say } from './say.ts';
import { trimmed } from './source.ts';

/** What gokey's own flags ask for; its names, its defaults. */
interface Flags {
  P: string;
  r: string;
  s: string;
  skip: string;
  t: string;
  l: string | undefined;
  o: string;
  u: boolean;
}

/** gokey's own exit statuses: 1 for whatever went wrong, 2 for flags that it does not understand. */
const failed = 1;
const misunderstood = 2;

/**
 * `auxcred gokey`: gokey's own flags and bytes (0.2.0). The master password comes from `-P FILE`, GOKEY_ROOT_PASS or the terminal;
 * `-p` is refused, since every process on the machine can read the arguments of all others.
 */
export async function gokey(argv: readonly string[]): Promise<number> {
  let flags: Flags;
  try {
    flags = parse(argv);
  } catch (error) {
    say(messageOf(error));
    return misunderstood;
  }
  try {
    write(flags, run(flags));
    return await Promise.resolve(0);
  } catch (error) {
    say(messageOf(error));
    if (error instanceof Failure && error.hint !== undefined) say(`hint: ${error.hint}`);
    return failed;
  }
}

/** As Go's package flag reads them: one dash or two, a value after `=` or in the next argument, and nothing more after the first argument that is no flag. */
function parse(argv: readonly string[]): Flags {
  const flags: Flags = { P: '', r: '', s: '', skip: '0', t: 'pass', l: undefined, o: '', u: false };
  for (let i = 0; i < argv.length; i++) {
    const [, name, assigned] = /^--?([^-=][^=]*)(?:=(.*))?$/s.exec(argv[i] ?? '') ?? [];
    if (name === undefined) break;
    const value = (): string => {
      const next = assigned ?? argv[++i];
      if (next === undefined) throw new Failure('usage', `flag needs an argument: -${name}`);
      return next;
    };
    const whole = (): string => {
      const text = value();
      if (!/^[+-]?\d+$/.test(text)) throw new Failure('usage', `invalid value ${JSON.stringify(text)} for flag -${name}: parse error`);
      return text;
    };
    switch (name) {
      case 'P': case 'r': case 's': case 't': case 'o':
        flags[name] = value();
        break;
      case 'l': case 'skip':
        flags[name] = whole();
        break;
      case 'u':
        if (assigned !== undefined && !['1', 't', 'T', 'true', 'TRUE', 'True', '0', 'f', 'F', 'false', 'FALSE', 'False'].includes(assigned)) throw new Failure('usage', `invalid boolean value ${JSON.stringify(assigned)} for -u: parse error`);
        flags.u = assigned === undefined || /^(?:1|t)/i.test(assigned);
        break;
      case 'p':
        throw new Failure('usage', '-p would show the master password to every process on this machine: give it in a file (-P FILE), in GOKEY_ROOT_PASS or at the prompt');
      default:
        throw new Failure('usage', `flag provided but not defined: -${name}`);
    }
  }
  return flags;
}

/** The caller wipes it. */
function run({ P, r, s, skip, t, l, u }: Flags): Uint8Array {
  if (t === 'seed') {
    if (l !== undefined) throw new Failure('usage', 'key type seed does not support length parameter');
    return withPassword(P, true, makeSeedFile);
  }
  if (r === '') throw new Failure('usage', 'no realm provided');
  const type = gokeyTypes.find((known) => known === t);
  if (!type) throw unknownType(t);
  if (l !== undefined && Number(l) < 1 && (type === 'pass' || type === 'raw')) throw new Failure('usage', 'invalid length parameter');
  if (!/^\+?\d/.test(skip) && s !== '') throw new Failure('usage', 'invalid skip parameter');
  const file = s === '' ? undefined : new Uint8Array(readFileSync(s));
  if (file && Number(skip) >= file.length) throw new Failure('usage', 'invalid skip parameter');
  return withPassword(P, file === undefined, (masterPassword) => derive({ masterPassword, realm: r, type, allowUnsafe: u, ...(file ? { seed: file.subarray(Number(skip)) } : {}), ...lengthOf(type, l) }));
}

const lengthOf = (type: GokeyType, given: string | undefined): { length?: number } => (given === undefined ? {} : { length: type === 'pass' || type === 'raw' ? Number(given) : Number.NaN });

function unknownType(type: string): Failure {
  if (!/^rsa(?:2048|4096)$/.test(type)) return new Failure('usage', `unknown key type: ${type}`);
  return new Failure('usage', `auxcred makes no ${type} keys: how gokey finds their primes hangs on the version of Go`, {
    hint: `the program itself can be a vault: [vault.gokey-rsa] with get = ["gokey", "-P", "FILE", "-s", "SEED", "-r", "{name}", "-t", "${type}"] in vault.toml`,
  });
}

function withPassword(file: string, twice: boolean, work: (masterPassword: Uint8Array) => Uint8Array): Uint8Array {
  const password = masterPassword(file, twice);
  try {
    return work(password);
  } finally {
    password.fill(0);
  }
}

function masterPassword(file: string, twice: boolean): Uint8Array {
  const given = file === '' ? utf8(process.env['GOKEY_ROOT_PASS'] ?? '') : trimmed(new Uint8Array(readFileSync(file)));
  if (given.length > 0) return given;
  const hint = '-P FILE or GOKEY_ROOT_PASS';
  const first = askSecret('Master password', hint);
  if (!twice) return first;
  const second = askSecret('Master password again', hint);
  try {
    if (first.length === second.length && timingSafeEqual(first, second)) return first;
  } finally {
    second.fill(0);
  }
  throw new Failure('usage', 'passwords do not match');
}

function write({ o }: Flags, output: Uint8Array): void {
  if (o === '') printBytes(output);
  else replaceFile(o, output, { mode: 0o600 });
  output.fill(0);
}
