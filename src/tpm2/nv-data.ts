/** Reads NV indices: ordinary ones, such as those with certificates, and counters. */
import { concat } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { openPersistent } from './srk.ts';
import { esysHandles, type Tpm } from './tpm.ts';
import { algorithms, contentOf, fromStructure, u16, u32 } from './wire.ts';

/** Bytes at a time. Every TPM takes them (MAX_NV_BUFFER_SIZE is 1024 or more on a PC). */
const step = 512;

/**
 * Reads a whole index with its empty authorization value (TPM2_NV_Read, part 3, section 31.13).
 * @returns undefined if there is no such index
 * @throws TpmError, also if it needs another authorization
 */
export async function readNv(tpm: Tpm, index: number): Promise<Uint8Array | undefined> {
  const opened = await openPersistent(tpm, index);
  if (!opened) return undefined;
  const size = await sizeOf(tpm, opened.handle);
  const parts: Uint8Array[] = [];
  for (let offset = 0; offset < size; offset += step) {
    const at = { offset, length: Math.min(step, size - offset) };
    parts.push(await part(tpm, opened.handle, esysHandles.password, at));
  }
  return concat(...parts);
}

/** The last two bytes of TPM2B_NV_PUBLIC are dataSize (part 2, table 218). */
async function sizeOf(tpm: Tpm, handle: number): Promise<number> {
  return await tpm.outputs(
    2,
    async (...slots) => {
      await tpm.call('Esys_NV_ReadPublic', handle, tpm.none, tpm.none, tpm.none, ...slots);
    },
    ([pointer = 0n]) => {
      const [high = 0, low = 0] = fromStructure('TPM2B_NV_PUBLIC', pointer).slice(-2);
      return high * 256 + low;
    },
  );
}

/** Bytes in a counter. */
export const counterLength = 8;

/** TPMS_NV_PUBLIC of a counter (part 2, table 218): SHA-256, no policy, eight bytes. */
export const counterPublic = (index: number, attributes: number): Uint8Array =>
  Uint8Array.from([...u32(index), ...u16(algorithms.sha256), ...u32(attributes), ...u16(0), ...u16(counterLength)]);

/**
 * The value of a counter.
 * @param session - one that authorizes with the empty value, or the password session
 * @throws TpmError
 * @throws Failure `tpm` for a value that is not a safe integer
 */
export async function counterValue(tpm: Tpm, handle: number, session: number): Promise<number> {
  const wire = await part(tpm, handle, session, { offset: 0, length: counterLength });
  const value = wire.length === counterLength ? Number(Buffer.from(wire).readBigUInt64BE()) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw new Failure('tpm', "the value of the TPM's counter is out of range");
  return value;
}

const part = async (
  tpm: Tpm,
  handle: number,
  session: number,
  { offset, length }: { readonly offset: number; readonly length: number },
): Promise<Uint8Array> =>
  await tpm.outputs(
    1,
    async (slot) => {
      await tpm.call('Esys_NV_Read', handle, handle, session, tpm.none, tpm.none, length, offset, slot);
    },
    ([pointer = 0n]) => contentOf(fromStructure('TPM2B_MAX_NV_BUFFER', pointer)),
  );
