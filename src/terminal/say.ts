/**
 * The only module that speaks to the person at the terminal. What was asked for goes to standard output; everything else goes
 * to standard error behind `auxcred: `, lower case, without a full stop.
 */
import { fstatSync, fsyncSync, statSync, writeSync } from 'node:fs';
import { exitStatus, Failure, messageOf } from '../failure.ts';
import { printableJson } from '../system/printable.ts';

/** Output that was asked for, one line. */
export function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Output that was asked for, byte for byte. */
export function printBytes(bytes: Uint8Array): void {
  for (let written = 0; written < bytes.length; ) {
    try {
      written += writeSync(1, bytes, written);
    } catch (error) {
      // A pipe whose reader is slow, which another process has made non-blocking.
      if (!(error instanceof Error && 'code' in error && error.code === 'EAGAIN')) throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}

/**
 * Prints what is never shown again, and waits until it is out. Called before anything depends on it.
 * @param what - `the 24 words`, for the failure
 * @throws Failure `system` if standard output does not take it: it is full, closed, or throws away what it gets
 */
export function handOut(what: string, text: string): void {
  const refused = (why: string, cause?: unknown): Failure =>
    new Failure('system', `${what} can't be shown, so nothing was changed: ${why}`, {
      hint: 'a terminal, a file or a pipe for standard output',
      cause,
    });
  // Node opens /dev/null for a standard output that is closed.
  if (fstatSync(1).rdev === statSync('/dev/null').rdev) throw refused('standard output is closed or /dev/null');
  const bytes = Buffer.from(text);
  try {
    printBytes(bytes);
    if (fstatSync(1).isFile()) fsyncSync(1);
  } catch (error) {
    throw refused(messageOf(error), error);
  } finally {
    bytes.fill(0);
  }
}

/** The line at the end of a terminal that says how far a long piece of work is; empty for none. */
let progress = '';

/** What happened. */
export function say(text: string): void {
  process.stderr.write(`${progress === '' ? '' : eraseLine}auxcred: ${text}\n${progress}`);
}

const eraseLine = '\r\x1b[K';

/** How far a long piece of work is, in place of what was said of it before; empty at its end. Only at a terminal. */
export function sayProgress(text: string): void {
  if (!process.stderr.isTTY) return;
  progress = text === '' ? '' : `auxcred: ${text}`.slice(0, (process.stderr.columns || 80) - 1);
  process.stderr.write(`${eraseLine}${progress}`);
}

/** What may go wrong later, and optionally the way out. */
export function warn(text: string, hint?: string): void {
  say(`warning: ${text}`);
  if (hint !== undefined) say(`hint: ${hint}`);
}

/** Says why a command failed and returns the exit status that goes with it. */
export function sayFailure(thrown: unknown): number {
  const error = systemFailure(thrown) ?? thrown;
  if (!(error instanceof Failure)) {
    say(`unexpected error: ${messageOf(error)}`);
    if (error instanceof Error && process.env['AUXCRED_DEBUG'] !== undefined)
      process.stderr.write(`${error.stack ?? ''}\n`);
    return 1;
  }
  say(error.message);
  if (error.hint !== undefined) say(`hint: ${error.hint}`);
  return exitStatus[error.code];
}

/** The failure for an error that a system call returned, such as a file that may not be read; undefined for any other. */
export function systemFailure(error: unknown): Failure | undefined {
  if (!(error instanceof Error) || !('syscall' in error) || !('code' in error)) return undefined;
  const denied = error.code === 'EACCES' || error.code === 'EPERM';
  return new Failure('system', error.message, denied ? { hint: 'run it as root', cause: error } : { cause: error });
}

/** Rows in aligned columns, the first row a heading. */
export function printTable(rows: readonly (readonly string[])[]): void {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  for (const row of rows)
    print(row.map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0))).join('  '));
}

/** `1 unit`, `2 units`. */
export const counted = (number: number, what: string): string => `${String(number)} ${what}${number === 1 ? '' : 's'}`;

/** JSON for programs, indented. */
export function printJson(value: unknown): void {
  print(printableJson(value));
}

const colors = { red: 31, yellow: 33, green: 32, bold: 1 } as const;

/** Text for standard output, colored where that is a terminal that shows colors and nobody minds (no-color.org). */
export function colored(text: string, color: keyof typeof colors): string {
  const shows = process.stdout.isTTY && process.env['TERM'] !== 'dumb' && (process.env['NO_COLOR'] ?? '') === '';
  return shows ? `\x1b[${String(colors[color])}m${text}\x1b[0m` : text;
}
