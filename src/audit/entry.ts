/** Journal entries of releases and refusals, as `auxcred audit` shows and checks them. */
import type { JournalEntry } from '../system/journal-entries.ts';
import { coveredBytes, isCovered, type Position } from './record.ts';

/** An entry that claims to be part of the chain. A journal may have a million, so it has only what is checked. */
export interface ChainedEntry extends Position {
  /** Its position in the listing, from 0. */
  readonly place: number;
  /** `released`, `refused`, `started`, `anchored`. */
  readonly outcome: string;
  /** How many records journald did not accept before this one. */
  readonly unwritten: number;
  /** {@link coveredBytes}; undefined if one of the fields occurs twice. */
  readonly covered: Uint8Array | undefined;
  /** Where the run before ended, as the first record of a run says. */
  readonly previous: Position | undefined;
  /** Undefined for a record that is no anchor. */
  readonly anchor: Anchor | undefined;
}

/** What vouches for a record and all before it, as it stands there. */
export interface Anchor {
  readonly key: string;
  readonly signature: string;
  /** Undefined if the TPM did not vouch. */
  readonly statement: StatementText | undefined;
}

/** A TPM's statement about a record of the same run, in base64. */
export interface StatementText {
  readonly key: string;
  readonly sequence: string;
  readonly attest: string;
  readonly signature: string;
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
  const outcome = textOf(entry, 'AUXCRED_OUTCOME');
  return {
    ...position,
    place,
    outcome,
    unwritten: Number(textOf(entry, 'AUXCRED_UNWRITTEN')) || 0,
    covered: coveredIn(entry),
    previous: position.sequence === 0 ? positionIn(entry, 'AUXCRED_PREVIOUS') : undefined,
    anchor: outcome === 'anchored' ? anchorIn(entry) : undefined,
  };
}

function coveredIn(entry: JournalEntry): Uint8Array | undefined {
  const covered = new Map<string, Uint8Array>();
  for (const name of entry.names.filter(isCovered)) {
    const value = entry.bytes(name);
    if (!value) return undefined;
    covered.set(name, value);
  }
  return coveredBytes(covered);
}

function anchorIn(entry: JournalEntry): Anchor {
  const field = (name: string): string => textOf(entry, `AUXCRED_${name}`);
  const attest = field('TPM_ATTEST');
  const tpm = { key: field('TPM_KEY'), sequence: field('TPM_SEQUENCE'), signature: field('TPM_SIGNATURE') };
  return {
    key: field('KEY'),
    signature: field('SIGNATURE'),
    statement: attest === '' ? undefined : { attest, ...tpm },
  };
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
