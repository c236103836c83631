/** Reads the journal. */
import { spawnSync } from 'node:child_process';
import { printable } from './printable.ts';

/** An entry of the journal. */
export interface JournalEntry {
  readonly at: Date;
  /** A field as text that is safe for a terminal; empty if the entry lacks it. */
  field(name: string): string;
}

/**
 * Entries that match, oldest first; none if there is no journal or this user may not read it. Any user can log any
 * field, `MESSAGE_ID` too. Only fields that begin with `_`, which journald adds itself, tell who wrote an entry
 * (systemd.journal-fields(7)).
 */
export function journalEntries(...matches: readonly string[]): JournalEntry[] {
  const { status, stdout } = spawnSync('journalctl', ['--quiet', '--no-pager', '--all', '--output=json', ...matches], {
    encoding: 'utf8',
    maxBuffer: 64 << 20,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  if (status !== 0) return [];
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const entry: unknown = JSON.parse(line);
      const field = (name: string): string => {
        const value: unknown = entry !== null && typeof entry === 'object' ? Reflect.get(entry, name) : undefined;
        // A value that is not text is a list of bytes, and a repeated field is a list of values (journalctl(1),
        // --output=json).
        const bytes =
          Array.isArray(value) && value.every((item) => typeof item === 'number')
            ? Buffer.from(value).toString('utf8')
            : '';
        return printable(typeof value === 'string' ? value : bytes);
      };
      return { at: new Date(Number(field('__REALTIME_TIMESTAMP')) / 1000), field };
    });
}

/** How often each value of a field occurs, and the place of the last entry. */
export interface EntryCounts {
  readonly values: ReadonlyMap<string, number>;
  /** Undefined if no entry matches. */
  readonly cursor: string | undefined;
}

/**
 * Counts entries of this boot by the value of a field, without reading the rest of them.
 * @param after - the cursor that an earlier call returned: entries up to there are left out
 * @returns undefined if there is no journal
 */
export function countEntries(field: string, matches: readonly string[], after?: string): EntryCounts | undefined {
  // Before systemd 254 --after-cursor= also skips an entry if the one of the cursor is gone, so it is told by its cursor.
  const from = after === undefined ? ['--output=cat', '--show-cursor'] : ['--output=export', `--cursor=${after}`];
  const { status, stdout } = spawnSync(
    'journalctl',
    ['--quiet', '--no-pager', '--boot', `--output-fields=${field}`, ...from, ...matches],
    { encoding: 'utf8', maxBuffer: 256 << 20, stdio: ['ignore', 'pipe', 'ignore'] },
  );
  if (status !== 0) return undefined;
  const values = new Map<string, number>();
  let cursor: string | undefined;
  for (const line of stdout.split('\n')) {
    const [, place] = /^(?:-- cursor: |__CURSOR=)(.+)$/.exec(line) ?? [];
    if (place !== undefined) cursor = place;
    const value = after === undefined ? line : line.startsWith(`${field}=`) ? line.slice(field.length + 1) : '';
    if (place === undefined && value !== '' && (after === undefined || cursor !== after))
      values.set(value, (values.get(value) ?? 0) + 1);
  }
  return { values, cursor };
}
