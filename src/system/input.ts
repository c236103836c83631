/** What a person or another program gives: standard input, or a file that was named. */
import { closeSync, openSync, readSync } from 'node:fs';
import { isatty } from 'node:tty';
import { Failure } from '../failure.ts';

/**
 * Whether standard input is a terminal. To ask `process.stdin` would make a pipe non-blocking for everybody who shares
 * it.
 */
export const isInputTerminal = (): boolean => isatty(0);

const newline = 0x0a;

/**
 * The bytes of a file, or of standard input for `-`, to the end, however slowly they come. The caller wipes them.
 * @param most - bytes
 * @param part - `line` for the first line alone, without its end: nothing after it is waited for
 * @throws Failure `usage` for more than `most` bytes, and what the system says of a file that can't be read
 */
export function readInput(file: string, most: number, part: 'all' | 'line' = 'all'): Uint8Array {
  const fd = file === '-' ? 0 : openSync(file, 'r');
  // A line may have an end of two bytes.
  const bytes = Buffer.alloc(most + 2);
  try {
    let length = 0;
    for (let got = -1; got !== 0 && length < bytes.length; length += got) {
      if (part === 'line' && bytes.subarray(0, length).includes(newline)) break;
      got = readSome(fd, bytes, length);
    }
    const wanted = part === 'line' ? firstLine(bytes.subarray(0, length)) : bytes.subarray(0, length);
    if (wanted.length > most)
      throw new Failure(
        'usage',
        `${file === '-' ? 'standard input' : file} has more than ${String(most)} bytes, the most that is taken`,
      );
    return Uint8Array.from(wanted);
  } finally {
    bytes.fill(0);
    if (fd !== 0) closeSync(fd);
  }
}

/** A view of the bytes before the first newline, and before a carriage return in front of it. */
export function firstLine(bytes: Uint8Array): Uint8Array {
  const end = bytes.indexOf(newline);
  return end === -1 ? bytes : bytes.subarray(0, bytes[end - 1] === 0x0d ? end - 1 : end);
}

/** @returns how many bytes were read; 0 at the end */
function readSome(fd: number, bytes: Uint8Array, at: number): number {
  for (;;) {
    try {
      return readSync(fd, bytes, at, bytes.length - at, null);
    } catch (error) {
      // Another process may have made a pipe non-blocking whose writer is slow.
      if (!(error instanceof Error && 'code' in error && error.code === 'EAGAIN')) throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}
