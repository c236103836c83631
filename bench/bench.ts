/**
 * `npm run bench`: ratios against a peer or a floor, both measured in this run on this machine. `npm run bench -- push`
 * measures only that subject. The measuring process and everything it starts are one process group: it mostly waits for
 * a command and then can't handle signals, so this process handles them, ends the group, and removes what it left in
 * memory.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { removeScratch } from './scratch.ts';

const script = join(import.meta.dirname, 'measure.js');
const measuring = spawn(process.execPath, [script, ...process.argv.slice(2)], { stdio: 'inherit', detached: true });
const ended = once(measuring, 'exit');

function signalGroup(signal: NodeJS.Signals): void {
  if (measuring.pid === undefined) return;
  try {
    process.kill(-measuring.pid, signal);
  } catch {
    // The whole group has ended.
  }
}

for (const [signal, number] of [
  ['SIGHUP', 1],
  ['SIGINT', 2],
  ['SIGTERM', 15],
] as const) {
  process.once(signal, () => {
    process.exitCode = 128 + number;
    signalGroup('SIGTERM');
  });
}
await ended;
// The process may have been killed: what it started may still run. Programs of an sshd end with their connections.
signalGroup('SIGKILL');
if (process.exitCode !== undefined) await sleep(500);
removeScratch(measuring.pid ?? 0);
process.exitCode ??= measuring.exitCode ?? 1;
