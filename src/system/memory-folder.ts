import { statSync } from 'node:fs';
import { dirname } from 'node:path';
import { Failure } from '../failure.ts';
import { bind } from './ffi.ts';
import { ensureFolder } from './files.ts';

/** MS_NOSUID, MS_NODEV and MS_NOEXEC (sys/mount.h). */
const flags = 2 | 4 | 8;
/** Everybody can pass through it to their own files, and only root can list it. */
const mode = 0o711;
/** The limit of a tmpfs (tmpfs(5)): room for 500 of the largest secrets. */
const size = '64m';

/** Whether a file system is mounted at `folder`. */
export function isMounted(folder: string): boolean {
  const device = (path: string): number | undefined => statSync(path, { throwIfNoEntry: false })?.dev;
  const own = device(folder);
  return own !== undefined && own !== device(dirname(folder));
}

/**
 * Mounts memory that is never swapped out at `folder`, unless something is mounted there: a tmpfs with `noswap` (Linux
 * 6.4), else a ramfs, which never swaps.
 * @throws Failure `system`
 */
export function mountMemoryFolder(folder: string): void {
  if (isMounted(folder)) return;
  ensureFolder(folder, { mode });
  const { mount } = bind('libc.so.6', { mount: 'i:sssls' });
  const options = `mode=0${mode.toString(8)}`;
  if (
    mount('auxcred', folder, 'tmpfs', flags, `${options},size=${size},noswap`) === 0 ||
    mount('auxcred', folder, 'ramfs', flags, options) === 0
  )
    return;
  throw new Failure('system', `neither a tmpfs without swap nor a ramfs can be mounted at ${folder}`, {
    hint: 'it takes root, and a kernel with one of them',
  });
}
