/** Reads input from standard input or a named file. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { Failure } from '../failure.ts';
import { patiently } from './patience.ts';

const newline = 0x0a;

/**
 * Reads a file, or standard input for `-`, to the end, however slowly the bytes come. The caller wipes them.
 * @param most - the most bytes
 * @param part - `line` reads the first line only, returned without its end, and does not wait for more
 * @throws Failure `usage` for a folder and for more than `most` bytes, and what the system says of a file that can't be
 * read
 */
export function readInput(file: string, most: number, part: 'all' | 'line' = 'all'): Uint8Array {
  const what = file === '-' ? 'standard input' : file;
  const fd = file === '-' ? 0 : openSync(file, 'r');
  // The end of a line may take two bytes.
  const bytes = Buffer.alloc(most + 2);
  try {
    if (fstatSync(fd).isDirectory()) throw new Failure('usage', `${what} is a folder, not a file`);
    let length = 0;
    for (let got = -1; got !== 0 && length < bytes.length; length += got) {
      if (part === 'line' && bytes.subarray(0, length).includes(newline)) break;
      got = patiently(() => readSync(fd, bytes, length, bytes.length - length, null));
    }
    const wanted = part === 'line' ? firstLine(bytes.subarray(0, length)) : bytes.subarray(0, length);
    if (wanted.length > most)
      throw new Failure('usage', `${what} has more than ${String(most)} bytes, which is the limit`);
    return Uint8Array.from(wanted);
  } finally {
    bytes.fill(0);
    if (fd !== 0) closeSync(fd);
  }
}

/** A view of the first line, without its newline and a carriage return before that. */
export function firstLine(bytes: Uint8Array): Uint8Array {
  const end = bytes.indexOf(newline);
  return end === -1 ? bytes : bytes.subarray(0, bytes[end - 1] === 0x0d ? end - 1 : end);
}

/** Whether it is a line with its newline, as editors and `echo` write it: as a secret it rarely means the newline. */
export const isWholeLine = (bytes: Uint8Array): boolean =>
  bytes.length > 0 && bytes.indexOf(newline) === bytes.length - 1;
