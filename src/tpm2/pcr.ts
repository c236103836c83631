/** Platform configuration registers, which hold the measurements of the boot chain. */

import { createHash } from 'node:crypto';
import { sameBytes } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { encodeSelection, type PcrValues } from './policy.ts';
import { tpmFailure } from './response.ts';
import type { Tpm } from './tpm.ts';
import { contentOf, fromStructure, toStructure } from './wire.ts';

const digestLength = 32;
/** The PCRs of a PC (TCG PC Client Platform TPM Profile, section 4.6). */
const allPcrs = Array.from({ length: 24 }, (_, i) => i);
/** The most digests in a TPML_DIGEST, and so in the answer of one PCR_Read (part 2, table 109). */
const digestsInAnswer = 8;

/** Parses systemd's notation, `4+7`. @returns indices, ascending @throws Failure `usage` */
export function parsePcrs(text: string): number[] {
  const parts = text === '' ? [] : text.split('+');
  const pcrs = parts.map((part) => (/^(?:[0-9]|1[0-9]|2[0-3])$/.test(part) ? Number(part) : Number.NaN));
  if (pcrs.some(Number.isNaN))
    throw new Failure('usage', `${text} is not a list of PCRs`, {
      hint: 'give indices from 0 to 23 with + between them, such as 4+7',
    });
  return [...new Set(pcrs)].sort((a, b) => a - b);
}

/**
 * Refuses PCRs that can't work with literal values.
 * @param isAuthorized - whether a signature or a prediction is required beside them
 * @returns a warning for each risky choice
 * @throws Failure `usage`
 */
export function pcrAdvice(pcrs: readonly number[], isAuthorized = false): string[] {
  if (pcrs.includes(11)) {
    throw new Failure(
      'usage',
      'PCR 11 changes during boot (sysinit, ready), so its value never matches when a unit starts',
      { hint: '--tpm2-public-key=FILE binds it by signature; --tpm2-pcrs=4+7 leaves it out' },
    );
  }
  const risks: Readonly<Record<number, string>> = {
    9: 'PCR 9 measures the initrd, and what systemd-pcrlock puts beside it: it changes without an update',
    12: 'PCR 12 measures the kernel command line and credentials: systemd itself changes it between boots',
    15: "PCR 15 measures the machine's identity: seal while the root file system is mounted as it is at boot",
  };
  const warnings = pcrs.flatMap((pcr) => risks[pcr] ?? []);
  if (pcrs.length === 1 && pcrs[0] === 7 && !isAuthorized)
    warnings.unshift(
      'PCR 7 alone lets every system that Secure Boot accepts open the seed, and it changes with every update of the key lists',
    );
  return warnings;
}

/**
 * What the values of bound PCRs say about them: a register that nothing, or only something public, was measured into
 * binds nothing.
 * @param machineId - of this machine, 32 hexadecimal digits; undefined if it is not known
 */
export function valueAdvice(values: PcrValues, machineId: string | undefined): string[] {
  const unmeasured = unmeasuredPcrs(values).map(
    (pcr) =>
      `PCR ${String(pcr)} has never been extended: nothing that boots is measured into it${pcr === 14 ? ' without shim' : ''}`,
  );
  return isPublic(values.get(15), machineId)
    ? [
        ...unmeasured,
        'PCR 15 holds only the machine-id, which anyone who reads the disk can copy: it tells root file systems apart ' +
          'only with tpm2-measure-pcr=yes in crypttab',
      ]
    : unmeasured;
}

/** Whether PCR 15 holds nothing but the machine-id. */
const isPublic = (fifteen: Uint8Array | undefined, machineId: string | undefined): boolean =>
  fifteen !== undefined &&
  machineId !== undefined &&
  sameBytes(fifteen, extended(new Uint8Array(digestLength), `machine-id:${machineId}`));

/** The PCRs whose values tell one boot from another: something was measured into them that is not public. */
export function bindingPcrs(values: PcrValues, machineId: string | undefined): number[] {
  const unmeasured = unmeasuredPcrs(values);
  return [...values].flatMap(([pcr, value]) =>
    unmeasured.includes(pcr) || (pcr === 15 && isPublic(value, machineId)) ? [] : [pcr],
  );
}

/** A PCR (32 bytes) after it is extended with the SHA-256 of a text. */
const extended = (value: Uint8Array, text: string): Uint8Array =>
  createHash('sha256').update(value).update(createHash('sha256').update(text).digest()).digest();

/** The PCRs that still have their reset value, all zeros or all ones (part 1, section 17). */
export function unmeasuredPcrs(values: PcrValues): number[] {
  return [...values]
    .filter(([, value]) => value.every((byte) => byte === 0) || value.every((byte) => byte === 0xff))
    .map(([pcr]) => pcr);
}

/**
 * Reads the current values of PCRs.
 * @throws Failure `usage` if the TPM has no SHA-256 bank for one of them, `tpm` if it does not answer
 */
export async function readPcrs(tpm: Tpm, pcrs: readonly number[]): Promise<PcrValues> {
  return valuesOf(await readPresentPcrs(tpm, pcrs), pcrs);
}

/** The values of these PCRs among known ones. @throws Failure `usage` if one of `pcrs` has no known SHA-256 value */
export function valuesOf(known: PcrValues, pcrs: readonly number[]): PcrValues {
  return new Map(
    pcrs.map((pcr) => {
      const value = known.get(pcr);
      if (!value)
        throw new Failure('usage', `the TPM has no SHA-256 value for PCR ${String(pcr)}`, {
          hint: 'enable the SHA-256 bank in the firmware',
        });
      return [pcr, value];
    }),
  );
}

/** Reads those of `pcrs` that have a SHA-256 value, 32 bytes each. @throws Failure */
export async function readPresentPcrs(tpm: Tpm, pcrs: readonly number[] = allPcrs): Promise<PcrValues> {
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
