/**
 * The program as tests call it: `dist/auxcred.cjs`, what users install. A new Node costs more than most commands do, so
 * the calls of a test file share one process, which loads the program afresh for each (`kept-auxcred.ts`). A test that
 * is about the process itself (signals, users, clocks, memory, standard input to be streamed) starts its own.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { exitStatus, type FailureCode } from '../src/failure.ts';

export interface Said {
  /** null if a signal ended it. */
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CallOptions {
  readonly input?: string | Uint8Array;
  /** The whole environment; PATH alone if not given. */
  readonly env?: NodeJS.ProcessEnv;
  /** How standard output is read. */
  readonly encoding?: 'utf8' | 'latin1';
}

export const program = resolve('dist/auxcred.cjs');

/** `receive` talks on standard input while it runs. */
const alone: readonly string[] = ['receive'];

/** What the kept process is asked: one line of JSON each. */
export interface Call {
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
}

interface Kept {
  readonly requests: number;
  readonly answers: number;
}

let folder: string | undefined;
let kept: Kept | undefined;

/** Calls auxcred and waits for its end. */
export function auxcred(args: readonly string[], options: CallOptions = {}): Said {
  const { input = '', env = { PATH: process.env['PATH'] }, encoding = 'utf8' } = options;
  if (alone.includes(args[0] ?? '')) {
    const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...args], { input, env });
    return { status, stdout: stdout.toString(encoding), stderr: stderr.toString() };
  }
  folder ??= scratch();
  writeFileSync(join(folder, 'stdin'), input);
  kept ??= start(folder);
  const call: Call = { args, env };
  writeSync(kept.requests, `${JSON.stringify(call)}\n`);
  const status = readStatus(kept);
  if (status === null) forget(kept);
  return {
    status,
    stdout: readFileSync(join(folder, 'stdout'), encoding),
    stderr: readFileSync(join(folder, 'stderr'), 'utf8'),
  };
}

/** @returns what it says. @throws if it fails */
export function works(args: readonly string[], options: CallOptions = {}): Said {
  const said = auxcred(args, options);
  assert.equal(said.status, 0, `auxcred ${args.join(' ')}: ${said.stderr}${said.stdout}`);
  return said;
}

/** @throws if it does not fail with `code` and `message` */
export function fails(args: readonly string[], code: FailureCode, message: RegExp, options: CallOptions = {}): Said {
  const said = auxcred(args, options);
  assert.equal(said.status, exitStatus[code], `auxcred ${args.join(' ')}: ${said.stderr}`);
  assert.match(said.stderr, message);
  return said;
}

function scratch(): string {
  const made = mkdtempSync(join(tmpdir(), 'auxcred-cli-'));
  process.on('exit', () => {
    rmSync(made, { recursive: true, force: true });
  });
  return made;
}

/** The kept process ends when this one does: its requests end then. */
function start(at: string): Kept {
  const [requests, answers] = [join(at, 'requests'), join(at, 'answers')];
  for (const pipe of [requests, answers]) rmSync(pipe, { force: true });
  assert.equal(spawnSync('mkfifo', [requests, answers]).status, 0);
  const child = spawn(process.execPath, [join(import.meta.dirname, 'kept-auxcred.js'), at, program], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  child.unref();
  // Each waits for the other end.
  return { requests: openSync(requests, 'w'), answers: openSync(answers, 'r') };
}

/** The status, in decimal digits on a line; null if the process is gone. */
function readStatus({ answers }: Kept): number | null {
  let line = '';
  const part = Buffer.alloc(16);
  while (!line.endsWith('\n')) {
    const length = readSync(answers, part);
    if (length === 0) return null;
    line += part.toString('latin1', 0, length);
  }
  return Number(line);
}

function forget({ requests, answers }: Kept): void {
  closeSync(requests);
  closeSync(answers);
  kept = undefined;
}
