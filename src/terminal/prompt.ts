import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { Failure } from '../failure.ts';
import { patiently } from '../system/patience.ts';
import { terminals } from '../system/terminals.ts';

/**
 * Asks at the terminal, without echoing, even if standard input is not one. The caller wipes the answer.
 * @throws Failure `usage` if there is no terminal, or the question is answered with ^C or ^D, or with too much
 */
export function askSecret(question: string, hint: string): Uint8Array {
  let fd: number;
  try {
    fd = openSync('/dev/tty', 'r+');
  } catch (error) {
    throw new Failure('usage', `there is no terminal to ask for the ${question}`, { hint, cause: error });
  }
  const terminal = new (terminals().ReadStream)(fd);
  const answer = Buffer.alloc(4096);
  try {
    terminal.setRawMode(true);
    show(fd, `${question}: `);
    return readLine(fd, answer);
  } finally {
    // First: a terminal that is gone takes no more calls.
    answer.fill(0);
    terminal.setRawMode(false);
    show(fd, '\n');
    terminal.destroy();
    closeQuietly(fd);
  }
}

/** Asks a question at the terminal; anything but yes means no. @throws Failure `usage` if there is no terminal */
export function askYes(question: string, hint: string): boolean {
  let fd: number;
  try {
    fd = openSync('/dev/tty', 'r+');
  } catch (error) {
    throw new Failure('usage', `there is no terminal to ask: ${question}`, { hint, cause: error });
  }
  try {
    show(fd, `${question} [y/N] `);
    const answer = Buffer.alloc(256);
    const length = patiently(() => readSync(fd, answer));
    return /^y(?:es)?\s*$/i.test(answer.toString('utf8', 0, length));
  } finally {
    closeSync(fd);
  }
}

const show = (fd: number, text: string): number => patiently(() => writeSync(fd, text));

/** Reads an answer that is too long to its end too: what is left at the terminal, the shell would show and run. */
function readLine(fd: number, answer: Buffer): Uint8Array {
  let isTooLong = false;
  for (let length = 0; ; ) {
    const at = length;
    if (patiently(() => readSync(fd, answer, at, 1, null)) === 0) break;
    const key = answer[length] ?? 0;
    if (key === 0x0d || key === 0x0a) {
      if (!isTooLong) return Uint8Array.from(answer.subarray(0, length));
      throw new Failure('usage', `the answer is longer than ${String(answer.length - 1)} bytes`);
    }
    if (key === 0x03 || key === 0x04) break;
    if (key === 0x7f || key === 0x08) {
      // The last character may have several bytes of UTF-8.
      do length = Math.max(0, length - 1);
      while (length > 0 && ((answer[length] ?? 0) & 0xc0) === 0x80);
    } else if (key === 0x15) {
      length = 0;
      isTooLong = false;
    } else if (length < answer.length - 1) length++;
    else isTooLong = true;
  }
  throw new Failure('usage', 'nothing was entered');
}

function closeQuietly(fd: number): void {
  try {
    closeSync(fd);
  } catch {
    // Already closed by the stream.
  }
}
