/** This boot PCR by PCR: what was measured, what the TPM has, and what the seed is sealed to. */
import { type MeasuredLog, replayed } from '../measured/measured-log.ts';
import type { Prediction } from '../measured/prediction.ts';
import { describeAll } from '../measured/words.ts';
import { readPresentPcrs } from '../tpm2/pcr.ts';
import type { PcrValues, TpmPolicy } from '../tpm2/policy.ts';
import { openTpm } from '../tpm2/tpm.ts';

/** A PCR of this boot. */
export interface MeasuredPcr {
  readonly pcr: number;
  /** The value that the log leads to, in hexadecimal. */
  readonly log: string;
  /** The TPM's value; undefined if the TPM was not asked, or lacks it. */
  readonly tpm: string | undefined;
  /** The value that the seed is sealed to; undefined if it is not sealed to this PCR. */
  readonly sealed: string | undefined;
  readonly events: readonly { readonly digest: string; readonly text: string }[];
}

const hex = (bytes: Uint8Array | undefined): string | undefined => bytes && Buffer.from(bytes).toString('hex');

/**
 * All PCRs that something was measured into, that the seed is sealed to, or whose value in the TPM is not the log's.
 * @param tpm - the TPM's values; undefined if they are not known
 * @throws Failure `malformed` if the log has no SHA-256 digests
 */
export function measuredBoot(
  log: MeasuredLog,
  tpm: ReadonlyMap<number, Uint8Array> | undefined,
  policy: TpmPolicy | undefined,
): MeasuredPcr[] {
  const values = replayed(log.events, 'sha256');
  const sealed = closestBranch(policy, (pcr, value) => hex(tpm?.get(pcr) ?? values.get(pcr)) === hex(value));
  const words = describeAll(log.events);
  return [...values]
    .map(([pcr, value]) => ({
      pcr,
      log: hex(value) ?? '',
      tpm: hex(tpm?.get(pcr)),
      sealed: hex(sealed.get(pcr)),
      events: log.events.flatMap((event, i) =>
        event.pcr === pcr && event.isMeasured
          ? [{ digest: hex(event.digests.get('sha256')) ?? '', text: words[i]?.text ?? '' }]
          : [],
      ),
    }))
    .filter((pcr) => pcr.events.length > 0 || pcr.sealed !== undefined || (pcr.tpm ?? pcr.log) !== pcr.log);
}

/** A PCR of the next boot, beside what the seed is sealed to. */
export interface NextPcr {
  readonly pcr: number;
  /** In hexadecimal; one for each phase of the boot if the PCR changes with them. */
  readonly values: readonly { readonly phase: string | undefined; readonly value: string }[];
  readonly sure: boolean;
  readonly why: string;
  readonly sealed: string | undefined;
  /** Whether one of the values is the sealed one; undefined if the seed is not sealed to this PCR. */
  readonly matches: boolean | undefined;
}

/** A prediction, compared with what the seed is sealed to. */
export function predictedPcrs({ pcrs }: Prediction, policy: TpmPolicy | undefined): NextPcr[] {
  const sealed = closestBranch(
    policy,
    (pcr, wanted) => pcrs.get(pcr)?.values.some(({ value }) => hex(value) === hex(wanted)) === true,
  );
  return [...pcrs.values()].map(({ pcr, values, isSure, why }) => {
    const wanted = hex(sealed.get(pcr));
    const texts = values.map(({ phase, value }) => ({ phase, value: hex(value) ?? '' }));
    return {
      pcr,
      values: texts,
      sure: isSure,
      why,
      sealed: wanted,
      matches: wanted === undefined ? undefined : texts.some(({ value }) => value === wanted),
    };
  });
}

/** The branch of a policy that fits best; empty if there is none. */
function closestBranch(policy: TpmPolicy | undefined, fits: (pcr: number, value: Uint8Array) => boolean): PcrValues {
  const misfits = (branch: PcrValues): number => [...branch].filter(([pcr, value]) => !fits(pcr, value)).length;
  const [closest = new Map<number, Uint8Array>()] = [...(policy?.branches ?? [])].sort(
    (a, b) => misfits(a) - misfits(b),
  );
  return closest;
}

/** Reads all SHA-256 PCRs of the TPM. @throws Failure if there is none, or it does not answer */
export async function pcrsOfTpm(device: string | undefined): Promise<ReadonlyMap<number, Uint8Array>> {
  const tpm = await openTpm(device);
  try {
    return await readPresentPcrs(tpm);
  } finally {
    await tpm.close();
  }
}
