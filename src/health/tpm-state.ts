/** Compares the TPM with the one that seeds.age was sealed to. */
import { Failure } from '../failure.ts';
import { isLocked } from '../tpm2/boot-lock.ts';
import { readPcrs, unmeasuredPcrs } from '../tpm2/pcr.ts';
import { type PcrValues, requiredBranches, requiredPcrs, type TpmPolicy } from '../tpm2/policy.ts';
import { tpmFailure } from '../tpm2/response.ts';
import type { SealedObject } from '../tpm2/sealed-object.ts';
import { reopenSrk } from '../tpm2/srk.ts';
import { openTpm, type Tpm, tpmPresent } from '../tpm2/tpm.ts';
import { isLockedOut, tpmVendor } from '../tpm2/vendor.ts';

/** A PCR whose value is not the sealed one. */
export interface PcrDifference {
  readonly pcr: number;
  /** Hexadecimal. */
  readonly sealed: string;
  readonly now: string;
}

/** What a TPM says, beside what the seed is sealed to. */
export interface TpmState {
  readonly device: string | undefined;
  readonly present: boolean;
  /** Manufacturer, model and firmware. */
  readonly name: string | undefined;
  readonly lockedOut: boolean;
  /** Whether it has the storage key that the seed was sealed to; undefined if that can't be told. */
  readonly srk: 'same' | 'other' | undefined;
  /** PCRs whose value differs from that in the closest literal branch of the policy. */
  readonly differences: readonly PcrDifference[];
  /** PCRs of the policy into which nothing had been measured when it was sealed. */
  readonly unmeasured: readonly number[];
  readonly failure: Failure | undefined;
}

/** Asks the TPM. One that can't be asked is not an error here. */
export async function tpmState(device: string | undefined, object: SealedObject | undefined): Promise<TpmState> {
  const unknown: TpmState = {
    device,
    present: tpmPresent(device),
    name: undefined,
    lockedOut: false,
    srk: undefined,
    differences: [],
    unmeasured: object ? unmeasuredPcrs(object.policy.branches[0] ?? new Map()) : [],
    failure: undefined,
  };
  if (!unknown.present) return unknown;
  try {
    const tpm = await openTpm(device);
    try {
      const { manufacturer, model, firmware } = await tpmVendor(tpm);
      return {
        ...unknown,
        name: `${manufacturer} ${model}, firmware ${firmware}`,
        lockedOut: await isLockedOut(tpm),
        ...(object ? await compared(tpm, object) : {}),
      };
    } finally {
      await tpm.close();
    }
  } catch (error) {
    const failure = tpmFailure(error);
    if (failure instanceof Failure) return { ...unknown, failure };
    throw error;
  }
}

async function compared(
  tpm: Tpm,
  { srkName, srkTemplate, policy }: SealedObject,
): Promise<Pick<TpmState, 'srk' | 'differences'>> {
  const now = await readPcrs(tpm, requiredPcrs(policy));
  return { srk: (await hasSrk(tpm, srkName, srkTemplate)) ? 'same' : 'other', differences: differencesOf(policy, now) };
}

/** The differences from the closest branch. A lock that the broker has put on is none. */
function differencesOf(policy: TpmPolicy, now: PcrValues): PcrDifference[] {
  const hex = (value: Uint8Array | undefined): string => Buffer.from(value ?? []).toString('hex');
  const { lock } = policy;
  const branches = lock !== undefined && isLocked(now, lock) ? policy.branches : requiredBranches(policy);
  const [closest = []] = branches
    .map((values) =>
      [...values]
        .map(([pcr, value]) => ({ pcr, sealed: hex(value), now: hex(now.get(pcr)) }))
        .filter((difference) => difference.sealed !== difference.now),
    )
    .sort((a, b) => a.length - b.length);
  return closest;
}

async function hasSrk(tpm: Tpm, name: Uint8Array, template: Uint8Array): Promise<boolean> {
  try {
    const { handle } = await reopenSrk(tpm, name, template);
    await tpm.release(handle);
    return true;
  } catch (error) {
    if (error instanceof Failure && error.code === 'other-tpm') return false;
    throw error;
  }
}
