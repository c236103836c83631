/** A part of the installed command: a module that the command itself compiles, from V8's code cache if there is one. */
import { readFileSync } from 'node:fs';
import { Script } from 'node:vm';

/** The folder of the parts, beside the command. Their names have a hash of their content. */
export const partsFolder = 'parts';

/** The folder of their code cache, beside the command, if `code-cache.ts` has run. */
export const codeCacheFolder = 'code-cache';

/** The folder in that one for this Node, in which each part has a file of its own name. */
export const versionFolder = process.version;

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
