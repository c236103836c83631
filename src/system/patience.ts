import { writeSync } from 'node:fs';
import { systemCode } from '../failure.ts';

/**
 * Repeats a read or write of a file descriptor until it is possible. A descriptor may be non-blocking because another
 * process that shares it wants it so, or because Node opened it as a terminal.
 * @throws whatever else the call throws
 */
export function patiently<T>(call: () => T): T {
  for (;;) {
    try {
      return call();
    } catch (error) {
      if (systemCode(error) !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}

/** Writes all bytes to a descriptor, as soon as it takes them. @throws whatever else `writeSync` throws */
export function writeAll(descriptor: number, bytes: Uint8Array): void {
  for (let written = 0; written < bytes.length; ) {
    const from = written;
    written += patiently(() => writeSync(descriptor, bytes, from));
  }
}
