/** In-memory folders, servers and commands for the subjects. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

/** The folder for everything that is measured: in memory, so that the disk does not matter. */
const memory = '/dev/shm';
const prefixOf = (pid: number): string => `auxcred-bench-${String(pid)}-`;

/** Calls `work` with a new in-memory folder, which is removed afterwards. */
export async function inScratch(work: (folder: string) => void | Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(memory, prefixOf(process.pid)));
  try {
    await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Removes what an ended process left in memory. */
export function removeScratch(pid: number): void {
  for (const name of readdirSync(memory))
    if (name.startsWith(prefixOf(pid))) rmSync(join(memory, name), { recursive: true, force: true });
}

/** Starts a server. @returns a function that stops it */
export function startServer(program: string, args: readonly string[]): () => void {
  const server = spawn(program, args, { stdio: 'ignore' });
  return () => {
    server.kill('SIGKILL');
  };
}

/** Runs a program that has to succeed. @returns its standard output. @throws Error with its output */
export function must(program: string, args: readonly string[], more: NodeJS.ProcessEnv = {}, input = ''): string {
  const env = { PATH: process.env['PATH'], ...more };
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8', input, env, maxBuffer: 64 << 20 });
  if (status !== 0) throw new Error(`${program} ${args.slice(0, 3).join(' ')}: ${stderr.slice(-500)}`);
  return stdout.trim();
}

/** The command line of the built auxcred. */
export const auxcred = (...args: readonly string[]): string[] => [process.execPath, 'dist/auxcred.cjs', ...args];

/** Runs a command line that has to succeed. */
export function run([program = '', ...args]: readonly string[], more: NodeJS.ProcessEnv = {}, input = ''): string {
  return must(program, args, more, input);
}
