/** The TPM, compared with what seeds.age was sealed to. */
import { Failure } from '../failure.ts';
import { readPcrs, unmeasuredPcrs } from '../tpm2/pcr.ts';
import { tpmFailure } from '../tpm2/response.ts';
import type { SealedObject } from '../tpm2/sealed-object.ts';
import { reopenSrk } from '../tpm2/srk.ts';
import { openTpm, type Tpm, tpmPresent } from '../tpm2/tpm.ts';
import { isLockedOut, tpmVendor } from '../tpm2/vendor.ts';

export interface PcrDifference {
  readonly pcr: number;
  /** Hexadecimal. */
  readonly sealed: string;
  readonly now: string;
}

export interface TpmState {
  readonly device: string | undefined;
  readonly present: boolean;
  /** Manufacturer, model and firmware. */
  readonly name: string | undefined;
  readonly lockedOut: boolean;
  /** Whether it has the storage key that the seed was sealed to; undefined if that is unknown. */
  readonly srk: 'same' | 'other' | undefined;
  /** PCRs of the policy whose value has changed since sealing. */
  readonly differences: readonly PcrDifference[];
  /** PCRs of the policy that nothing had been measured into at sealing. */
  readonly unmeasured: readonly number[];
  readonly failure: Failure | undefined;
}

/** Asks the TPM. If it can't be asked, that is a result, not an error. */
export async function tpmState(device: string | undefined, object: SealedObject | undefined): Promise<TpmState> {
  const unknown: TpmState = {
    device,
    present: tpmPresent(device),
    name: undefined,
    lockedOut: false,
    srk: undefined,
    differences: [],
    unmeasured: object ? unmeasuredPcrs(object.policy) : [],
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
  const { values } = await readPcrs(tpm, [...policy.values.keys()]);
  const hex = (value: Uint8Array | undefined): string => Buffer.from(value ?? []).toString('hex');
  const differences = [...policy.values]
    .map(([pcr, value]) => ({ pcr, sealed: hex(value), now: hex(values.get(pcr)) }))
    .filter(({ sealed, now }) => sealed !== now);
  return { srk: (await hasSrk(tpm, srkName, srkTemplate)) ? 'same' : 'other', differences };
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
