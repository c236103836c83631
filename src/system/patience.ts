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
      if (!(error instanceof Error && 'code' in error && error.code === 'EAGAIN')) throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}
