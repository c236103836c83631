/**
 * What the TPM remembers of a machine's store: a counter that is raised each time something is made active. The
 * snapshot records the number that the counter has then, so an older snapshot, and with it older seeds and fixed files,
 * can't come back unnoticed.
 *
 * The snapshot with the next number is on the disk before the counter says it, so either of the two numbers is right:
 * between the two a machine may lose its power.
 */
import { Failure } from '../failure.ts';
import { counterText } from '../tpm2/nv-counter.ts';
import type { PinnedCounter } from './pins.ts';

/** The counter that is pinned, as it was found while the seeds were opened. */
export interface TpmCounter extends PinnedCounter {
  /** What it says; undefined if the TPM has no such counter, or was not needed to open the seeds. */
  readonly value: number | undefined;
  /** Raises it by one. @throws Failure */
  increment(): Promise<void>;
}

const acceptOlder = 'auxcred provision --accept-older';

/**
 * Refuses a snapshot that is not the one that the TPM remembers.
 * @param recorded - its number; undefined if there is no snapshot, or it has none
 * @returns what the counter says; undefined if none is pinned
 * @throws Failure `older`
 */
export function refuseRewound(counter: TpmCounter | undefined, recorded: number | undefined): number | undefined {
  if (!counter) return undefined;
  const { value, index, start } = counter;
  if (value === undefined)
    throw new Failure(
      'older',
      `the TPM's counter ${counterText(index)} did not answer, so nothing says whether the store on this disk is the newest`,
      {
        hint: 'if seeds.age was brought back, put the newer one back; auxcred reseal --accept-older takes it and makes another counter',
      },
    );
  if (recorded === undefined && value > start)
    throw new Failure(
      'older',
      `the store on this disk is older than the TPM remembers: number ${String(value)} was in force, and nothing here has a number`,
      { hint: `put the newer one back; if this one is meant, ${acceptOlder}` },
    );
  if (recorded !== undefined && recorded < value)
    throw new Failure(
      'older',
      `the store on this disk is older than the TPM remembers: it is number ${String(recorded)}, and number ${String(value)} was in force`,
      { hint: `put the newer one back; if this one is meant, ${acceptOlder}` },
    );
  if (recorded !== undefined && recorded > value + 1)
    throw new Failure(
      'older',
      `the TPM remembers less than the store on this disk: number ${String(value)}, and number ${String(recorded)} is in force`,
      { hint: `the TPM was put back to an earlier state; if you did that, ${acceptOlder}` },
    );
  return value;
}
