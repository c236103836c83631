/** The result of a check. */
export type Level = 'ok' | 'note' | 'warning' | 'problem';

/** What a check of doctor says. */
export interface Finding {
  /** The name of the check, which stays the same. */
  readonly check: string;
  readonly level: Level;
  /** Lower case, without a full stop. */
  readonly message: string;
  /** Why it matters; undefined if all is well. */
  readonly why: string | undefined;
  /** The commands that fix it, as they are typed. Words in capitals stand for what only the reader knows. */
  readonly mend: readonly string[];
}

/** Whether nothing has to be done. */
export const isWell = (findings: readonly Finding[]): boolean =>
  findings.every(({ level }) => level === 'ok' || level === 'note');
