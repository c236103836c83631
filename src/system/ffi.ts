/**
 * Foreign functions through koffi's native file, loaded directly because the package's own loader takes ten times as
 * long.
 * Supports plain calls only: structures stay opaque buffers (see `tpm2/wire.ts`).
 */
import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { Failure, messageOf } from '../failure.ts';

/** An argument: a number, text, memory, or a pointer that another function returned. */
export type Argument = number | bigint | string | Uint8Array | null;
/** A result. Pointers are bigints. */
export type Result = number | bigint;

/** A function of a library. `async` runs it on a thread, so that a call that hangs blocks nothing else. */
export interface NativeFunction {
  (...args: readonly Argument[]): Result;
  async(...args: readonly Argument[]): Promise<Result>;
}

/** Thrown for a shared library that is not installed or not usable. */
export class LibraryMissing extends Failure {
  constructor(library: string, cause: unknown) {
    super('system', `${library} can't be loaded: ${messageOf(cause)}`, { cause });
  }
}

/** The letters of a signature such as `u:puuuup`: the result, then the arguments. */
const types: Readonly<Record<string, string>> = {
  v: 'void',
  b: 'uint8',
  h: 'uint16',
  i: 'int',
  u: 'uint32',
  l: 'int64',
  z: 'size_t',
  s: 'str',
  p: 'void *',
};

type Callback = (error: unknown, result: unknown) => void;
interface Callable {
  (...args: readonly Argument[]): unknown;
  async(...args: readonly (Argument | Callback)[]): unknown;
}
interface Library {
  func(name: string, result: string, args: readonly string[]): unknown;
}
interface Koffi {
  load(library: string): unknown;
}

const hasMethod = <Name extends string>(value: unknown, name: Name): value is Record<Name, unknown> =>
  value !== null &&
  (typeof value === 'object' || typeof value === 'function') &&
  typeof Reflect.get(value, name) === 'function';
const isKoffi = (value: unknown): value is Koffi => hasMethod(value, 'load');
const isLibrary = (value: unknown): value is Library => hasMethod(value, 'func');
const isCallable = (value: unknown): value is Callable => typeof value === 'function' && hasMethod(value, 'async');

let koffi: Koffi | undefined;

/** The folder of the executables, in which the command's parts have one of their own (`package/executable.ts`). */
const here = programFolder(typeof __dirname === 'string' ? __dirname : import.meta.dirname);

function programFolder(folder: string): string {
  return basename(folder) === 'parts' ? dirname(folder) : folder;
}

/**
 * The absolute path of a library that the package has put, or linked, beside the program: for systems on which the
 * linker finds none by its soname. Otherwise the soname.
 */
function libraryFile(soname: string): string {
  const beside = join(here, soname);
  return existsSync(beside) ? beside : soname;
}

function nativeFile(): string {
  const installed = join(here, 'koffi.node');
  if (existsSync(installed)) return installed;
  const platform = `linux-${process.arch}`;
  const inPackage = join('node_modules/@koromix', `koffi-${platform}`, platform.replace('-', '_'), 'koffi.node');
  for (let folder = here; ; folder = dirname(folder)) {
    const candidate = join(folder, inPackage);
    if (existsSync(candidate)) return candidate;
    if (folder === dirname(folder))
      throw new Failure('system', `koffi has no native file for ${platform}`, { hint: 'npm ci' });
  }
}

function loadKoffi(): Koffi {
  const module: { exports: unknown } = { exports: {} };
  process.dlopen(module, nativeFile());
  if (!isKoffi(module.exports))
    throw new Failure('system', "koffi's native file is not the one expected", { hint: 'npm ci' });
  return module.exports;
}

/**
 * Binds functions of a shared library, given its soname and a table of signatures. One beside the program is taken first.
 * @throws LibraryMissing
 * @throws Failure `system` if koffi or one of the functions is missing
 */
export function bind<Name extends string>(
  library: string,
  table: Readonly<Record<Name, string>>,
): Record<Name, NativeFunction> {
  koffi ??= loadKoffi();
  let handle: unknown;
  try {
    handle = koffi.load(libraryFile(library));
  } catch (error) {
    throw new LibraryMissing(library, error);
  }
  if (!isLibrary(handle)) throw new LibraryMissing(library, 'koffi returned no library');
  const bound: Partial<Record<Name, NativeFunction>> = {};
  for (const name in table) bound[name] = wrap(handle, name, table[name]);
  return complete(bound, table);
}

function complete<Name extends string>(
  bound: Partial<Record<Name, NativeFunction>>,
  table: Readonly<Record<Name, string>>,
): Record<Name, NativeFunction> {
  const isComplete = (candidate: Partial<Record<Name, NativeFunction>>): candidate is Record<Name, NativeFunction> =>
    Object.keys(table).every((name) => name in candidate);
  if (!isComplete(bound)) throw new Failure('system', 'a function is not bound');
  return bound;
}

function wrap(library: Library, name: string, signature: string): NativeFunction {
  const [result = '', args = ''] = signature.split(':');
  const typeOf = (letter: string): string => {
    const type = types[letter];
    if (type === undefined) throw new TypeError(`${signature} is not a signature for ${name}`);
    return type;
  };
  const parameters = [...args].map(typeOf);
  let native: unknown;
  try {
    native = library.func(name, typeOf(result), parameters);
  } catch (error) {
    throw new Failure('system', `${name} can't be bound: ${messageOf(error)}`, { cause: error });
  }
  if (!isCallable(native)) throw new Failure('system', `${name} can't be bound`);
  const call = (...given: readonly Argument[]): Result => asResult(native(...given));
  return Object.assign(call, {
    async: (...given: readonly Argument[]) =>
      new Promise<Result>((resolve, reject) => {
        // The callback closes over `given` to keep its memory alive while the thread uses it.
        native.async(...given, (error: unknown, value: unknown) => {
          if (error === null || error === undefined) resolve(asResult(value));
          else reject(error instanceof Error ? error : new Error(messageOf(error)));
        });
      }),
  });
}

/** A function without a result returns 0. */
const asResult = (value: unknown): Result => (typeof value === 'number' || typeof value === 'bigint' ? value : 0);
