/** The maker of a TPM. A virtual TPM protects from other tenants and stolen disks, but not from its host. */
import { tpmFailure } from './response.ts';
import type { Tpm } from './tpm.ts';
import { fromStructure } from './wire.ts';

/** The maker, model and firmware of a TPM. */
export interface TpmVendor {
  /** The TCG's vendor id, such as `INTC`, or `IBM` for a software TPM. */
  readonly manufacturer: string;
  readonly model: string;
  /** Four numbers separated by dots. */
  readonly firmware: string;
}

const tpmProperties = 6;
/** TPM_PT_PERMANENT (part 2, table 23) and its bit inLockout (TPMA_PERMANENT, table 38). */
const permanentProperty = 0x200;
const inLockout = 1 << 9;
/** TPM_PT_MANUFACTURER. The properties from here to TPM_PT_FIRMWARE_VERSION_2 are read (part 2, table 23). */
const firstProperty = 0x105;
const properties = { manufacturer: 0x105, model: [0x106, 0x107, 0x108, 0x109], firmware: [0x10b, 0x10c] } as const;
const propertyCount = 8;
/** Bytes of capability and count, before the pairs of property and value (part 2, tables 101 and 119). */
const headerLength = 8;
const pairLength = 8;

/** Reads the maker, model and firmware of a TPM. @throws Failure */
export async function tpmVendor(tpm: Tpm): Promise<TpmVendor> {
  const values = await propertiesFrom(tpm, firstProperty, propertyCount);
  const bytesOf = (...ids: readonly number[]): Buffer =>
    Buffer.concat(ids.map((id) => values.get(id) ?? Buffer.alloc(4)));
  const textOf = (...ids: readonly number[]): string =>
    bytesOf(...ids)
      .toString('latin1')
      .replaceAll(/[\0\s]+/g, ' ')
      .trim();
  const firmware = bytesOf(...properties.firmware);
  return {
    manufacturer: textOf(properties.manufacturer),
    model: textOf(...properties.model),
    firmware: [0, 2, 4, 6].map((offset) => firmware.readUInt16BE(offset)).join('.'),
  };
}

/**
 * Whether the TPM is in dictionary attack lockout, after too many wrong guesses at any of its objects.
 * @throws Failure
 */
export async function isLockedOut(tpm: Tpm): Promise<boolean> {
  const permanent = (await propertiesFrom(tpm, permanentProperty, 1)).get(permanentProperty);
  return permanent !== undefined && (permanent.readUInt32BE() & inLockout) !== 0;
}

/** Reads properties, four bytes each, by their number. */
async function propertiesFrom(tpm: Tpm, first: number, count: number): Promise<Map<number, Buffer>> {
  const wire = await capability(tpm, first, count).catch((error: unknown) => {
    throw tpmFailure(error);
  });
  const values = new Map<number, Buffer>();
  for (let offset = headerLength; offset < wire.length; offset += pairLength)
    values.set(wire.readUInt32BE(offset), wire.subarray(offset + 4, offset + pairLength));
  return values;
}

async function capability(tpm: Tpm, first: number, count: number): Promise<Buffer> {
  return await tpm.outputs(
    1,
    async (slot) => {
      await tpm.call(
        'Esys_GetCapability',
        tpm.none,
        tpm.none,
        tpm.none,
        tpmProperties,
        first,
        count,
        Buffer.alloc(1),
        slot,
      );
    },
    ([pointer = 0n]) => Buffer.from(fromStructure('TPMS_CAPABILITY_DATA', pointer)),
  );
}
