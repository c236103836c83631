/** Reading the journal back. */
import { spawnSync } from 'node:child_process';

export interface JournalEntry {
  readonly at: Date;
  /** A field as text; empty where the entry has none. */
  field(name: string): string;
}

/** Entries that match, oldest first; none where there is no journal, or it is not ours to read. */
export function journalEntries(...matches: readonly string[]): JournalEntry[] {
  const { status, stdout } = spawnSync('journalctl', ['--quiet', '--no-pager', '--all', '--output=json', ...matches], { encoding: 'utf8', maxBuffer: 64 << 20, stdio: ['ignore', 'pipe', 'ignore'] });
  if (status !== 0) return [];
  return stdout.split('\n').filter((line) => line !== '').map((line) => {
    const entry: unknown = JSON.parse(line);
    const field = (name: string): string => {
      const value: unknown = entry !== null && typeof entry === 'object' ? Reflect.get(entry, name) : undefined;
      // A value that is not text is a list of its bytes (journalctl's documentation of --output=json).
      return typeof value === 'string' ? value : Array.isArray(value) ? Buffer.from(value.map(Number)).toString('utf8') : '';
    };
    return { at: new Date(Number(field('__REALTIME_TIMESTAMP')) / 1000), field };
  });
}
