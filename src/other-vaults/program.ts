import { spawnSync } from 'node:child_process';
import { Failure, type FailureCode } from '../failure.ts';
import { largestValue } from '../fixed/file.ts';

/** The exit statuses of the vault protocol. Any other but 0 means that the program is broken. */
const statuses: Readonly<Record<number, { readonly code: FailureCode; readonly what: string }>> = {
  4: { code: 'not-found', what: 'has no such secret' },
  5: { code: 'refused', what: 'refused' },
  20: { code: 'locked', what: 'is locked' },
};

/** The most bytes of a list of names. */
const longestList = 16 << 20;

/** One run of a vault's command. */
export interface Run {
  /** The vault's name, for messages. */
  readonly vault: string;
  /** The secret that it is asked for, for messages; empty for a list. */
  readonly asked: string;
  readonly command: readonly string[];
  readonly folder: string;
  /** Seconds. */
  readonly timeout: number;
  /** Standard input, by default empty. The caller wipes it. */
  readonly input?: Uint8Array;
  /** Whether the exit status follows the vault protocol. */
  readonly protocol: boolean;
  /** Whether to expect a list, which may be longer than a secret. */
  readonly isList?: boolean;
}

/**
 * Runs a vault's command, never through a shell. Its standard error is shown.
 * @returns its standard output, which the caller wipes
 * @throws Failure that names the vault
 */
export function runVault({ vault, asked, command, folder, timeout, input, protocol, isList = false }: Run): Uint8Array {
  const [program = '', ...args] = command;
  const limit = isList ? longestList : largestValue + 2;
  const {
    status,
    signal,
    stdout,
    error: thrown,
  } = spawnSync(program, args, {
    cwd: folder,
    stdio: [input ? 'pipe' : 'ignore', 'pipe', 'inherit'],
    ...(input ? { input } : {}),
    timeout: timeout * 1000,
    killSignal: 'SIGKILL',
    maxBuffer: limit,
  });
  // A program may answer without reading the request.
  const error = thrown && 'code' in thrown && thrown.code === 'EPIPE' ? undefined : thrown;
  if (!error && status === 0) return stdout;
  stdout?.fill(0);
  const fail = (code: FailureCode, what: string, hint: string): Failure =>
    new Failure(code, `the vault ${vault} ${what}${asked === '' ? '' : ` (asked for ${asked})`}`, {
      hint,
      ...(error ? { cause: error } : {}),
    });
  const reason = error && 'code' in error ? error.code : undefined;
  if (reason === 'ETIMEDOUT')
    throw fail(
      'timeout',
      `did not answer within ${String(timeout)} s`,
      `timeout = ${String(Math.min(3600, 4 * timeout))} in [vault.${vault}], if it needs that long`,
    );
  if (reason === 'ENOBUFS')
    throw fail('vault', `gave more than ${String(limit)} bytes`, 'it is too large to deliver as one secret');
  if (reason === 'ENOENT')
    throw fail('vault', `has no program ${program}`, `install it, or fix [vault.${vault}] in vault.toml`);
  if (error) throw fail('vault', `can't be run: ${error.message}`, `fix [vault.${vault}] in vault.toml`);
  const meaning = protocol ? statuses[status ?? -1] : undefined;
  if (meaning)
    throw fail(
      meaning.code,
      meaning.what,
      meaning.code === 'locked' ? 'unlock it, and try again' : 'its own message is above',
    );
  throw fail(
    'vault',
    signal ? `was ended by ${signal}` : `failed with status ${String(status)}`,
    `its own message is above; the command is ${program}`,
  );
}

/** The failure of a vault that gives an empty secret. */
export const nothingGiven = (vault: string, name: string): Failure =>
  new Failure('vault', `the vault ${vault} gave nothing for ${name}`, { hint: 'a secret must not be empty' });

/** Splits a list of names into lines. */
export const linesOf = (bytes: Uint8Array): string[] =>
  new TextDecoder()
    .decode(bytes)
    .split('\n')
    .map((line) => line.replace(/\r$/, ''))
    .filter((line) => line !== '');
