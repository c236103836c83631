/** The rights of another user for a few file operations of this process. */
import { Failure } from '../failure.ts';
import { bind } from './ffi.ts';

/** No user: setfsuid(2) then changes nothing, and returns what is set. */
const nobody = 0xffffffff;

/**
 * Runs `work` with the rights that a user has on files, and no others: setfsuid(2) takes root's capabilities for files
 * away with the id. What `work` makes is that user's. The kernel keeps these ids for each thread, so `work` may use
 * Node's synchronous functions only. A process that is not root has its own rights already, and goes on with them.
 * @throws Failure `system` if the rights can't be had (CAP_SETUID, CAP_SETGID), and whatever `work` throws
 */
export function withRightsOf<T>({ uid, gid }: { readonly uid: number; readonly gid: number }, work: () => T): T {
  if (uid === 0 || process.geteuid?.() !== 0) return work();
  const { setfsuid, setfsgid } = bind('libc.so.6', { setfsuid: 'i:u', setfsgid: 'i:u' });
  const takeBack = (): void => {
    setfsuid(0);
    setfsgid(0);
    if (setfsuid(nobody) !== 0) throw new Failure('system', "the rights of root can't be taken back");
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
