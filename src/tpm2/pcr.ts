/** Platform configuration registers, which hold the measurements of the boot chain. */
import { createHash } from 'node:crypto';
import { Failure } from '../failure.ts';
import { tpmFailure } from './response.ts';
import type { Tpm } from './tpm.ts';
import { algorithms, contentOf, fromStructure, toStructure, u16, u32 } from './wire.ts';

/** The PCR values that a sealed object requires. Without any, it opens in every state. */
export interface PcrPolicy {
  readonly bank: 'sha256';
  /** 32 bytes by index, in ascending order. */
  readonly values: ReadonlyMap<number, Uint8Array>;
}

const policyPcr = 0x0000017f;
const digestLength = 32;
/** The PCRs of a PC (TCG PC Client Platform TPM Profile, section 4.6). */
const allPcrs = Array.from({ length: 24 }, (_, i) => i);
/** The most digests in a TPML_DIGEST, and so in the answer of one PCR_Read (part 2, table 109). */
const digestsInAnswer = 8;

/** Parses systemd's notation, `7+14`. @returns indices, ascending @throws Failure `usage` */
export function parsePcrs(text: string): number[] {
  const parts = text === '' ? [] : text.split('+');
  const pcrs = parts.map((part) => (/^(?:[0-9]|1[0-9]|2[0-3])$/.test(part) ? Number(part) : Number.NaN));
  if (pcrs.some(Number.isNaN))
    throw new Failure('usage', `${text} is not a list of PCRs`, {
      hint: 'give indices from 0 to 23 with + between them, such as 7+14',
    });
  return [...new Set(pcrs)].sort((a, b) => a - b);
}

/**
 * Refuses PCRs that can't work with literal values.
 * @returns a warning for each risky choice
 * @throws Failure `usage`
 */
export function pcrAdvice(pcrs: readonly number[]): string[] {
  if (pcrs.includes(11)) {
    throw new Failure(
      'usage',
      'PCR 11 changes during boot (sysinit, ready), so its value never matches when a unit starts',
      { hint: 'leave it out: --tpm2-pcrs=7+14' },
    );
  }
  const risks: Readonly<Record<number, string>> = {
    12: 'PCR 12 measures the kernel command line and credentials: systemd itself changes it between boots',
    15: "PCR 15 measures the machine's identity: seal while the root file system is mounted as it is at boot",
  };
  const warnings = pcrs.flatMap((pcr) => risks[pcr] ?? []);
  if (pcrs.length === 1 && pcrs[0] === 7)
    warnings.unshift(
      'PCR 7 alone lets every system that Secure Boot accepts open the seed, and it changes with every update of the key lists',
    );
  return warnings;
}

/** The PCRs that still have their reset value, all zeros or all ones (part 1, section 17). */
export function unmeasuredPcrs({ values }: PcrPolicy): number[] {
  return [...values]
    .filter(([, value]) => value.every((byte) => byte === 0) || value.every((byte) => byte === 0xff))
    .map(([pcr]) => pcr);
}

/** TPML_PCR_SELECTION for one bank (part 2, tables 94 and 111). */
export function encodeSelection(pcrs: readonly number[]): Uint8Array {
  const bits = new Uint8Array(3);
  for (const pcr of pcrs) bits[pcr >> 3] = (bits[pcr >> 3] ?? 0) | (1 << (pcr & 7));
  return Uint8Array.from([...u32(1), ...u16(algorithms.sha256), bits.length, ...bits]);
}

/**
 * The policy digest (32 bytes) of an object that opens only while the PCRs have these values, as PolicyPCR computes it
 * in a fresh session (part 3, section 23.7). Without PCRs, the digest of a session without any policy command.
 */
export function policyDigest({ values }: PcrPolicy): Uint8Array {
  const start = new Uint8Array(digestLength);
  if (values.size === 0) return start;
  const pcrs = [...values.keys()];
  const digest = createHash('sha256');
  for (const value of values.values()) digest.update(value);
  return createHash('sha256')
    .update(start)
    .update(u32(policyPcr))
    .update(encodeSelection(pcrs))
    .update(digest.digest())
    .digest();
}

/**
 * Reads the current values of PCRs.
 * @throws Failure `usage` if the TPM has no SHA-256 bank for one of them, `tpm` if it does not answer
 */
export async function readPcrs(tpm: Tpm, pcrs: readonly number[]): Promise<PcrPolicy> {
  return policyOver(await readPresentPcrs(tpm, pcrs), pcrs);
}

/** Makes a policy of known values. @throws Failure `usage` if one of `pcrs` has no known SHA-256 value */
export function policyOver(known: ReadonlyMap<number, Uint8Array>, pcrs: readonly number[]): PcrPolicy {
  return {
    bank: 'sha256',
    values: new Map(
      pcrs.map((pcr) => {
        const value = known.get(pcr);
        if (!value)
          throw new Failure('usage', `the TPM has no SHA-256 value for PCR ${String(pcr)}`, {
            hint: 'enable the SHA-256 bank in the firmware',
          });
        return [pcr, value];
      }),
    ),
  };
}

/** Reads those of `pcrs` that have a SHA-256 value, 32 bytes each. @throws Failure */
export async function readPresentPcrs(
  tpm: Tpm,
  pcrs: readonly number[] = allPcrs,
): Promise<ReadonlyMap<number, Uint8Array>> {
  const values = new Map<number, Uint8Array>();
  for (let i = 0; i < pcrs.length; i += digestsInAnswer) {
    const { selection, digests } = await readDigests(tpm, pcrs.slice(i, i + digestsInAnswer)).catch(
      (error: unknown) => {
        throw tpmFailure(error);
      },
    );
    selectedIn(selection).forEach((pcr, position) => {
      const value = digests[position];
      if (value?.length === digestLength) values.set(pcr, value);
    });
  }
  return values;
}

/** The indices of a TPML_PCR_SELECTION with one bank, ascending. */
function selectedIn(selection: Uint8Array): number[] {
  const bits = selection.subarray(7);
  return allPcrs.filter((pcr) => (((bits[pcr >> 3] ?? 0) >> (pcr & 7)) & 1) === 1);
}

/** Reads PCRs. The answer omits those that the TPM lacks. */
async function readDigests(
  tpm: Tpm,
  pcrs: readonly number[],
): Promise<{ selection: Uint8Array; digests: Uint8Array[] }> {
  const [read = new Uint8Array(0), digests] = await tpm.outputs(
    2,
    async (selection, values) => {
      await tpm.call(
        'Esys_PCR_Read',
        tpm.none,
        tpm.none,
        tpm.none,
        toStructure('TPML_PCR_SELECTION', encodeSelection(pcrs)),
        Buffer.alloc(4),
        selection,
        values,
      );
    },
    (pointers) => pointers.map((pointer, i) => fromStructure(i === 0 ? 'TPML_PCR_SELECTION' : 'TPML_DIGEST', pointer)),
  );
  if (!digests) return { selection: read, digests: [] };
  const list: Uint8Array[] = [];
  for (let offset = 4; offset < digests.length; ) {
    const length = 2 + (digests[offset] ?? 0) * 256 + (digests[offset + 1] ?? 0);
    list.push(contentOf(digests.subarray(offset, offset + length)));
    offset += length;
  }
  return { selection: read, digests: list };
}
