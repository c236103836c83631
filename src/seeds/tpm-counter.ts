/**
 * Detects that somebody restored an old store, by two counters. The one in seeds.age counts the seals, and the snapshot
 * records it. The TPM's is incremented each time a snapshot becomes active, and the snapshot records its value: so an
 * older snapshot, and with it older seeds and fixed files, is noticed.
 *
 * The snapshot is written first, with the next value. So both the counter's value and the next one are valid: the
 * machine may lose power in between.
 */
import { Failure } from '../failure.ts';
import { incrementCounter } from '../tpm2/nv-counter.ts';
import type { RecordedSrk } from '../tpm2/srk.ts';
import { openTpm } from '../tpm2/tpm.ts';
import { indexText } from '../tpm2/wire.ts';
import type { PinnedCounter } from './pins.ts';

/** The pinned counter, as read while the seeds were opened. */
export interface TpmCounter extends PinnedCounter {
  /** Its value; undefined if the TPM lacks the counter, or was not needed to open the seeds. */
  readonly value: number | undefined;
  /** Increments the counter by one. @throws Failure */
  increment(): Promise<void>;
}

/** The command that accepts an older store. */
export const acceptOlder = 'auxcred provision --accept-older';

/**
 * Refuses an old seeds.age that somebody restored.
 * @param counter - its own counter, which counts the seals
 * @param recorded - the counter of the seeds that the snapshot was made with; 0 without a snapshot
 * @param way - the command that accepts it
 * @throws Failure `older`
 */
export function refuseOldSeeds(counter: number, recorded: number, way = acceptOlder): void {
  if (counter >= recorded) return;
  throw new Failure('older', `seeds.age has counter ${String(counter)}; counter ${String(recorded)} was active`, {
    hint: `put the newer one back; if this one is meant, ${way}`,
  });
}

/**
 * Refuses a snapshot that does not match the counter.
 * @param recorded - the number in the snapshot; undefined if there is no snapshot, or it has no number
 * @returns the counter's value; undefined if none is pinned
 * @throws Failure `older`
 */
export function refuseRewound(counter: TpmCounter | undefined, recorded: number | undefined): number | undefined {
  if (!counter) return undefined;
  const { value, index, start } = counter;
  if (value === undefined)
    throw new Failure(
      'older',
      `the TPM's counter ${indexText(index)} can't be read, so the store on this disk may be an old one`,
      {
        hint:
          'if an old seeds.age was restored, put the newer one back; auxcred reseal --accept-older accepts it and ' +
          'makes a new counter',
      },
    );
  if (recorded === undefined && value > start)
    throw new Failure(
      'older',
      `the store on this disk is older than the TPM remembers: number ${String(value)} was active, and ` +
        'nothing here has a number',
      { hint: `put the newer one back; if this one is meant, ${acceptOlder}` },
    );
  if (recorded !== undefined && recorded < value)
    throw new Failure(
      'older',
      `the store on this disk is older than the TPM remembers: it is number ${String(recorded)}, and ` +
        `number ${String(value)} was active`,
      { hint: `put the newer one back; if this one is meant, ${acceptOlder}` },
    );
  if (recorded !== undefined && recorded > value + 1)
    throw new Failure(
      'older',
      `the TPM remembers less than the store on this disk: number ${String(value)}, and ` +
        `number ${String(recorded)} is active`,
      { hint: `the TPM was reset to an earlier state; if you did that, ${acceptOlder}` },
    );
  return value;
}

/**
 * Increments the counter of a TPM by one.
 * @param at - the device in systemd's notation, and the milliseconds to wait for its node
 * @param srk - the SRK that the TPM must have; undefined for the one that would be sealed to next
 * @throws Failure, `other-tpm` if the TPM has another SRK, `tpm` if the counter is gone
 */
export async function raiseCounter(
  { device, patience = 0 }: { readonly device: string | undefined; readonly patience?: number },
  index: number,
  srk: RecordedSrk | undefined,
): Promise<void> {
  const tpm = await openTpm(device, patience);
  try {
    await incrementCounter(tpm, index, srk);
  } finally {
    await tpm.close();
  }
}
