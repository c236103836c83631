/** The records of one run of the broker, and whether each follows from the one before it. */
import { hex, sameBytes } from '../bytes.ts';
import type { ChainedEntry } from './entry.ts';
import { type Finding, missingText, runText } from './finding.ts';
import { firstHash, type Position, recordHash } from './record.ts';

/** One run's records in the order of their numbers, each number once. */
export class Run {
  readonly id: string;
  readonly records: readonly ChainedEntry[];
  /** What is wrong inside it. */
  readonly findings: readonly Finding[];
  readonly #bySequence: ReadonlyMap<number, ChainedEntry>;

  /** @param listed - in the order of the journal, at least one */
  constructor(id: string, listed: readonly ChainedEntry[]) {
    this.id = id;
    const found: Finding[] = [];
    const bySequence = new Map<number, ChainedEntry>();
    let highest = -1;
    for (const record of listed) {
      const { sequence } = record;
      const other = bySequence.get(sequence);
      if (other) found.push(this.#twice(other, record));
      else if (sequence < highest)
        found.push(
          this.#finding(
            'reordered',
            sequence,
            `record ${String(sequence)} of ${this.#name} comes after record ${String(highest)}`,
          ),
        );
      if (!other) bySequence.set(sequence, record);
      highest = Math.max(highest, sequence);
    }
    this.#bySequence = bySequence;
    this.records = [...bySequence.values()].sort((a, b) => a.sequence - b.sequence);
    this.findings = [...found, ...this.#gaps(), ...this.#alterations()];
  }

  get last(): ChainedEntry | undefined {
    return this.records.at(-1);
  }

  /** The lowest number that is there. */
  get first(): number {
    return this.records[0]?.sequence ?? 0;
  }

  record(sequence: number): ChainedEntry | undefined {
    return this.#bySequence.get(sequence);
  }

  /** Where the run before ended, as this run's start says; undefined if there was none, or the start is missing. */
  get previous(): Position | undefined {
    return this.record(0)?.previous;
  }

  get #name(): string {
    return runText(this.id);
  }

  #finding(kind: Finding['kind'], sequence: number, text: string): Finding {
    return { kind, run: this.id, sequence, text };
  }

  #twice(one: ChainedEntry, other: ChainedEntry): Finding {
    const name = `record ${String(one.sequence)} of ${this.#name}`;
    return hex(one.hash) === hex(other.hash) && haveSameFields(one, other)
      ? this.#finding('duplicated', one.sequence, `there are two copies of ${name}`)
      : this.#finding('altered', one.sequence, `there are two versions of ${name}`);
  }

  #gaps(): Finding[] {
    return this.records.flatMap(({ sequence }, i) => {
      const before = this.records[i - 1]?.sequence;
      return before === undefined || sequence === before + 1
        ? []
        : [this.#finding('missing', before + 1, missingText(before + 1, sequence - 1, ` of ${this.#name}`))];
    });
  }

  #alterations(): Finding[] {
    return this.records.flatMap((record) => {
      const { sequence, covered } = record;
      const before = sequence === 0 ? (this.previous?.hash ?? firstHash) : this.record(sequence - 1)?.hash;
      // What came before is missing, and that is a finding of its own.
      if (before === undefined) return [];
      return covered && hex(recordHash(before, covered)) === hex(record.hash)
        ? []
        : [
            this.#finding(
              'altered',
              sequence,
              `record ${String(sequence)} of ${this.#name}, its hash, or the hash before it was altered`,
            ),
          ];
    });
  }
}

/** Whether two entries have the same covered fields. */
const haveSameFields = (one: ChainedEntry, other: ChainedEntry): boolean =>
  one.covered !== undefined && other.covered !== undefined && sameBytes(one.covered, other.covered);

/** Groups the records of a journal by their runs, in the order in which those appear. */
export function runsOf(records: readonly ChainedEntry[]): Run[] {
  const byRun = new Map<string, ChainedEntry[]>();
  for (const record of records) {
    const list = byRun.get(record.run);
    if (list) list.push(record);
    else byRun.set(record.run, [record]);
  }
  return [...byRun].map(([id, list]) => new Run(id, list));
}
