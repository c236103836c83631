import { closeSync, openSync } from 'node:fs';
import { Failure } from '../failure.ts';
import { writing } from './disk.ts';
import { bind } from './ffi.ts';

/** LOCK_EX and LOCK_NB (flock(2)). */
const exclusive = 2;
const atOnce = 4;

/**
 * Runs `work` while holding the lock on `file`, which is made if it is missing. The kernel releases the lock of a
 * process that dies.
 * @param whenHeld - called once if another process holds it; returns whether to wait
 * @returns undefined if `work` did not run
 * @throws Failure `system`, and whatever `work` throws
 */
export async function withLock<T>(
  file: string,
  whenHeld: () => 'wait' | 'leave',
  work: () => T | Promise<T>,
): Promise<T | undefined> {
  const { flock } = bind('libc.so.6', { flock: 'i:ii' });
  const fd = writing(file, () => openSync(file, 'a', 0o600));
  try {
    if (flock(fd, exclusive | atOnce) !== 0) {
      if (whenHeld() === 'leave') return undefined;
      if ((await flock.async(fd, exclusive)) !== 0) throw new Failure('system', `${file} can't be locked`);
    }
    return await work();
  } finally {
    closeSync(fd);
  }
}
