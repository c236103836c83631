import { Failure } from '../failure.ts';
import { bind } from './ffi.ts';

/** PR_SET_DUMPABLE (prctl(2)). */
const setDumpable = 4;

/**
 * Keeps this process's memory to itself from here on: it leaves no core dump, whatever the limits and
 * `kernel.core_pattern` say, and no process but a privileged one can trace it or read its memory. The kernel lifts that
 * for what it executes, so programs that it runs are as they always are.
 * Node's debugger, which SIGUSR1 would start, does not start.
 * @throws Failure `system`
 */
export function guardMemory(): void {
  const { prctl } = bind('libc.so.6', { prctl: 'i:illll' });
  if (Number(prctl(setDumpable, 0, 0, 0, 0)) !== 0)
    throw new Failure('system', 'the kernel does not keep this process out of core dumps');
  process.on('SIGUSR1', () => undefined);
}
