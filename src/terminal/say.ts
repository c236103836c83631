/**
 * Output to the terminal. What was asked for goes to standard output; everything else goes to standard error after
 * `auxcred: `, lower case, without a full stop.
 */
import { fstatSync, fsyncSync, statSync } from 'node:fs';
import { exitStatus, Failure, messageOf, systemCode } from '../failure.ts';
import { writeAll } from '../system/patience.ts';
import { printable, printableJson } from '../system/printable.ts';
import { isTerminal } from '../system/terminals.ts';
import { writeAbove } from './progress.ts';

let isUnwritten = false;

/** The exit status of work that ended with `status`: another one if some of its output could not be written. */
export const finalStatus = (status: number): number => (status === 0 && isUnwritten ? exitStatus.system : status);

/** Prints requested output, one line: {@link printBytes}. */
export function print(line: string): void {
  printBytes(Buffer.from(`${line}\n`));
}

/**
 * Prints requested output, byte for byte. If it can't be written, the work goes on: {@link finalStatus}. Node's own
 * stream would load sockets and terminals for it.
 */
export function printBytes(bytes: Uint8Array): void {
  try {
    writeAll(1, bytes);
  } catch (error) {
    // The reader may have seen enough, as in `auxcred graph | head`.
    if (isUnwritten || systemCode(error) === 'EPIPE') return;
    isUnwritten = true;
    say(`standard output can't be written: ${messageOf(error)}`);
  }
}

/**
 * Prints what is never shown again, and waits until it is written. Called before anything depends on it.
 * @param what - `the 24 words`, for the failure's message
 * @throws Failure `system` if standard output does not take it: it is full, closed, or discards its input
 */
export function handOut(what: string, text: string): void {
  const refused = (why: string, cause?: unknown): Failure =>
    new Failure('system', `${what} can't be shown, so nothing was changed: ${why}`, {
      hint: 'use a terminal, a file or a pipe as standard output',
      cause,
    });
  // Node opens /dev/null if standard output is closed.
  if (fstatSync(1).rdev === statSync('/dev/null').rdev) throw refused('standard output is closed or /dev/null');
  const bytes = Buffer.from(text);
  try {
    writeAll(1, bytes);
    if (fstatSync(1).isFile()) fsyncSync(1);
  } catch (error) {
    throw refused(messageOf(error), error);
  } finally {
    bytes.fill(0);
  }
}

/** Says what happened, on one line: names of files, hosts and units in it may be anybody's. */
export function say(text: string): void {
  writeAbove(`auxcred: ${printable(text, text.length)}\n`);
}

/** Says what may go wrong later, and optionally how to avoid it. */
export function warn(text: string, hint?: string): void {
  say(`warning: ${text}`);
  if (hint !== undefined) say(`hint: ${hint}`);
}

/** Says why a command failed, and returns its exit status. */
export function sayFailure(thrown: unknown): number {
  const error = systemFailure(thrown) ?? thrown;
  if (!(error instanceof Failure)) {
    say(`unexpected error: ${messageOf(error)}`);
    if (error instanceof Error && process.env['AUXCRED_DEBUG'] !== undefined) writeAbove(`${error.stack ?? ''}\n`);
    return 1;
  }
  say(error.message);
  if (error.hint !== undefined) say(`hint: ${error.hint}`);
  return exitStatus[error.code];
}

/** The failure for an error of a system call, such as an unreadable file; undefined for any other error. */
export function systemFailure(error: unknown): Failure | undefined {
  if (!(error instanceof Error) || !('syscall' in error)) return undefined;
  const code = systemCode(error);
  const denied = code === 'EACCES' || code === 'EPERM';
  const message = code === 'ENOENT' && 'path' in error ? `there is no ${String(error.path)}` : error.message;
  return new Failure('system', message, denied ? { hint: 'run it as root', cause: error } : { cause: error });
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

/** Text for standard output, colored if that is a terminal with colors and NO_COLOR is not set (no-color.org). */
export function colored(text: string, color: keyof typeof colors): string {
  const shows = isTerminal(1) && process.env['TERM'] !== 'dumb' && (process.env['NO_COLOR'] ?? '') === '';
  return shows ? `\x1b[${String(colors[color])}m${text}\x1b[0m` : text;
}
