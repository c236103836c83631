/** What a run leaves behind for a while, folders in memory and servers, and its end, whichever way the run ends. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';

const folders = new Set<string>();
const servers = new Set<ChildProcess>();

function end(): void {
  for (const { pid } of servers) endGroup(pid);
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
}

function endGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It ended by itself.
  }
}

/** Has a signal end the run as its end does. */
export function cleanUpAtExit(): void {
  process.on('exit', end);
  for (const [signal, number] of [['SIGHUP', 1], ['SIGINT', 2], ['SIGTERM', 15]] as const)
    process.once(signal, () => { process.exit(128 + number); });
}

/** Calls `work` with a new folder in memory, which is removed afterwards. */
export async function inScratch(work: (folder: string) => void | Promise<void>): Promise<void> {
  const folder = mkdtempSync('/dev/shm/bench-');
  folders.add(folder);
  try {
    await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
    folders.delete(folder);
  }
}

/** Starts a server in a process group of its own. @returns what ends the server and all that it started */
export function startServer(program: string, args: readonly string[]): () => void {
  const server = spawn(program, args, { stdio: 'ignore', detached: true });
  servers.add(server);
  return () => {
    endGroup(server.pid);
    servers.delete(server);
  };
}

/** Runs a program that has to succeed. @returns its standard output. @throws Error with what it said */
export function must(program: string, args: readonly string[], more: NodeJS.ProcessEnv = {}, input = ''): string {
  const env = { PATH: process.env['PATH'], ...more };
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8', input, env, maxBuffer: 64 << 20 });
  if (status !== 0) throw new Error(`${program} ${args.slice(0, 3).join(' ')}: ${stderr.slice(-500)}`);
  return stdout.trim();
}

/** The command line of auxcred as it was built. */
export const auxcred = (...args: readonly string[]): string[] => [process.execPath, 'dist/auxcred.cjs', ...args];

/** Runs a command line that has to succeed. */
export function run([program = '', ...args]: readonly string[], more: NodeJS.ProcessEnv = {}, input = ''): string {
  return must(program, args, more, input);
}
