/** Borrows the rights of another user for a few file operations. */
import { Failure } from '../failure.ts';
import { bind } from './ffi.ts';

/** An invalid user id: setfsuid(2) then only returns the current one. */
const nobody = 0xffffffff;

/**
 * Runs `work` with exactly a user's rights on files: with the id, setfsuid(2) drops root's capabilities for files. The
 * user owns the files that `work` makes. The kernel keeps these ids per thread, so `work` must use Node's synchronous
 * functions only. A process that is not root keeps its own rights.
 * @throws Failure `system` if the rights can't be had (CAP_SETUID, CAP_SETGID), and whatever `work` throws
 */
export function withRightsOf<T>({ uid, gid }: { readonly uid: number; readonly gid: number }, work: () => T): T {
  if (uid === 0 || process.geteuid?.() !== 0) return work();
  const { setfsuid, setfsgid } = bind('libc.so.6', { setfsuid: 'i:u', setfsgid: 'i:u' });
  const takeBack = (): void => {
    setfsuid(0);
    setfsgid(0);
    if (setfsuid(nobody) !== 0) throw new Failure('system', "the rights of root can't be restored");
  };
  try {
    setfsgid(gid);
    setfsuid(uid);
    if (setfsuid(nobody) !== uid || setfsgid(nobody) !== gid)
      throw new Failure('system', `the rights of user ${String(uid)} can't be taken`, {
        hint: 'run it as root, with CAP_SETUID and CAP_SETGID',
      });
    return work();
  } finally {
    takeBack();
  }
}
