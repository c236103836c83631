/** Explains PCR values by the logs of two boots: this one's, and that of the seal. */
import { hex } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { parseLog } from '../measured/measured-log.ts';
import { changesBetween, parseSummary, type Summary, summaryOf, summaryValue } from '../measured/summary.ts';
import type { Paths } from '../system/paths.ts';
import type { ReadableFiles } from './readable-files.ts';
import type { PcrDifference } from './tpm-state.ts';

/** What is known of the measurements of two boots. */
export interface BootLogs {
  readonly sealed: Summary | undefined;
  readonly now: Summary | undefined;
}

/** Reads both. A log that is missing, hidden or damaged explains nothing, and is no error. */
export function bootLogs(readable: ReadableFiles, paths: Paths): BootLogs {
  const summary = readable.read(paths.measured);
  const firmware = readable.read(paths.firmwareLog);
  return {
    sealed: summary && unlessDamaged(() => parseSummary(summary, paths.measured)),
    now: firmware && unlessDamaged(() => summaryOf(parseLog(firmware, readable.read(paths.userspaceLog)))),
  };
}

/** The result of `parse`; undefined if it finds damage. */
export function unlessDamaged<T>(parse: () => T): T | undefined {
  try {
    return parse();
  } catch (error) {
    if (error instanceof Failure) return undefined;
    throw error;
  }
}

/**
 * What changed in a PCR since the seal, in words. Empty if the logs do not lead to the values that the seal and the TPM
 * have: then they explain nothing.
 */
export function changesIn({ sealed, now }: BootLogs, difference: PcrDifference): string[] {
  const { pcr } = difference;
  const leadsTo = (summary: Summary, value: string): boolean => hex(summaryValue(summary, pcr)) === value;
  if (!sealed || !now || !leadsTo(sealed, difference.sealed) || !leadsTo(now, difference.now)) return [];
  return changesBetween(sealed, now, pcr);
}
