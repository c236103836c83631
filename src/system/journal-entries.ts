/** Reads the journal. */
import { spawn, spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { Failure } from '../failure.ts';
import { printable } from './printable.ts';

/** An entry of the journal. */
export interface JournalEntry {
  /** When journald got it. */
  readonly at: Date;
  /** The names of its fields. */
  readonly names: readonly string[];
  /** A field as text that is safe for a terminal; empty if the entry lacks it. */
  field(name: string): string;
  /** A field as it was logged; undefined if the entry lacks it, or has it more than once. */
  bytes(name: string): Uint8Array | undefined;
}

const options = ['--quiet', '--no-pager', '--all', '--output=json'] as const;

/** Who sees the records of the system (systemd-journald.service(8)). */
export const journalReaders = 'only root and the group systemd-journal may read the records of the system';

/**
 * Entries that match, oldest first; none if there is no journal or this user may not read it. Any user can log any
 * field, `MESSAGE_ID` too. Only fields that begin with `_`, which journald adds itself, tell who wrote an entry
 * (systemd.journal-fields(7)).
 */
export function journalEntries(...matches: readonly string[]): JournalEntry[] {
  const { status, stdout } = spawnSync('journalctl', [...options, ...matches], {
    encoding: 'utf8',
    maxBuffer: 64 << 20,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  if (status !== 0) return [];
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map(parseEntry);
}

/**
 * As {@link journalEntries}, one after the other, for journals of any size.
 * @throws Failure `system` with what journalctl says, if it fails
 */
export async function* journalStream(...matches: readonly string[]): AsyncGenerator<JournalEntry> {
  const child = spawn('journalctl', [...options, ...matches], { stdio: ['ignore', 'pipe', 'pipe'] });
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (part: string) => {
    complaint += part;
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  // Awaited below; until then a failure must not count as unhandled.
  ended.catch(() => undefined);
  try {
    for await (const line of createInterface({ input: child.stdout, crlfDelay: Number.POSITIVE_INFINITY }))
      if (line !== '') yield parseEntry(line);
    if ((await ended) !== 0 && complaint !== '') throw new Error(complaint);
  } catch (error) {
    const reason = error instanceof Error ? error.message.trim() : String(error);
    const hint = /permission/i.test(reason) ? { hint: journalReaders } : {};
    throw new Failure('system', `journalctl failed: ${printable(reason)}`, { ...hint, cause: error });
  } finally {
    child.kill();
  }
}

/** Parses a line of `journalctl --output=json`. */
export function parseEntry(line: string): JournalEntry {
  const entry: unknown = JSON.parse(line);
  const fields = new Map<string, unknown>(entry !== null && typeof entry === 'object' ? Object.entries(entry) : []);
  const bytes = (name: string): Uint8Array | undefined => bytesOf(fields.get(name));
  const field = (name: string): string => printable(Buffer.from(bytes(name) ?? []).toString('utf8'));
  return { at: new Date(Number(field('__REALTIME_TIMESTAMP')) / 1000), names: [...fields.keys()], field, bytes };
}

/** A value that is not text is a list of bytes, and a repeated field is a list of values (journalctl(1)). */
function bytesOf(value: unknown): Uint8Array | undefined {
  if (typeof value === 'string') return Buffer.from(value, 'utf8');
  return Array.isArray(value) && value.every((item) => typeof item === 'number') ? Uint8Array.from(value) : undefined;
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
  // Before systemd 254, --after-cursor= skips one entry too many if the cursor's own is gone. So this starts at the
  // cursor, and leaves out the entry that has it.
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
