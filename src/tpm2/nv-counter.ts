/**
 * A counter in the TPM's NV memory. It only counts up: one that is removed and made again starts above every value that
 * a counter of this TPM ever had (part 3, section 31.3), so what is numbered by it can be replaced, but not brought
 * back.
 */
import { createHash } from 'node:crypto';
import { Failure } from '../failure.ts';
import { TpmError, tpmFailure } from './response.ts';
import { sessionTypes, startSession } from './sealed-object.ts';
import { nameOf, openSrk, type RecordedSrk } from './srk.ts';
import { esysHandles, type Tpm } from './tpm.ts';
import { contentOf, fromStructure, sized, toStructure, u16, u32 } from './wire.ts';

/**
 * Where the search for a free index begins: in the range that belongs to the owner (TCG Registry of Reserved TPM 2.0
 * Handles, section 2.2.2).
 */
export const firstCounterIndex = 0x01a0c4ed;
/** How many systems on one machine can have a counter of their own. */
const indices = 16;

const sha256 = 0x000b;
/**
 * AUTHWRITE, TPM_NT_COUNTER, AUTHREAD and NO_DA (part 2, table 217): the empty authorization reads and counts, and
 * nothing writes, locks or turns back.
 */
const attributes = 0x02040014;
/** It has counted once, and so has a value. */
const written = 0x20000000;
const counterLength = 8;

/** TPMS_NV_PUBLIC (part 2, table 218): SHA-256, no policy, eight bytes. */
const publicArea = (index: number, more: number): Uint8Array =>
  Uint8Array.from([...u32(index), ...u16(sha256), ...u32(attributes | more), ...u16(0), ...u16(counterLength)]);

/** The Name of such a counter that has counted: any other kind of index has another one (part 1, section 16). */
const nameOfCounter = (index: number): Uint8Array =>
  Uint8Array.from([...u16(sha256), ...createHash('sha256').update(publicArea(index, written)).digest()]);

/** The counter's handle; undefined if nothing, or something else, is at `index`. */
async function findCounter(tpm: Tpm, index: number): Promise<number | undefined> {
  try {
    const handle = await tpm.persistentHandle(async (slot) => {
      await tpm.call('Esys_TR_FromTPMPublic', index, tpm.none, tpm.none, tpm.none, slot);
    });
    return Buffer.compare(await nameOf(tpm, handle), nameOfCounter(index)) === 0 ? handle : undefined;
  } catch (error) {
    if (error instanceof TpmError && error.is('handle')) return undefined;
    throw error;
  }
}

/**
 * What the counter at `index` says, in two commands; undefined if there is none.
 * @param session - an HMAC session that is salted to the SRK: its HMAC covers the counter's Name and value, so that
 * nobody on the bus answers in the TPM's place
 * @throws TpmError @throws Failure `tpm`
 */
export async function readCounter(tpm: Tpm, index: number, session: number): Promise<number | undefined> {
  const handle = await findCounter(tpm, index);
  return handle === undefined ? undefined : await counterValue(tpm, handle, session);
}

async function counterValue(tpm: Tpm, handle: number, session: number): Promise<number> {
  const wire = await tpm.outputs(
    1,
    async (slot) => {
      await tpm.call('Esys_NV_Read', handle, handle, session, tpm.none, tpm.none, counterLength, 0, slot);
    },
    ([pointer = 0n]) => contentOf(fromStructure('TPM2B_MAX_NV_BUFFER', pointer)),
  );
  const value = wire.length === counterLength ? Number(Buffer.from(wire).readBigUInt64BE()) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw new Failure('tpm', "the TPM's counter says nothing that could be counted on");
  return value;
}

/**
 * Counts once more.
 * @param srk - the one whose holder is asked; undefined for the one that is sealed to next
 * @throws Failure, `other-tpm` if this TPM has another SRK, `tpm` if the counter is gone
 */
export async function incrementCounter(tpm: Tpm, index: number, srk: RecordedSrk | undefined): Promise<void> {
  await salted(tpm, srk, async (session) => {
    const handle = await findCounter(tpm, index);
    if (handle === undefined)
      throw new Failure('tpm', `the TPM's counter ${counterText(index)} is gone`, {
        hint: 'auxcred reseal makes another one',
      });
    await tpm.call('Esys_NV_Increment', handle, handle, session, tpm.none, tpm.none);
  });
}

/**
 * What the counter at `index` says, read by itself; undefined if there is none.
 * @param srk - as in {@link incrementCounter}
 * @throws Failure, `other-tpm` if this TPM has another SRK
 */
export const counterAt = async (tpm: Tpm, index: number, srk: RecordedSrk | undefined): Promise<number | undefined> =>
  await salted(tpm, srk, async (session) => await readCounter(tpm, index, session));

/**
 * Makes a counter at the first index that is free: one that another system on this machine uses is left to it.
 * @param srk - as in {@link incrementCounter}
 * @throws Failure if the TPM makes none: the owner hierarchy has a password, or there is no room left; `other-tpm` if
 * it has another SRK
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
    throw new Failure('tpm', `all of the TPM's indices from ${counterText(firstCounterIndex)} on are taken`, {
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

/** @returns its handle; undefined if the index is taken */
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
        toStructure('TPM2B_NV_PUBLIC', sized(publicArea(index, 0))),
        slot,
      );
    });
  } catch (error) {
    if (error instanceof TpmError && error.is('nvDefined')) return undefined;
    if (error instanceof TpmError && error.is('nvSpace'))
      throw new Failure('tpm', 'the TPM has no room left for a counter', {
        hint: 'tpm2_getcap handles-nv-index shows what takes it',
        cause: error,
      });
    throw error;
  }
}

/** As tpm2-tools write it. */
export const counterText = (index: number): string => `0x${index.toString(16)}`;
