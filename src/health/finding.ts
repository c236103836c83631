/** What a check found. */
export type Level = 'ok' | 'note' | 'warning' | 'problem';

export interface Finding {
  /** Which check it was; the name stays the same. */
  readonly check: string;
  readonly level: Level;
  /** What is so, lower case, without a full stop. */
  readonly message: string;
  /** Why it matters; undefined where all is well. */
  readonly why: string | undefined;
  /** The commands that mend it, as they are typed; words in capitals stand for what only the reader knows. */
  readonly mend: readonly string[];
}

/** Something that was looked at and is well. */
export const fine = (check: string, message: string): Finding => ({
  check,
  level: 'ok',
  message,
  why: undefined,
  mend: [],
});

/** Something that is not well, or that somebody may want to know of. */
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
