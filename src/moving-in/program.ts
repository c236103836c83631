import { spawnSync } from 'node:child_process';
import { Failure } from '../failure.ts';

/** The most bytes of a file with many secrets. */
const longestOutput = 16 << 20;

/**
 * Runs another program, never through a shell. Its standard error is shown, and it may ask at the terminal.
 * @param what - what it reads, for the failure's message
 * @returns its standard output, which the caller wipes
 * @throws Failure `vault` if it fails, `system` if there is no such program
 */
export function outputOf(
  command: readonly string[],
  what: string,
  { input, environment }: { readonly input?: Uint8Array; readonly environment?: NodeJS.ProcessEnv } = {},
): Uint8Array {
  const [program = '', ...args] = command;
  const { status, signal, stdout, error } = spawnSync(program, args, {
    // Without input it may ask for a passphrase.
    stdio: [input ? 'pipe' : 'inherit', 'pipe', 'inherit'],
    ...(input ? { input } : {}),
    env: { ...process.env, ...environment },
    maxBuffer: longestOutput,
  });
  if (!error && status === 0) return stdout;
  stdout?.fill(0);
  const reason = error && 'code' in error ? error.code : undefined;
  if (reason === 'ENOENT')
    throw new Failure('system', `${what} can't be read: there is no program ${program}`, {
      hint: `install ${program}, which wrote it`,
    });
  if (reason === 'ENOBUFS')
    throw new Failure('vault', `${what} has more than ${String(longestOutput)} bytes`, {
      hint: 'it is too large for secrets',
    });
  const ended = signal ? `was ended by ${signal}` : `failed with status ${String(status)}`;
  throw new Failure('vault', `${what} can't be read: ${program} ${error ? error.message : ended}`, {
    hint: 'its own message is above',
  });
}

/** Reads one secret. @returns why it can't be read, if its program failed @throws Failure for anything else */
export function attempt<Read>(read: () => Read): Read | Failure {
  try {
    return read();
  } catch (error) {
    if (error instanceof Failure && error.code === 'vault') return error;
    throw error;
  }
}
