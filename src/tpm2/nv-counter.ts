/**
 * A counter in the TPM's NV memory. It only counts up: even a counter that is removed and defined again starts above
 * every value that a counter of this TPM ever had (part 3, section 31.3). So what it numbers can be replaced, but an
 * old version can't come back unnoticed.
 */

import { sameBytes } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { counterPublic, counterValue } from './nv-data.ts';
import { TpmError, tpmFailure } from './response.ts';
import { sessionTypes, startSession } from './sealed-object.ts';
import { nameOfPublic, openPersistent, openSrk, type RecordedSrk } from './srk.ts';
import { esysHandles, type Tpm } from './tpm.ts';
import { indexText, nvWritten, sized, toStructure, u16 } from './wire.ts';

/** The first index to try, in the owner's range (TCG Registry of Reserved TPM 2.0 Handles, section 2.2.2). */
export const firstCounterIndex = 0x01a0c4ed;
/** The number of indices to try: one for each system that shares the TPM. */
const indices = 16;

/**
 * AUTHWRITE, TPM_NT_COUNTER, AUTHREAD and NO_DA (part 2, table 217): the empty authorization can read and increment,
 * and nothing can write, lock or reset it.
 */
const attributes = 0x02040014;

/** The Name of our counter once it was incremented. Any other kind of index has another Name (part 1, section 16). */
const nameOfCounter = (index: number): Uint8Array => nameOfPublic(counterPublic(index, attributes | nvWritten));

/** The handle of our counter; undefined if `index` is free or holds something else. */
async function findCounter(tpm: Tpm, index: number): Promise<number | undefined> {
  const found = await openPersistent(tpm, index);
  return found && sameBytes(found.name, nameOfCounter(index)) ? found.handle : undefined;
}

/**
 * Reads the counter at `index` with two commands; undefined if there is none.
 * @param session - an HMAC session salted to the SRK. Its HMAC covers the counter's Name and value, so that nobody on
 * the bus can forge the answer
 * @throws TpmError
 * @throws Failure `tpm` for a value that is not a safe integer
 */
export async function readCounter(tpm: Tpm, index: number, session: number): Promise<number | undefined> {
  const handle = await findCounter(tpm, index);
  return handle === undefined ? undefined : await counterValue(tpm, handle, session);
}

/**
 * Increments the counter by one.
 * @param srk - the SRK that the TPM must have; undefined for the one that would be sealed to next
 * @throws Failure, `other-tpm` if this TPM has another SRK, `tpm` if the counter is gone
 */
export async function incrementCounter(tpm: Tpm, index: number, srk: RecordedSrk | undefined): Promise<void> {
  await salted(tpm, srk, async (session) => {
    const handle = await findCounter(tpm, index);
    if (handle === undefined)
      throw new Failure('tpm', `the TPM's counter ${indexText(index)} is gone`, {
        hint: 'auxcred reseal makes a new one',
      });
    await tpm.call('Esys_NV_Increment', handle, handle, session, tpm.none, tpm.none);
  });
}

/**
 * Reads the counter at `index` in a session of its own; undefined if there is none.
 * @param srk - as in {@link incrementCounter}
 * @throws Failure, `other-tpm` if this TPM has another SRK
 */
export const counterAt = async (tpm: Tpm, index: number, srk: RecordedSrk | undefined): Promise<number | undefined> =>
  await salted(tpm, srk, async (session) => await readCounter(tpm, index, session));

/**
 * Defines a counter at the first free index. Leaves the counters of other systems on this machine alone.
 * @param srk - as in {@link incrementCounter}
 * @throws Failure `tpm` if the owner hierarchy has a password or there is no room left, `other-tpm` if the TPM has
 * another SRK
 */
export async function makeCounter(
  tpm: Tpm,
  srk: RecordedSrk | undefined,
): Promise<{ readonly index: number; readonly value: number }> {
  return await salted(tpm, srk, async (session) => {
    for (let index = firstCounterIndex; index < firstCounterIndex + indices; index++) {
      const handle = await defineCounter(tpm, index, session);
      if (handle === undefined) continue;
      await tpm.call('Esys_NV_Increment', handle, handle, session, tpm.none, tpm.none);
      return { index, value: await counterValue(tpm, handle, session) };
    }
    throw new Failure('tpm', `all of the TPM's indices from ${indexText(firstCounterIndex)} on are taken`, {
      hint: 'tpm2_nvundefine -C o INDEX removes one that no system uses any more',
    });
  });
}

async function salted<T>(
  tpm: Tpm,
  recorded: RecordedSrk | undefined,
  work: (session: number) => Promise<T>,
): Promise<T> {
  try {
    const srk = await openSrk(tpm, recorded);
    const session = await startSession(tpm, srk, sessionTypes.hmac, { encrypted: true });
    try {
      return await work(session);
    } finally {
      await tpm.release(session);
      await tpm.release(srk.handle);
    }
  } catch (error) {
    throw tpmFailure(error);
  }
}

/** Defines a counter. @returns its handle; undefined if the index is taken */
async function defineCounter(tpm: Tpm, index: number, session: number): Promise<number | undefined> {
  try {
    return await tpm.persistentHandle(async (slot) => {
      await tpm.call(
        'Esys_NV_DefineSpace',
        esysHandles.owner,
        session,
        tpm.none,
        tpm.none,
        toStructure('TPM2B_DIGEST', u16(0)),
        toStructure('TPM2B_NV_PUBLIC', sized(counterPublic(index, attributes))),
        slot,
      );
    });
  } catch (error) {
    if (error instanceof TpmError && error.is('nvDefined')) return undefined;
    if (error instanceof TpmError && error.is('nvSpace'))
      throw new Failure('tpm', 'the TPM has no room left for a counter', {
        hint: 'tpm2_getcap handles-nv-index lists what takes it',
        cause: error,
      });
    throw error;
  }
}
