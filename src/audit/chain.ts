/** Writes the audit chain: every record of the broker holds the hash of those before it. */
import { randomBytes } from 'node:crypto';
import { base64, hex, utf8 } from '../bytes.ts';
import type { JournalFields } from '../system/journal.ts';
import type { Statement } from '../tpm2/attested-counter.ts';
import type { ChainState } from './chain-state.ts';
import type { Signer } from './key.ts';
import { chainMessageIds, coveredBytes, firstHash, type Position, recordHash } from './record.ts';

/** Where records go. @returns whether the journal took it */
export type Journal = (fields: JournalFields) => boolean;

/** What a TPM said about a position of this run. */
export interface Attested {
  readonly sequence: number;
  readonly statement: Statement;
  /** The id of the key that signed it. */
  readonly keyId: string;
}

/** One run's part of the chain. */
export class Chain {
  readonly #run = randomBytes(16).toString('hex');
  readonly #state: ChainState | undefined;
  readonly #journal: Journal;
  #last: Position | undefined;
  #unwritten = 0;

  /** @param state - where the run before ended; undefined if nothing can keep that */
  constructor(state: ChainState | undefined, journal: Journal) {
    this.#state = state;
    this.#journal = journal;
  }

  /** The last record that was written; undefined if none was. */
  get last(): Position | undefined {
    return this.#last;
  }

  /** Writes a record as the next of the chain. The first one of a run comes after a record of its start. */
  record(fields: JournalFields): void {
    if (!this.#last) this.#start();
    if (this.#last) this.#write(fields);
    else {
      this.#unwritten++;
      process.stderr.write(`${fields.MESSAGE}\n`);
    }
  }

  /**
   * Writes a record that vouches for all before it.
   * @param signer - undefined if the seed is not open, and then nothing is written
   */
  anchor(signer: Signer | undefined, attested?: Attested): void {
    if (!signer || !this.#last) return;
    const tpm =
      attested === undefined
        ? {}
        : {
            AUXCRED_TPM_SEQUENCE: String(attested.sequence),
            AUXCRED_TPM_ATTEST: base64(attested.statement.attest),
            AUXCRED_TPM_SIGNATURE: base64(attested.statement.signature),
            AUXCRED_TPM_KEY: attested.keyId,
          };
    const fields = {
      MESSAGE: `signed the audit chain up to here${attested === undefined ? '' : ', and so did the TPM'}`,
      MESSAGE_ID: chainMessageIds.anchored,
      PRIORITY: '7',
      AUXCRED_OUTCOME: 'anchored',
      AUXCRED_KEY: signer.keyId,
      ...tpm,
    };
    this.#write(fields, (hash) => ({ AUXCRED_SIGNATURE: base64(signer.sign(hash)) }));
    this.#state?.sync();
  }

  #start(): void {
    const before = this.#state?.read();
    this.#write(
      {
        MESSAGE: before ? 'the audit chain goes on' : 'the audit chain begins',
        MESSAGE_ID: chainMessageIds.started,
        PRIORITY: '7',
        AUXCRED_OUTCOME: 'started',
        AUXCRED_PREVIOUS_RUN: before?.run ?? '',
        AUXCRED_PREVIOUS_SEQUENCE: before === undefined ? '' : String(before.sequence),
        AUXCRED_PREVIOUS_HASH: before === undefined ? '' : hex(before.hash),
      },
      undefined,
      before?.hash,
    );
  }

  #write(fields: JournalFields, more?: (hash: Uint8Array) => Record<string, string>, before?: Uint8Array): void {
    const sequence = this.#last === undefined ? 0 : this.#last.sequence + 1;
    const whole: JournalFields = {
      ...fields,
      AUXCRED_RUN: this.#run,
      AUXCRED_SEQUENCE: String(sequence),
      AUXCRED_TIME: String(Date.now()),
      ...(this.#unwritten === 0 ? {} : { AUXCRED_UNWRITTEN: String(this.#unwritten) }),
    };
    const hash = recordHash(
      this.#last?.hash ?? before ?? firstHash,
      coveredBytes(new Map(Object.entries(whole).map(([name, value]) => [name, utf8(value)]))),
    );
    if (!this.#journal({ ...whole, ...more?.(hash), AUXCRED_HASH: hex(hash) })) {
      this.#unwritten++;
      return;
    }
    this.#unwritten = 0;
    this.#last = { run: this.#run, sequence, hash };
    this.#state?.write(this.#last);
  }
}
