/** Runs a command in place of this one: its input, output, signals and end are the command's own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { Failure } from '../failure.ts';
import { spawnProblem } from './programs.ts';

/** What a user, a service manager or a parent may send, and what a command may have a use for. */
const passedOn = ['SIGTERM', 'SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGCONT'] as const;
/** Sent by a terminal to all of its foreground job, so that the command has it already. */
const fromTerminal: readonly string[] = ['SIGINT', 'SIGQUIT'];

/** The exit statuses of shells, env(1) and nohup(1) for a command that can't be run. */
export const cannotRun = { missing: 127, refused: 126 } as const;

/** What a command is started with. */
export interface ChildOptions {
  readonly env: NodeJS.ProcessEnv;
  /** Descriptors that the command gets as 3, 4 and so on. */
  readonly files?: readonly number[];
  /** Where its standard output goes: this process's own by default. */
  readonly output?: 'standard error';
}

/** How a command ended. */
export type Ending =
  | { readonly status: number; readonly signal?: undefined }
  | { readonly signal: NodeJS.Signals; readonly status?: undefined };

/**
 * Runs a command and waits for its end. Signals that this process gets meanwhile go to the command.
 * @throws Failure `not-found` for a command that is missing, `system` for one that can't be executed
 */
export async function runChild(command: readonly string[], { env, files = [], output }: ChildOptions): Promise<Ending> {
  const [program = '', ...args] = command;
  let child: ChildProcess | undefined;
  // Before the command runs: it may tell somebody at once who sends this process a signal.
  const relays = passedOn.map((signal) => {
    const relay = (): void => {
      if (!fromTerminal.includes(signal) || !isForeground()) child?.kill(signal);
    };
    process.on(signal, relay);
    return { signal, relay };
  });
  try {
    const running = spawn(program, args, {
      env,
      stdio: ['inherit', output === undefined ? 'inherit' : 2, 'inherit', ...files],
    });
    child = running;
    return await ended(running, program);
  } finally {
    for (const { signal, relay } of relays) process.removeListener(signal, relay);
  }
}

/** Waits for the end of a command. @throws Failure `not-found`, `system` */
async function ended(child: ChildProcess, program: string): Promise<Ending> {
  return await new Promise<Ending>((resolve, reject) => {
    child.once('error', (error: NodeJS.ErrnoException) => {
      const code = error.code === 'ENOENT' ? 'not-found' : 'system';
      reject(new Failure(code, `${program} can't be run: ${spawnProblem(error)}`, { cause: error }));
    });
    child.once('exit', (status, signal) => {
      resolve(signal === null ? { status: status ?? 1 } : { signal });
    });
  });
}

/** Whether this process belongs to the foreground job of its terminal: `pgrp` and `tpgid` of proc_pid_stat(5). */
function isForeground(): boolean {
  const text = readFileSync('/proc/self/stat', 'latin1');
  const [, , pgrp, , , tpgid] = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return pgrp === tpgid;
}

/**
 * Ends as a command did: with its status, or killed by the same signal.
 * @returns the exit status, which for a signal is that of a shell
 */
export function endAs({ status, signal }: Ending): number {
  if (signal === undefined) return status;
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
  return 128 + constants.signals[signal];
}
