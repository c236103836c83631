import { statSync } from 'node:fs';
import { dirname } from 'node:path';
import { Failure } from '../failure.ts';
import { bind } from './ffi.ts';
import { ensureFolder } from './files.ts';

/** MS_NOSUID, MS_NODEV and MS_NOEXEC (sys/mount.h). */
const flags = 2 | 4 | 8;
/** Anybody may go through it to a file of their own, and nobody but root see what is in it. */
const mode = 0o711;
/** The memory that it may take, as far as there is a limit (tmpfs(5)): 500 of the largest secrets. */
const size = '64m';

/** Whether a file system of its own is mounted at `folder`. */
export function isMounted(folder: string): boolean {
  const device = (path: string): number | undefined => statSync(path, { throwIfNoEntry: false })?.dev;
  const own = device(folder);
  return own !== undefined && own !== device(dirname(folder));
}

/**
 * Mounts memory that is never swapped out at `folder`, unless it is there already: a tmpfs with `noswap` (Linux 6.4),
 * or a ramfs, which has no swap at all.
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
    hint: 'only root can, and only where the kernel has one of them',
  });
}
