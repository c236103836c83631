/**
 * The lock until the next boot: a PCR that nothing else uses has its reset value when the seeds are unsealed, the
 * policy requires that value, and the broker then extends the PCR. Only a reset of the TPM brings the value back.
 */

import { createHash } from 'node:crypto';
import { sameBytes } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { readPcrs } from './pcr.ts';
import { type PcrValues, startDigest } from './policy.ts';
import { tpmFailure } from './response.ts';
import { esysHandles, type Tpm } from './tpm.ts';
import { sized, toStructure } from './wire.ts';

/** What is measured to lock. TPM2_PCR_Event hashes it for each bank. */
const event = new TextEncoder().encode('auxcred: locked until the next boot');

/**
 * The PCRs to choose from, in this order: GRUB alone measures into 8, systemd-stub into 13 if there are system
 * extensions, shim into 14. From 16 on, software may reset them, or may not extend them.
 */
export const lockPcrs: readonly number[] = [8, 13, 14];

/** The value (32 bytes) that a policy requires of the PCR: that after a reset of the TPM. */
export const openValue: Uint8Array = startDigest;

/** The value (32 bytes) of the PCR once it is locked. */
export const lockedValue: Uint8Array = new Uint8Array(
  createHash('sha256').update(openValue).update(createHash('sha256').update(event).digest()).digest(),
);

const has = (values: PcrValues, pcr: number, wanted: Uint8Array): boolean => sameBytes(values.get(pcr), wanted);

/** Whether {@link lockUntilBoot} was called since the TPM was reset. */
export const isLocked = (values: PcrValues, pcr: number): boolean => has(values, pcr, lockedValue);

/**
 * The first PCR that can lock; undefined if there is none.
 * @param values - of a machine that has booted; undefined to go by `taken` alone
 * @param taken - PCRs that the policy requires already
 */
export const freeLockPcr = (
  values: PcrValues | undefined,
  taken: readonly number[],
  candidates = lockPcrs,
): number | undefined =>
  candidates.find(
    (pcr) => !taken.includes(pcr) && (values === undefined || has(values, pcr, openValue) || isLocked(values, pcr)),
  );

/**
 * Chooses a PCR that nothing measured into during this boot.
 * @param known - the PCR to prefer
 * @param taken - PCRs that the policy requires already
 * @throws Failure `refused` if all of them are used
 */
export async function chooseLockPcr(
  tpm: Tpm,
  { known, taken }: { readonly known: number | undefined; readonly taken: readonly number[] },
): Promise<number> {
  const candidates = [...new Set(known === undefined ? lockPcrs : [known, ...lockPcrs])];
  const free = freeLockPcr(await readPcrs(tpm, candidates), taken, candidates);
  if (free !== undefined) return free;
  throw new Failure(
    'refused',
    `this boot measured into PCR ${lockPcrs.join(', ')}, or the policy has them, so none is left to lock`,
    {
      hint: 'leave out --lock-after-unseal',
    },
  );
}

/**
 * Locks: extends the PCR in all its banks. A second call does nothing.
 * @throws Failure `tpm` if the TPM refuses, or the PCR does not have the locked value afterwards
 */
export async function lockUntilBoot(tpm: Tpm, pcr: number): Promise<void> {
  try {
    if (isLocked(await readPcrs(tpm, [pcr]), pcr)) return;
    await tpm.outputs(
      1,
      async (slot) => {
        await tpm.call(
          'Esys_PCR_Event',
          pcr,
          esysHandles.password,
          tpm.none,
          tpm.none,
          toStructure('TPM2B_EVENT', sized(event)),
          slot,
        );
      },
      () => undefined,
    );
  } catch (error) {
    throw tpmFailure(error);
  }
  if (!isLocked(await readPcrs(tpm, [pcr]), pcr))
    throw new Failure('tpm', `PCR ${String(pcr)} does not have the value of a lock`);
}

/** The failure for a seed that this boot's broker locked. */
export const lockedFailure = (pcr: number, cause?: unknown): Failure =>
  new Failure('until-boot', `the seed is locked until the next boot (PCR ${String(pcr)})`, {
    hint:
      'the running broker keeps serving, and a changed manifest becomes active at the next boot; to change more now: ' +
      'auxcred reseal --no-lock-after-unseal --identity=FILE with a recovery key',
    cause,
  });
