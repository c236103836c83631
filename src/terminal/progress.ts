/** The progress of what takes long: one line at the end of the terminal that is replaced, and erased at the end. */

import { writeAll } from '../system/patience.ts';
import { isTerminal } from '../system/terminals.ts';

/** Milliseconds without a line: most work is done by then. */
const patience = 1000;
const eraseLine = '\r\x1b[K';

let begun: number | undefined;
let timer: NodeJS.Timeout | undefined;
let wanted = '';
let shown = '';

/**
 * Says what is being done, in place of what was; empty at the end. Shows it only on a terminal, and only once the work
 * since the first call has taken a second. Whoever begins ends it, also if the work fails: {@link whileSaying}.
 */
export function sayProgress(text: string): void {
  if (!isTerminal(2)) return;
  wanted = text;
  if (text === '') {
    clearTimeout(timer);
    [begun, timer] = [undefined, undefined];
    if (shown !== '') show();
    return;
  }
  begun ??= performance.now();
  const left = patience - (performance.now() - begun);
  if (left <= 0) show();
  else timer ??= setTimeout(show, left).unref();
}

/** Does some work under a line of progress. */
export async function whileSaying<T>(text: string, work: () => T | Promise<T>): Promise<T> {
  sayProgress(text);
  try {
    return await work();
  } finally {
    sayProgress('');
  }
}

function show(): void {
  shown = wanted === '' ? '' : `auxcred: ${wanted}`.slice(0, (process.stderr.columns || 80) - 1);
  write(`${eraseLine}${shown}`);
}

/** Writes whole lines above the progress. */
export const writeAbove = (lines: string): void => {
  write(`${shown === '' ? '' : eraseLine}${lines}${shown}`);
};

function write(text: string): void {
  try {
    writeAll(2, Buffer.from(text));
  } catch {
    // Whoever read it is gone, as in `auxcred apply 2>&1 | head`: the work is finished all the same.
  }
}
