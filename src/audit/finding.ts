/** What a check of the audit chain found. */

/** What is wrong with the chain. */
export interface Finding {
  readonly kind:
    | 'altered'
    | 'missing'
    | 'duplicated'
    | 'reordered'
    | 'unchained'
    | 'not-signed'
    | 'bad-signature'
    | 'unknown-key'
    | 'begun-again'
    | 'tpm'
    | 'cut-off';
  /** The run and the number of the record in question; undefined if it is about more than one record. */
  readonly run?: string;
  readonly sequence?: number;
  readonly text: string;
}

/** The result of a check. */
export interface Verdict {
  /** How many records are part of the chain, and in how many runs of the broker. */
  readonly records: number;
  readonly runs: number;
  /** How many of them a signature vouches for, and how many statements of the TPM there are. */
  readonly vouched: number;
  readonly attested: number;
  readonly findings: readonly Finding[];
  /** What this check can't know. */
  readonly limits: readonly string[];
}

/** Some numbers in words: `record 5`, `records 5 to 7`. */
export const recordsText = (from: number, to: number): string =>
  from === to ? `record ${String(from)}` : `records ${String(from)} to ${String(to)}`;

/** That records are missing. @param of - what they are part of, behind their numbers: ` of run 1a2b3c4d` */
export const missingText = (from: number, to: number, of: string): string =>
  `${recordsText(from, to)}${of} ${from === to ? 'is' : 'are'} missing`;

/** The short name of a run in texts. */
export const runText = (run: string): string => `run ${run.slice(0, 8)}`;
