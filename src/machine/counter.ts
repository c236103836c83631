/** The counter in this machine's TPM that records which store is active. */
import { Failure } from '../failure.ts';
import { type Sealing, usesTpm } from '../seeds/payload.ts';
import type { PinnedCounter } from '../seeds/pins.ts';
import { raiseCounter, type TpmCounter } from '../seeds/tpm-counter.ts';
import { say, warn } from '../terminal/say.ts';
import { counterAt, makeCounter } from '../tpm2/nv-counter.ts';
import type { RecordedSrk } from '../tpm2/srk.ts';
import { openTpm, type Tpm } from '../tpm2/tpm.ts';
import { indexText } from '../tpm2/wire.ts';

/** The counter of the TPM that the seeds are sealed to. */
export interface FoundCounter extends Pick<TpmCounter, 'index' | 'increment'> {
  readonly value: number;
  /** Whether it was created just now. */
  readonly isNew: boolean;
}

/**
 * The pinned counter, if this TPM has it, or a new one; undefined without a TPM, or if it can't create one.
 * @param srk - of the TPM that the seeds are sealed to
 * @throws Failure, `other-tpm` for any other TPM
 */
export async function counterOf(
  { withKey, device }: Sealing,
  pinned: PinnedCounter | undefined,
  srk: RecordedSrk | undefined,
): Promise<FoundCounter | undefined> {
  if (!usesTpm(withKey)) return undefined;
  const tpm = await openTpm(device);
  try {
    const value = pinned && (await counterAt(tpm, pinned.index, srk));
    const found =
      pinned && value !== undefined ? { index: pinned.index, value, isNew: false } : await newCounter(tpm, srk);
    return (
      found && {
        ...found,
        increment: async () => {
          await raiseCounter({ device }, found.index, srk);
        },
      }
    );
  } finally {
    await tpm.close();
  }
}

/** Whether the TPM has a counter at `index`, which another one may have had; false if that can't be known. */
export async function hasCounter(device: string | undefined, index: number): Promise<boolean> {
  try {
    const tpm = await openTpm(device);
    try {
      return (await counterAt(tpm, index, undefined)) !== undefined;
    } finally {
      await tpm.close();
    }
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return false;
  }
}

async function newCounter(
  tpm: Tpm,
  srk: RecordedSrk | undefined,
): Promise<Omit<FoundCounter, 'increment'> | undefined> {
  try {
    const made = await makeCounter(tpm, srk);
    say(`the TPM's counter ${indexText(made.index)} records which store is active`);
    return { ...made, isNew: true };
  } catch (error) {
    if (!(error instanceof Failure) || error.code === 'other-tpm') throw error;
    warn(
      'the TPM has no counter for this machine, so if an older store is restored as a whole, that goes ' +
        `unnoticed: ${error.message}`,
      error.hint,
    );
    return undefined;
  }
}

/**
 * Raises the counter if the power failed after the snapshot became active but before the counter was raised; returns
 * its value.
 * @param recorded - the snapshot's number
 * @throws Failure
 */
export async function caughtUp(
  { increment: count }: Pick<TpmCounter, 'increment'>,
  value: number,
  recorded: number | undefined,
): Promise<number> {
  if (recorded !== value + 1) return value;
  await count();
  return recorded;
}

/**
 * The active store has the counter's next number; until the counter reaches it, the store before would be accepted too.
 * @returns by how much the counter was raised: 0 if there is none, or if the TPM failed
 */
export async function raised(counter: Pick<TpmCounter, 'increment'> | undefined): Promise<0 | 1> {
  if (!counter) return 0;
  try {
    await counter.increment();
    return 1;
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    warn(`the TPM's counter was not raised: ${error.message}`, 'auxcred provision tries again');
    return 0;
  }
}
