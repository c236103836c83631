import { Failure } from '../failure.ts';
import { bind } from './ffi.ts';

/** PR_SET_DUMPABLE (prctl(2)). */
const setDumpable = 4;

/**
 * Closes this process's memory to the other processes of its user: no /proc/PID/mem, no process_vm_readv(2), no ptrace(2), and no
 * core dump. Root can still read it. Everything below /proc/self belongs to root from then on.
 * @throws Failure `system` if the kernel refuses
 */
export function closeMemory(): void {
  const { prctl } = bind('libc.so.6', { prctl: 'i:illll' });
  if (prctl(setDumpable, 0, 0, 0, 0) !== 0) throw new Failure('system', 'the memory of this process can\'t be closed to others');
}
