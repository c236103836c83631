/** Reading the journal back. */
import { spawnSync } from 'node:child_process';
import { printable } from './printable.ts';

export interface JournalEntry {
  readonly at: Date;
  /** A field as text that a terminal can be given; empty if the entry has none. */
  field(name: string): string;
}

/**
 * Entries that match, oldest first; none if there is no journal, or it is not ours to read. Any user can log any field,
 * `MESSAGE_ID` too: who wrote an entry is said by those that begin with `_` alone, which journald adds itself
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
        // A value that is not text is a list of its bytes; a field that comes several times is a list of values
        // (journalctl(1), --output=json).
        const bytes =
          Array.isArray(value) && value.every((item) => typeof item === 'number')
            ? Buffer.from(value).toString('utf8')
            : '';
        return printable(typeof value === 'string' ? value : bytes);
      };
      return { at: new Date(Number(field('__REALTIME_TIMESTAMP')) / 1000), field };
    });
}
