/** Journal entries of releases and refusals, as `auxcred audit` shows and checks them. */
import type { JournalEntry } from '../system/journal-entries.ts';
import { isCovered, type Position } from './record.ts';

/** An entry that claims to be part of the chain. */
export interface ChainedEntry extends Position {
  readonly entry: JournalEntry;
  /** Its position in the listing, from 0. */
  readonly place: number;
  /** The fields that the chain covers; undefined if one of them occurs twice. */
  readonly covered: ReadonlyMap<string, Uint8Array> | undefined;
}

const number = /^(?:0|[1-9][0-9]{0,14})$/;
const runId = /^[0-9a-f]{32}$/;
const hash = /^[0-9a-f]{64}$/;

/** A field exactly as text. Fields that are compared must not pass through `printable`. */
export const textOf = (entry: JournalEntry, name: string): string =>
  Buffer.from(entry.bytes(name) ?? []).toString('utf8');

/** A position in three fields; undefined unless all of them are well formed. */
export function positionIn(entry: JournalEntry, prefix: 'AUXCRED' | 'AUXCRED_PREVIOUS'): Position | undefined {
  const [run, sequence, stated] = ['RUN', 'SEQUENCE', 'HASH'].map((name) => textOf(entry, `${prefix}_${name}`));
  if (run === undefined || sequence === undefined || stated === undefined) return undefined;
  return runId.test(run) && number.test(sequence) && hash.test(stated)
    ? { run, sequence: Number(sequence), hash: Buffer.from(stated, 'hex') }
    : undefined;
}

/** The entry as one of the chain; undefined if it is not. */
function chainedEntry(entry: JournalEntry, place: number): ChainedEntry | undefined {
  const position = positionIn(entry, 'AUXCRED');
  if (!position) return undefined;
  const covered = new Map<string, Uint8Array>();
  let isWhole = true;
  for (const name of entry.names.filter(isCovered)) {
    const value = entry.bytes(name);
    if (value) covered.set(name, value);
    else isWhole = false;
  }
  return { ...position, entry, place, covered: isWhole ? covered : undefined };
}

/** When the broker wrote an entry: the chain covers that, and not what journald says. */
export function timeOf(entry: JournalEntry): Date {
  const time = textOf(entry, 'AUXCRED_TIME');
  return number.test(time) ? new Date(Number(time)) : entry.at;
}

/** The broker's entries, by their part in the chain. */
export class ListedRecords {
  readonly chained: ChainedEntry[] = [];
  /** The places of entries without a place in the chain, as an earlier version wrote them. */
  readonly unchained: number[] = [];
  /** The places of those whose place in the chain can't be read: no broker wrote them like that. */
  readonly damaged: number[] = [];
  #place = 0;

  /** Adds the next entry of the journal. */
  add(entry: JournalEntry): void {
    const record = chainedEntry(entry, this.#place);
    if (record) this.chained.push(record);
    else if (placed.some((name) => entry.names.includes(name)) || chainOnly.includes(textOf(entry, 'AUXCRED_OUTCOME')))
      this.damaged.push(this.#place);
    else if (entry.names.includes('AUXCRED_OUTCOME')) this.unchained.push(this.#place);
    this.#place++;
  }
}

const placed: readonly string[] = ['AUXCRED_RUN', 'AUXCRED_SEQUENCE', 'AUXCRED_HASH', 'AUXCRED_SIGNATURE'];
const chainOnly: readonly string[] = ['started', 'anchored'];
