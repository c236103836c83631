/** Decides when the audit chain is vouched for: never while a unit waits. */
import type { Chain } from '../audit/chain.ts';
import { keyId, type Signer } from '../audit/key.ts';
import { messageOf } from '../failure.ts';
import { type JournalFields, journal } from '../system/journal.ts';
import { within } from '../system/time-limit.ts';
import { countAndAttest } from '../tpm2/attested-counter.ts';
import { openTpm } from '../tpm2/tpm.ts';

/** Milliseconds without a record until the TPM is asked. */
const quietTime = 1_000;
/** Records after which a signature comes without waiting for a quiet moment. */
export const mostUnsigned = 64;
/** Less than TimeoutStopSec= of auxcred.service. */
const tpmPatience = 5_000;

/** What vouches for the chain: the seed's key, and the TPM at a device if the seed is sealed to one. */
export interface Vouchers {
  /** Called when something is to be signed, since units wait while the broker starts. */
  readonly signer: () => Signer;
  readonly tpm: { readonly device: string | undefined } | undefined;
}

/** Records what the broker does in the chain, and vouches for it in quiet moments. */
export class Auditing {
  readonly #chain: Chain;
  readonly #vouchers: Vouchers | undefined;
  #unsigned = 0;
  #unattested = 0;
  #quiet: NodeJS.Timeout | undefined;
  #asking: Promise<void> | undefined;
  readonly #patience: number;
  #hasComplained = false;
  #isOver = false;

  /**
   * @param vouchers - undefined while the seed is closed: a later run then vouches for this one's records
   * @param patience - milliseconds for which the end of the broker waits for the TPM
   */
  constructor(chain: Chain, vouchers: Vouchers | undefined, patience = tpmPatience) {
    this.#chain = chain;
    this.#vouchers = vouchers;
    this.#patience = patience;
  }

  /** Writes a record. Takes a hash, a datagram and a small write, and after many records a signature. */
  record(fields: JournalFields): void {
    this.#chain.record(fields);
    this.#unsigned++;
    this.#unattested++;
    if (this.#unsigned >= mostUnsigned) this.#sign();
    this.#waitForQuiet();
  }

  /** Vouches for the records up to now, without waiting for a quiet moment. */
  async vouchNow(): Promise<void> {
    clearTimeout(this.#quiet);
    this.#vouch();
    await this.#asking;
  }

  /**
   * Vouches for the last records, without the TPM.
   * @returns whether the TPM answered all that it was asked; if not, a thread still waits for it
   */
  async finish(): Promise<boolean> {
    this.#isOver = true;
    clearTimeout(this.#quiet);
    const asking = this.#asking ?? Promise.resolve();
    const answered = await within(
      this.#patience,
      asking.then(() => true),
      () => false,
    );
    if (this.#unsigned > 0) this.#sign();
    return answered;
  }

  #waitForQuiet(): void {
    clearTimeout(this.#quiet);
    this.#quiet = setTimeout(() => {
      this.#vouch();
    }, quietTime);
  }

  #sign(): void {
    this.#chain.anchor(this.#vouchers?.signer());
    this.#unsigned = 0;
  }

  #vouch(): void {
    const { tpm } = this.#vouchers ?? {};
    // The TPM may hang, and then the signature must not wait for it.
    if ((!tpm || this.#asking) && this.#unsigned > 0) this.#sign();
    if (!tpm || this.#asking || this.#unattested === 0) return;
    this.#asking = this.#attest(tpm.device).finally(() => {
      this.#asking = undefined;
      if (this.#unattested > 0 && !this.#isOver) this.#waitForQuiet();
    });
  }

  async #attest(device: string | undefined): Promise<void> {
    const position = this.#chain.last;
    if (!position) return;
    const covered = this.#unattested;
    try {
      const tpm = await openTpm(device);
      try {
        const { statement, key } = await countAndAttest(tpm, position.hash);
        this.#chain.anchor(this.#vouchers?.signer(), {
          sequence: position.sequence,
          statement,
          keyId: keyId(key),
        });
        this.#unsigned = 0;
      } finally {
        await tpm.close();
      }
    } catch (error) {
      this.#sign();
      this.#complain(messageOf(error));
    }
    this.#unattested -= covered;
  }

  /** Says once why the TPM does not vouch. */
  #complain(reason: string): void {
    if (this.#hasComplained) return;
    this.#hasComplained = true;
    journal({ MESSAGE: `the TPM does not vouch for the audit chain: ${reason}`, PRIORITY: '4' });
  }
}
