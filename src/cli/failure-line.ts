import type { Failure } from '../failure.ts';

/** A failure on one line: its message, and the hint in parentheses. */
export const failureLine = ({ message, hint }: Pick<Failure, 'message' | 'hint'>): string =>
  `${message}${hint === undefined ? '' : ` (${hint})`}`;
