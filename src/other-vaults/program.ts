import { spawnSync } from 'node:child_process';
import { Failure, type FailureCode } from '../failure.ts';
import { largestValue } from '../fixed/file.ts';

/** What a vault's program may say with its exit status; any other but 0 means that it is broken. */
const statuses: Readonly<Record<number, { readonly code: FailureCode; readonly what: string }>> = {
  4: { code: 'not-found', what: 'has no such secret' },
  5: { code: 'refused', what: 'refused' },
  20: { code: 'locked', what: 'is locked' },
};

/** The most that a list of names may have, in bytes. */
const longestList = 16 << 20;

export interface Run {
  /** For the failure: the vault's name, and what it was asked for. */
  readonly vault: string;
  readonly asked: string;
  readonly command: readonly string[];
  readonly folder: string;
  readonly timeout: number;
  /** Standard input; empty for none. The caller wipes it. */
  readonly input?: Uint8Array;
  /** Whether the exit status speaks the protocol's language. */
  readonly protocol: boolean;
  /** Whether a list is expected, which may be longer than a secret. */
  readonly isList?: boolean;
}

/**
 * Runs a vault's command, never through a shell. What it says on standard error is shown.
 * @returns what it wrote to standard output, which the caller wipes
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
  // A program may answer without having read what it was asked.
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
    throw fail('vault', `gave more than ${String(limit)} bytes`, 'that is more than can be delivered as one secret');
  if (reason === 'ENOENT')
    throw fail('vault', `has no program ${program}`, `install it, or mend [vault.${vault}] in vault.toml`);
  if (error) throw fail('vault', `can't be run: ${error.message}`, `mend [vault.${vault}] in vault.toml`);
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

/** The lines of a list of names. */
export const linesOf = (bytes: Uint8Array): string[] =>
  new TextDecoder()
    .decode(bytes)
    .split('\n')
    .map((line) => line.replace(/\r$/, ''))
    .filter((line) => line !== '');
