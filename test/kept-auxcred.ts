/**
 * A process that runs the program once for each request of `cli.ts`, with descriptors 0 to 2, environment and arguments
 * as a process of its own would have them. Its files are evaluated again each time, so nothing of a call is left in its
 * variables. A call is over when a process would end: when nothing is left to wait for.
 */
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, readSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { Script } from 'node:vm';
import { bind } from '../src/system/ffi.ts';

const [folder = '', program = ''] = process.argv.slice(2);
const parts = join(dirname(program), 'parts');
/** What the program's own loader loads first: as its parts are kept compiled here, it would only take time. */
const [firstPart = ''] = readdirSync(parts).filter((name) => name.startsWith('auxcred-'));
const requests = openSync(join(folder, 'requests'), 'r');
const answers = openSync(join(folder, 'answers'), 'w');
const libc = bind('libc.so.6', { dup2: 'i:ii' });

const node = createRequire(program);
const scripts = new Map<string, Script>();

function scriptOf(path: string): Script {
  const known = scripts.get(path);
  if (known) return known;
  const text = readFileSync(path, 'utf8');
  const parameters = 'exports, require, module, __filename, __dirname';
  const script = new Script(`(function (${parameters}) {${text}\n})`, { filename: path });
  scripts.set(path, script);
  return script;
}

interface Loaded {
  exports: unknown;
}

/** Evaluates a file of the program, and others as it asks for them: once each for one call. */
function load(path: string, loaded: Map<string, Loaded>): unknown {
  const known = loaded.get(path);
  if (known) return known.exports;
  const module: Loaded = { exports: {} };
  loaded.set(path, module);
  const requires = (name: string): unknown =>
    name.startsWith('.') ? load(resolve(dirname(path), name), loaded) : node(name);
  const main: unknown = scriptOf(path).runInThisContext();
  if (typeof main !== 'function') throw new Error(`${path} is no module`);
  Reflect.apply(main, undefined, [module.exports, requires, module, path, dirname(path)]);
  return module.exports;
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
  load(join(parts, firstPart), new Map());
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
