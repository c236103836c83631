/** The marks that git leaves in a file that two people changed. */
import { Failure } from '../failure.ts';

/** Tells of a merge conflict that nobody has settled. */
export interface MergeConflict {
  /** The line of the first mark, from 1. */
  readonly line: number;
  readonly message: string;
  readonly hint: string;
}

/** The first conflict in a text that does not parse; undefined if there is none. */
export function mergeConflictIn(text: string): MergeConflict | undefined {
  const found = text.split('\n').findIndex((line) => /^<{7}(?: |\r?$)/.test(line));
  if (found === -1) return undefined;
  return {
    line: found + 1,
    message: 'a merge left a conflict here',
    hint: 'keep one side, or both, and remove the lines with <<<<<<<, ======= and >>>>>>>; then git add and git commit',
  };
}

/** Refuses a text with a conflict. @throws Failure `malformed` */
export function refuseMergeConflict(text: string, file: string): void {
  const conflict = mergeConflictIn(text);
  if (!conflict) return;
  const { line, message, hint } = conflict;
  throw new Failure('malformed', `${file}:${String(line)}: ${message}`, { hint });
}
