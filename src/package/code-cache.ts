/**
 * `node code-cache.cjs`, after an installation and whenever Node changes: has V8 compile the parts of the command beside
 * it, and keeps the result for each later start. It is code that root runs, so it lies where the parts do. With
 * `--hash-seed=1` before its name, the same Node (20 and 22) writes the same bytes.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { codeCacheFolder, compiled, partsFolder, versionFolder } from './part.ts';

/** V8 refuses code that was made under other flags than those of the process that reads it. */
const readersFlags = ['--lazy', '--hash-seed=0'];

/** What V8 makes of a part if it compiles all functions at once, not each one when it is first called. */
function codeOf(name: string): Buffer {
  setFlagsFromString('--no-lazy');
  const script = compiled(__dirname, name);
  for (const flag of readersFlags) setFlagsFromString(flag);
  return script.createCachedData();
}

function syncFolder(path: string): void {
  const fd = openSync(path, 'r');
  fsyncSync(fd);
  closeSync(fd);
}

const target = join(__dirname, codeCacheFolder);
const fresh = `${target}.new`;
const folder = join(fresh, versionFolder);
rmSync(fresh, { recursive: true, force: true });
mkdirSync(folder, { mode: 0o755, recursive: true });
// V8 believes what it reads, so a power failure must not leave half a file.
for (const name of readdirSync(join(__dirname, partsFolder)))
  writeFileSync(join(folder, name), codeOf(name), { mode: 0o644, flush: true });
syncFolder(folder);
rmSync(target, { recursive: true, force: true });
renameSync(fresh, target);
