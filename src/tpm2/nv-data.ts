/** Reads ordinary NV indices, such as those with certificates. */
import { concat } from '../bytes.ts';
import { openPersistent } from './srk.ts';
import { esysHandles, type Tpm } from './tpm.ts';
import { contentOf, fromStructure } from './wire.ts';

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
    parts.push(await part(tpm, opened.handle, { offset, length: Math.min(step, size - offset) }));
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

const part = async (tpm: Tpm, handle: number, at: { offset: number; length: number }): Promise<Uint8Array> =>
  await tpm.outputs(
    1,
    async (slot) => {
      const { length, offset } = at;
      await tpm.call('Esys_NV_Read', handle, handle, esysHandles.password, tpm.none, tpm.none, length, offset, slot);
    },
    ([pointer = 0n]) => contentOf(fromStructure('TPM2B_MAX_NV_BUFFER', pointer)),
  );
