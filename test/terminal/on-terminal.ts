import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { commandLine } from '../../src/system/shell.ts';
import { program } from '../cli.ts';

/** A call of auxcred that runs, and what it wrote so far to either output. */
export interface Started {
  readonly child: ChildProcess;
  readonly said: () => string;
}

/** Starts auxcred, on a terminal or with pipes. */
export function start(terminal: boolean, args: readonly string[], more: NodeJS.ProcessEnv = {}): Started {
  const command = [process.execPath, program, ...args];
  const env = { PATH: process.env['PATH'], TERM: 'xterm', ...more };
  const [file = '', ...rest] = terminal ? ['script', '-qec', commandLine(...command), '/dev/null'] : command;
  const child = spawn(file, rest, { stdio: ['pipe', 'pipe', 'pipe'], env });
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (part: string) => {
      said += part;
    });
  return { child, said: () => said };
}

/** Waits until it says that. */
export async function says(what: RegExp, { child, said }: Started): Promise<void> {
  while (!what.test(said())) {
    assert.equal(child.exitCode, null, said());
    await sleep(20);
  }
}

export async function ended({ child, said }: Started, expected = 0): Promise<void> {
  const [status] = child.exitCode === null ? await once(child, 'close') : [child.exitCode];
  assert.equal(status, expected, said());
}
