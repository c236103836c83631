import { existsSync, mkdirSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { lock } from '../machine/lock.ts';
import { aptOptions, cacheFolder, debianMirror, execute } from '../machine/root.ts';

/** Node, and the libraries that it and auxcred load. */
const packages = [
  'nodejs',
  'libtss2-esys-3.0.2-0t64',
  'libtss2-mu-4.0.1-0t64',
  'libtss2-tctildr0t64',
  'libtss2-tcti-swtpm0t64',
];
const suite = 'trixie';

/**
 * The folder with Debian's packages for arm64, unpacked once and not configured: enough for qemu's user emulation,
 * which looks for libraries there first. About 200 MB, and half a minute with a quick mirror.
 */
export async function arm64Root(): Promise<string> {
  const folder = join(cacheFolder, `arm64-${suite}-1`);
  if (existsSync(folder)) return folder;
  mkdirSync(cacheFolder, { recursive: true, mode: 0o755 });
  await using _lock = await lock(join(cacheFolder, 'arm64.lock'));
  if (existsSync(folder)) return folder;
  console.error(`unpacking Debian packages for arm64 in ${cacheFolder}, once`);
  const unfinished = `${folder}.unfinished`;
  rmSync(unfinished, { recursive: true, force: true });
  await execute('mmdebstrap', [
    ...['--quiet', '--mode=root', '--variant=extract', '--architectures=arm64', '--format=directory'],
    ...[`--include=${packages.join(',')}`, '--dpkgopt=path-exclude=/usr/share/doc/*', ...aptOptions()],
    ...[suite, unfinished, debianMirror()],
  ]);
  // No package that was unpacked has this link, where the loader of programs is looked for.
  if (!existsSync(join(unfinished, 'lib'))) symlinkSync('usr/lib', join(unfinished, 'lib'));
  renameSync(unfinished, folder);
  return folder;
}
