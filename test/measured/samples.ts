/** Logs of real boots: Debian 13 with systemd-boot and UKIs, on OVMF with swtpm. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type MeasuredLog, parseLog } from '../../src/measured/measured-log.ts';

export const samples = ['a-boot1', 'b-boot2-same', 'c-secure-boot-uki2', 'd-other-tpm'] as const;
export type Sample = (typeof samples)[number];

export const sampleFile = (...path: readonly string[]): string => join('test/measured/samples', ...path);
export const firmwareOf = (sample: Sample): string => sampleFile(sample, 'binary_bios_measurements');
export const userspaceOf = (sample: Sample): string => sampleFile(sample, 'tpm2-measure.log');

export const bytesOf = (file: string): Uint8Array => new Uint8Array(readFileSync(file));

export const logOf = (sample: Sample): MeasuredLog =>
  parseLog(bytesOf(firmwareOf(sample)), bytesOf(userspaceOf(sample)));

/** The SHA-256 values of PCR 0 to 23 as the kernel read them from the TPM, in hexadecimal. */
export const pcrsOf = (sample: Sample): Map<number, string> => pcrsIn(sampleFile(sample, 'pcrs.sha256'));

/** The same, from a file with lines of PCR and value. */
export function pcrsIn(file: string): Map<number, string> {
  const lines = readFileSync(file, 'utf8').trim().split('\n');
  return new Map(
    lines.map((line) => line.split(' ')).map(([pcr, value]) => [Number(pcr), (value ?? '').toLowerCase()]),
  );
}

export const hex = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString('hex');
