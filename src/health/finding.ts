/** The result of a check. */
export type Level = 'ok' | 'note' | 'warning' | 'problem';

export interface Finding {
  /** The name of the check; it never changes. */
  readonly check: string;
  readonly level: Level;
  /** The fact, lower case, without a full stop. */
  readonly message: string;
  /** Why it matters; undefined if all is well. */
  readonly why: string | undefined;
  /** The commands that fix it, as typed; words in capitals stand for what only the reader knows. */
  readonly mend: readonly string[];
}

/** Something that was checked and is well. */
export const fine = (check: string, message: string): Finding => ({
  check,
  level: 'ok',
  message,
  why: undefined,
  mend: [],
});

/** Something that is not well, or worth knowing. */
export const found = (
  check: string,
  level: Exclude<Level, 'ok'>,
  message: string,
  why: string,
  ...mend: readonly string[]
): Finding => ({ check, level, message, why, mend });

/** Whether nothing has to be done. */
export const isWell = (findings: readonly Finding[]): boolean =>
  findings.every(({ level }) => level === 'ok' || level === 'note');
