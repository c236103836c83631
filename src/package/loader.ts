/**
 * The file of the installed command: runs its first part, and whatever parts that one requires, each from its code
 * cache if there is one. Node's `require` would look for each in several places, and compile it at each start.
 */
import { readFileSync } from 'node:fs';
import { buildFolder, codeCacheFolder, compiled, partsFolder } from './part.ts';

/** The file name of the first part, which the bundler puts in (`executable.ts`). */
declare const firstPart: string;

type Part = (exports: object, require: (id: string) => unknown, filename: string, dirname: string) => void;

const isPart = (value: unknown): value is Part => typeof value === 'function';

const folder = `${__dirname}/${partsFolder}`;
const cache = ifPossible(() => `${__dirname}/${codeCacheFolder}/${buildFolder()}`);
const loaded = new Map<string, object>();

function load(name: string): object {
  const known = loaded.get(name);
  if (known) return known;
  const exports = {};
  // Before the part runs, since parts may require each other in a circle.
  loaded.set(name, exports);
  const part: unknown = compiled(__dirname, name, cached(name)).runInThisContext();
  if (!isPart(part)) throw new TypeError(`${name} is no part of auxcred`);
  part(exports, required, `${folder}/${name}`, folder);
  return exports;
}

const required = (id: string): unknown => (id.startsWith('./') ? load(id.slice(2)) : process.getBuiltinModule(id));

function cached(name: string): Buffer | undefined {
  return cache === undefined ? undefined : ifPossible(() => readFileSync(`${cache}/${name}`));
}

/** Nothing about the cache is an error: without it, V8 compiles the part. */
function ifPossible<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}

load(firstPart);
