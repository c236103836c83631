/** A part of the installed command: a module that the command itself compiles, from V8's code cache if there is one. */
import { readFileSync, statSync } from 'node:fs';
import { Script } from 'node:vm';

/** The folder of the parts, beside the command. Their names have a hash of their content. */
export const partsFolder = 'parts';

/** The folder of their code cache, beside the command, if `code-cache.ts` has run. */
export const codeCacheFolder = 'code-cache';

/** The file that V8 is in: Node's own, or the library of Debian's Node. */
function engineFile(): string {
  const { variables }: { readonly variables: object } = process.config;
  if (!('node_shared' in variables && variables.node_shared === true)) return process.execPath;
  const [library] = /\/\S*libnode\.so\S*$/m.exec(readFileSync('/proc/self/maps', 'latin1')) ?? [];
  return library ?? process.execPath;
}

/**
 * The folder in that one for this build of Node, in which each part has a file of its own name. V8 itself only compares
 * versions, and crashes on the code of another build of the same version: another architecture's, another
 * distribution's. So the name tells builds apart; moments are in seconds, since not every archive keeps more.
 * @throws Error if Node does not know its own file, as in a root without `/proc`
 */
export function buildFolder(): string {
  const { size, mtimeMs } = statSync(engineFile());
  const file = [size, Math.trunc(mtimeMs / 1000)];
  return [process.version, process.arch, process.versions.v8, ...file].join('-');
}

/**
 * Compiles a part to the function that runs it, of `exports`, `require`, `__filename` and `__dirname`.
 * @param cachedData - the code cache of a script that this made of the same part. V8 compiles instead if it was written
 * by another version of V8, or under other flags
 * @throws Error if there is no such part
 */
export function compiled(library: string, name: string, cachedData?: Buffer): Script {
  const filename = `${library}/${partsFolder}/${name}`;
  const source = readFileSync(filename, 'utf8');
  return new Script(`((exports, require, __filename, __dirname) => {${source}\n})`, {
    filename,
    ...(cachedData && { cachedData }),
  });
}
