import { timingSafeEqual } from 'node:crypto';
import { lstatSync, readFileSync, writeFileSync } from 'node:fs';
import { utf8 } from '../bytes.ts';
import { optionLines } from '../cli/help.ts';
import { Failure, messageOf } from '../failure.ts';
import { type GokeyFlags, parseFlags } from '../gokey/flags.ts';
import { gokey as derive, gokeyTypes } from '../gokey/gokey.ts';
import { makeSeedFile } from '../gokey/seed-file.ts';
import { trimSpace } from '../gokey/white-space.ts';
import { replaceFile } from '../system/files.ts';
import { writeAbove } from '../terminal/progress.ts';
import { askSecret } from '../terminal/prompt.ts';
import { printBytes, say } from '../terminal/say.ts';

/** gokey's own exit statuses: 1 for any failure, 2 for unknown flags. */
const failed = 1;
const misunderstood = 2;

/**
 * `auxcred gokey`: gokey's command line and output (0.2.0). The master password comes from `-P FILE`, GOKEY_ROOT_PASS
 * or the terminal; `-p` is refused, since every process on the machine can read the arguments of all others.
 *
 * The exit statuses are gokey's too, except where gokey crashes (2), on a seed file under 12 bytes or a length beyond
 * memory: those are 1 here.
 */
export async function gokey(argv: readonly string[]): Promise<number> {
  let flags: GokeyFlags | undefined;
  try {
    flags = parseFlags(argv);
  } catch (error) {
    say(messageOf(error));
    return misunderstood;
  }
  if (!flags) {
    say("gokey's flags");
    writeAbove(`${optionLines('gokey')}\n`);
    return 0;
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

/** The caller wipes it. */
function run({ P, r, s, skip, t, l, u }: GokeyFlags): Uint8Array {
  if (t === 'seed') return withPassword(P, true, makeSeedFile);
  if (r === '') throw new Failure('usage', 'no realm provided');
  const realm = asGiven('the realm', r);
  const type = gokeyTypes.find((known) => known === t);
  if (!type) throw unknownType(t);
  const file = s === '' ? undefined : readFileSync(s);
  try {
    if (file && (skip < 0 || skip >= file.length)) throw new Failure('usage', 'invalid skip parameter');
    return withPassword(P, file === undefined, (masterPassword) =>
      derive({
        masterPassword,
        realm,
        type,
        allowUnsafe: u,
        ...(file ? { seed: file.subarray(skip) } : {}),
        ...(l === undefined ? {} : { length: l }),
      }),
    );
  } finally {
    file?.fill(0);
  }
}

/** Node replaces bytes that are not UTF-8 with U+FFFD. gokey uses them as they are, so its secret would differ. */
function asGiven(what: string, text: string): string {
  if (text.includes('\ufffd')) throw new Failure('usage', `${what} is not UTF-8`);
  return text;
}

function unknownType(type: string): Failure {
  if (!/^rsa(?:2048|4096)$/.test(type)) return new Failure('usage', `unknown key type: ${type}`);
  return new Failure('usage', `auxcred makes no ${type} keys: which primes gokey finds depends on the version of Go`, {
    hint:
      'gokey itself can be a vault: [vault.gokey-rsa] with get = ["gokey", "-P", "FILE", "-s", "SEED", "-r", ' +
      `"{name}", "-t", "${type}"] in vault.toml`,
  });
}

function withPassword(file: string, twice: boolean, work: (masterPassword: Uint8Array) => Uint8Array): Uint8Array {
  const password = givenPassword(file) ?? askedPassword(twice);
  try {
    return work(password);
  } finally {
    password.fill(0);
  }
}

/** The password from the file, else from the environment; undefined if neither has one. */
function givenPassword(file: string): Uint8Array | undefined {
  const ofFile = file === '' ? undefined : trimSpace(readFileSync(file));
  if (ofFile && ofFile.length > 0) return ofFile;
  const ofEnvironment = process.env['GOKEY_ROOT_PASS'] ?? '';
  return ofEnvironment === '' ? undefined : utf8(asGiven('GOKEY_ROOT_PASS', ofEnvironment));
}

/** Asks until one is entered and, if a typo would go unnoticed, entered the same way twice. */
function askedPassword(twice: boolean): Uint8Array {
  const hint = '-P FILE or GOKEY_ROOT_PASS';
  for (;;) {
    const first = askSecret('master password', hint);
    if (first.length === 0) continue;
    if (!twice) return first;
    const second = askSecret('master password again', hint);
    const same = first.length === second.length && timingSafeEqual(first, second);
    second.fill(0);
    if (same) return first;
    first.fill(0);
    say('the two passwords differ: try again');
  }
}

/** A regular file is replaced; anything else, such as /dev/stdout, a pipe or a link, is written to. */
function write({ o }: GokeyFlags, output: Uint8Array): void {
  try {
    if (o === '') printBytes(output);
    else if (lstatSync(o, { throwIfNoEntry: false })?.isFile() ?? true) replaceFile(o, output, { mode: 0o600 });
    else writeFileSync(o, output, { mode: 0o600 });
  } finally {
    output.fill(0);
  }
}
