import { Failure } from '../failure.ts';
import { bind } from './ffi.ts';

/** PR_SET_DUMPABLE (prctl(2)). */
const setDumpable = 4;

/**
 * Protects the memory of this process from now on: it leaves no core dump, whatever the limits and
 * `kernel.core_pattern` say, and only privileged processes can trace it or read its memory. Programs that it executes
 * are not affected.
 * Also keeps SIGUSR1 from starting Node's debugger.
 * @throws Failure `system`
 */
export function guardMemory(): void {
  const { prctl } = bind('libc.so.6', { prctl: 'i:illll' });
  if (Number(prctl(setDumpable, 0, 0, 0, 0)) !== 0)
    throw new Failure('system', "the kernel can't keep this process out of core dumps");
  process.on('SIGUSR1', () => undefined);
}
