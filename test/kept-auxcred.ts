/**
 * A process that runs the program once for each request of `cli.ts`, with descriptors 0 to 2, environment and arguments
 * as a process of its own would have them. Its files are evaluated again each time, so nothing of a call is left in its
 * variables. A call is over when a process would end: when nothing is left to wait for.
 */
import { closeSync, openSync, readdirSync, readlinkSync, readSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Script } from 'node:vm';
import { compiled, partsFolder } from '../src/package/part.ts';
import { bind } from '../src/system/ffi.ts';

const [folder = '', program = ''] = process.argv.slice(2);
const library = dirname(program);
const parts = join(library, partsFolder);
/** What the program's own loader loads first: as its parts are kept compiled here, it would only take time. */
const [firstPart = ''] = readdirSync(parts).filter((name) => name.startsWith('auxcred-'));
const requests = openSync(join(folder, 'requests'), 'r');
const answers = openSync(join(folder, 'answers'), 'w');
const libc = bind('libc.so.6', { dup2: 'i:ii' });

const scripts = new Map<string, Script>();

function scriptOf(part: string): Script {
  const script = scripts.get(part) ?? compiled(library, part);
  scripts.set(part, script);
  return script;
}

/** Runs a part of the program, and others as it asks for them, as `loader.ts` does: once each for one call. */
function load(part: string, loaded: Map<string, object>): object {
  const known = loaded.get(part);
  if (known) return known;
  const exports = {};
  loaded.set(part, exports);
  const required = (id: string): unknown =>
    id.startsWith('./') ? load(id.slice(2), loaded) : process.getBuiltinModule(id);
  const main: unknown = scriptOf(part).runInThisContext();
  if (typeof main !== 'function') throw new Error(`${part} is no part of auxcred`);
  Reflect.apply(main, undefined, [exports, required, join(parts, part), parts]);
  return exports;
}

/** The next line; undefined at the end. */
function nextLine(): string | undefined {
  const parts: Buffer[] = [];
  const part = Buffer.alloc(65_536);
  for (;;) {
    const length = readSync(requests, part);
    if (length === 0) return undefined;
    parts.push(Buffer.from(part.subarray(0, length)));
    if (part[length - 1] === 0x0a) return Buffer.concat(parts).toString();
  }
}

function redirect(descriptor: number, name: string, flags: 'r' | 'w'): void {
  const opened = openSync(join(folder, name), flags);
  libc.dup2(opened, descriptor);
  closeSync(opened);
}

/** The descriptors of files and sockets. */
function openFiles(): Set<number> {
  const found = new Set<number>();
  for (const name of readdirSync('/proc/self/fd'))
    try {
      const target = readlinkSync(`/proc/self/fd/${name}`);
      if (/^(?:\/(?!dev\/|proc\/)|socket:)/.test(target)) found.add(Number(name));
    } catch {
      // The folder itself, which is closed by now.
    }
  return found;
}

const isText = (value: unknown): value is string => typeof value === 'string';

function replaceEnvironment(environment: object): void {
  for (const name of Object.keys(process.env)) delete process.env[name];
  for (const [name, value] of Object.entries(environment)) if (isText(value)) process.env[name] = value;
}

/** What the process had before a call: the end of a process of its own takes away what the call adds. */
let files: ReadonlySet<number> = new Set();
let events: ReadonlySet<string | symbol> = new Set();

function cleanUp(): void {
  for (const event of process.eventNames()) if (!events.has(event)) process.removeAllListeners(event);
  for (const descriptor of openFiles()) if (!files.has(descriptor)) closeSync(descriptor);
  process.exitCode = undefined;
}

function run(line: string): void {
  const call: unknown = JSON.parse(line);
  if (typeof call !== 'object' || call === null || !('args' in call) || !('env' in call)) throw new Error(line);
  const { args, env } = call;
  if (!Array.isArray(args) || typeof env !== 'object' || env === null) throw new Error(line);
  redirect(0, 'stdin', 'r');
  redirect(1, 'stdout', 'w');
  redirect(2, 'stderr', 'w');
  replaceEnvironment(env);
  process.argv = [process.execPath, program, ...args.filter(isText)];
  files = openFiles();
  events = new Set(process.eventNames());
  load(firstPart, new Map());
}

let isRunning = false;
process.on('beforeExit', () => {
  if (isRunning) {
    const status = Number(process.exitCode ?? 0);
    cleanUp();
    writeSync(answers, `${String(status)}\n`);
  }
  const line = nextLine();
  if (line === undefined) return;
  isRunning = true;
  setImmediate(run, line);
});
