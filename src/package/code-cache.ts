/**
 * `node code-cache.cjs`, after an installation and whenever Node changes: has V8 compile the parts of the command beside
 * it, and keeps the result for each later start. It is code that root runs, so it lies where the parts do.
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { exitStatus, messageOf } from '../failure.ts';
import { say } from '../terminal/say.ts';
import { buildFolder, codeCacheFolder, compiled, partsFolder } from './part.ts';

const scratchPrefix = 'new-';

/** What V8 makes of a part if it compiles all functions at once, not each one when it is first called. */
function codeOf(name: string): Buffer {
  setFlagsFromString('--no-lazy');
  const script = compiled(__dirname, name);
  // V8 refuses code that was made under other flags than those of the process that reads it.
  setFlagsFromString('--lazy');
  return script.createCachedData();
}

/** V8 believes what it reads, so a power failure must not leave half a file. */
function writeCodeTo(folder: string): void {
  mkdirSync(folder);
  for (const name of readdirSync(join(__dirname, partsFolder)))
    writeFileSync(join(folder, name), codeOf(name), { flush: true });
  const fd = openSync(folder, 'r');
  fsyncSync(fd);
  closeSync(fd);
}

/** Replaces the cache at once: a call that runs meanwhile, and a second writer, find all of it or nothing. */
function replaceCache(): void {
  const caches = join(__dirname, codeCacheFolder);
  const build = buildFolder();
  if (!existsSync(caches)) mkdirSync(caches);
  const scratch = mkdtempSync(join(caches, scratchPrefix));
  try {
    writeCodeTo(join(scratch, 'fresh'));
    moveIfAny(join(caches, build), join(scratch, 'former'));
    renameSync(join(scratch, 'fresh'), join(caches, build));
  } finally {
    rmSync(scratch, { recursive: true });
    // A second writer's folder stays. So does a killed one's, until the next version is installed.
    const others = readdirSync(caches).filter((name) => name !== build && !name.startsWith(scratchPrefix));
    for (const name of others) rmSync(join(caches, name), { recursive: true, force: true });
  }
}

function moveIfAny(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
  }
}

// Every user reads the cache, so the umask of the one who installs it must not count.
process.umask(0o022);
try {
  replaceCache();
} catch (error) {
  say(`the code cache can't be written, so each call of auxcred starts slower: ${messageOf(error)}`);
  process.exitCode = exitStatus.system;
}
