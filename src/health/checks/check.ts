/** The form of a check: everything that doctor can find has a file here. */
import type { Finding, Level } from '../finding.ts';
import type { Health } from '../health.ts';

/** One check of doctor. */
export interface Check {
  /** As findings show it; the name stays the same. */
  readonly name: string;
  /** Why its faults matter, unless one gives a reason of its own. */
  readonly why: string;
  /** Silent about what can't be known. */
  readonly faults: (health: Health) => readonly Fault[];
  /** The message if there are no faults; undefined if nothing was looked at. */
  readonly well?: (health: Health) => string | undefined;
}

/** What a check finds wrong. */
export interface Fault {
  /** The name of its finding, if that is not the check's. */
  readonly name?: string;
  readonly level: Exclude<Level, 'ok'>;
  readonly message: string;
  readonly why?: string;
  /** The commands that fix it. */
  readonly mend: readonly string[];
}

/** What a check finds. Faults under another name leave the check itself well. */
export function findingsBy({ name, why, faults, well }: Check, health: Health): Finding[] {
  const found = faults(health);
  const message = found.every((fault) => fault.name !== undefined) ? well?.(health) : undefined;
  return [
    ...found.map((fault) => ({
      check: fault.name ?? name,
      level: fault.level,
      message: fault.message,
      why: fault.why ?? why,
      mend: fault.mend,
    })),
    ...(message === undefined ? [] : [{ check: name, level: 'ok' as const, message, why: undefined, mend: [] }]),
  ];
}

/** The first items, and the number of the others. */
export const listed = (items: readonly string[], most = 6): string =>
  items.length <= most
    ? items.join(', ')
    : `${items.slice(0, most).join(', ')} and ${String(items.length - most)} more`;
