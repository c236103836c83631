import { isUtf8 } from 'node:buffer';
import { mkdtempSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { withValues } from '../cli/chosen-value.ts';
import { Options } from '../cli/options.ts';
import { Failure } from '../failure.ts';
import { variablePattern } from '../manifest/template.ts';
import { cannotRun, type Ending, endAs, runChild } from '../system/child.ts';
import { memoryFile, wipeMemoryFile } from '../system/memory-file.ts';
import { sayFailure } from '../terminal/say.ts';

/** One secret, and the name under which the command finds it. */
interface Wish {
  readonly name: string;
  readonly secret: string;
}

/** Credential ids that systemd takes, without those that begin with a dot, a dash or another sign. */
const filePattern = /^[A-Za-z0-9_][A-Za-z0-9._@+-]{0,254}$/;

/** The first descriptor after standard input, output and error. */
const firstFile = 3;

/** `auxcred run -- COMMAND`: runs a command that gets secrets as files of memory, or in its environment. */
export async function run(argv: readonly string[]): Promise<number> {
  const end = argv.indexOf('--');
  const options = new Options('run', end === -1 ? argv : argv.slice(0, end));
  const command = end === -1 ? [] : argv.slice(end + 1);
  const [operand] = options.operands;
  if (operand !== undefined && end === -1) throw options.lacks('-- before its command', `auxcred run -- ${operand}`);
  if (operand !== undefined)
    throw new Failure('usage', `run takes nothing but options before --, and ${JSON.stringify(operand)} is none`, {
      hint: `--file=${operand} or --env=NAME=${operand} gives the command a secret of that name`,
    });
  if (command.length === 0 || command[0] === '') throw options.lacks('a command', 'auxcred run --file=NAME -- COMMAND');
  const files = options.list('file').map((text) => wishIn(text, 'file', text));
  const variables = options.list('env').map((text) => wishIn(text, 'env', undefined));
  refuseTwice([...files.map(({ name }) => `--file=${name}`), ...variables.map(({ name }) => `--env=${name}`)]);
  const wishes = [...files, ...variables];
  const held: number[] = [];
  try {
    const env = await withValues(
      wishes.map(({ secret }) => secret),
      options,
      (values) => {
        for (const value of values.slice(0, files.length)) held.push(memoryFile(value));
        return { ...process.env, ...variablesOf(variables, values.slice(files.length)) };
      },
    );
    return endAs(
      await withFolder(files, async (more) => await runChild(command, { env: { ...env, ...more }, files: held })),
    );
  } catch (error) {
    if (!(error instanceof Failure) || error.cause === undefined || !isSpawn(error.cause)) throw error;
    sayFailure(error);
    return error.code === 'not-found' ? cannotRun.missing : cannotRun.refused;
  } finally {
    for (const fd of held) wipeMemoryFile(fd);
  }
}

const isSpawn = (cause: unknown): boolean =>
  cause instanceof Error && 'syscall' in cause && String(cause.syscall).startsWith('spawn');

/** @throws Failure `usage` */
function wishIn(text: string, option: 'file' | 'env', usual: string | undefined): Wish {
  const sign = text.indexOf('=');
  const [name, secret] = sign === -1 ? [text, usual ?? ''] : [text.slice(0, sign), text.slice(sign + 1)];
  if (secret === '')
    throw new Failure('usage', `--${option}=${text} names no secret`, { hint: `--${option}=${name}=SECRET` });
  if (!(option === 'env' ? variablePattern : filePattern).test(name))
    throw new Failure(
      'usage',
      `${JSON.stringify(name)} is not the name of ${option === 'env' ? 'a variable' : 'a file'}`,
      { hint: option === 'env' ? '--env=DB_PASSWORD=db-password' : '--file=NAME=SECRET gives it one' },
    );
  return { name, secret };
}

/** @throws Failure `usage` */
function refuseTwice(names: readonly string[]): void {
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw new Failure('usage', `${twice} is given more than once`);
}

/** @throws Failure `usage` for a value that no environment can hold */
function variablesOf(wishes: readonly Wish[], values: readonly Uint8Array[]): NodeJS.ProcessEnv {
  return Object.fromEntries(
    wishes.map(({ name, secret }, i) => {
      const value = values[i] ?? new Uint8Array(0);
      if (!isUtf8(value) || value.includes(0))
        throw new Failure('usage', `${secret} is not text that an environment can hold`, {
          hint: `--file=${name}=${secret}`,
        });
      return [name, new TextDecoder('utf-8', { ignoreBOM: true }).decode(value)];
    }),
  );
}

/** Does `work` with a folder of links to the command's own descriptors. It holds no secret. */
async function withFolder(files: readonly Wish[], work: (more: NodeJS.ProcessEnv) => Promise<Ending>): Promise<Ending> {
  if (files.length === 0) return await work({});
  const folder = mkdtempSync(join(runtimeFolder(), 'auxcred-run-'));
  try {
    for (const [i, { name }] of files.entries())
      symlinkSync(`/proc/self/fd/${String(firstFile + i)}`, join(folder, name));
    return await work({ CREDENTIALS_DIRECTORY: folder });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The user's own runtime folder (XDG Base Directory Specification), which ends with the session. */
function runtimeFolder(): string {
  const named = process.env['XDG_RUNTIME_DIR'];
  const found = named?.startsWith('/') === true ? statSync(named, { throwIfNoEntry: false }) : undefined;
  return named !== undefined && found?.isDirectory() === true && found.uid === process.getuid?.() ? named : tmpdir();
}
