/** What happened on this machine, and how often, for `status --prometheus`. */
import { lstatSync } from 'node:fs';
import { brokerMatches, messageIds } from '../broker/journal-record.ts';
import { utf8 } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { ensureFolder, readIfPresent, replaceFile } from '../system/files.ts';
import { countEntries } from '../system/journal-entries.ts';
import { canonicalJson, Json } from '../system/json.ts';
import type { Paths } from '../system/paths.ts';

/** How many requests were granted and refused since the boot. */
export interface Outcomes {
  readonly released: number;
  readonly refused: number;
}

/** What happened on this machine, as far as this user may see it. */
export interface Activity {
  /** When a push last changed something here; undefined if none did, or this user may not see it. */
  readonly lastPush: Date | undefined;
  /** When the active snapshot was made. */
  readonly lastProvision: Date | undefined;
  /** Undefined if systemd does not run here, or this user is not root. */
  readonly outcomes: Outcomes | undefined;
}

/** Collects the activity. @param counts - whether the journal is this system's and may be read */
export const activityOn = (paths: Paths, counts: boolean): Activity => ({
  lastPush: changedAt(paths.pushed),
  lastProvision: changedAt(paths.snapshot),
  outcomes: counts ? outcomesSinceBoot(paths) : undefined,
});

function changedAt(path: string): Date | undefined {
  try {
    return lstatSync(path).mtime;
  } catch {
    return undefined;
  }
}

interface Counted extends Outcomes {
  /** The last entry that was counted. */
  readonly cursor: string;
}

/**
 * The releases and refusals of this boot: the sum that was counted before, and the journal's entries since then. The
 * journal drops its oldest entries, and a counter must not fall.
 */
function outcomesSinceBoot(paths: Paths): Outcomes | undefined {
  const before = countedBefore(paths);
  const since = countEntries('AUXCRED_OUTCOME', trustedRecords(), before?.cursor);
  if (!since) return undefined;
  const outcomes: Outcomes = {
    released: (before?.released ?? 0) + (since.values.get('released') ?? 0),
    refused: (before?.refused ?? 0) + (since.values.get('refused') ?? 0),
  };
  const cursor = since.cursor ?? before?.cursor;
  if (cursor !== undefined && cursor !== before?.cursor) {
    ensureFolder(paths.runtime, { mode: 0o755 });
    replaceFile(paths.counted, utf8(`${canonicalJson({ version: 1, cursor, ...outcomes })}\n`), { mode: 0o600 });
  }
  return outcomes;
}

/** Undefined if nothing was counted yet, or the file can't be read: then counting starts again. */
function countedBefore(paths: Paths): Counted | undefined {
  const bytes = readIfPresent(paths.counted);
  if (!bytes) return undefined;
  try {
    const json = Json.parse(bytes, paths.counted, 'delete it');
    json.version(1);
    return {
      cursor: json.at('cursor').text(),
      released: json.at('released').whole(0, Number.MAX_SAFE_INTEGER),
      refused: json.at('refused').whole(0, Number.MAX_SAFE_INTEGER),
    };
  } catch (error) {
    if (error instanceof Failure) return undefined;
    throw error;
  }
}

/** Matches the broker's records and those of root, who writes files. */
function trustedRecords(): string[] {
  const ids = [`MESSAGE_ID=${messageIds.released}`, `MESSAGE_ID=${messageIds.refused}`];
  return [...ids, ...brokerMatches('/'), '+', ...ids, 'SYSLOG_IDENTIFIER=auxcred', '_UID=0'];
}
