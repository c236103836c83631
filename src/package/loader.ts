/**
 * The file of the installed command: runs its first part, and whatever parts that one requires, each from its code
 * cache if there is one. Node's `require` would look for each in several places, and compile it at each start.
 */
import { readFileSync } from 'node:fs';
import { codeCacheFolder, compiled, partsFolder, versionFolder } from './part.ts';

/** The name of its file, which the bundler puts in (`executable.ts`). */
declare const firstPart: string;

type Part = (exports: object, require: (id: string) => unknown, filename: string, dirname: string) => void;

const isPart = (value: unknown): value is Part => typeof value === 'function';

const folder = `${__dirname}/${partsFolder}`;
const cache = `${__dirname}/${codeCacheFolder}/${versionFolder}`;
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
  try {
    return readFileSync(`${cache}/${name}`);
  } catch {
    return undefined;
  }
}

load(firstPart);
