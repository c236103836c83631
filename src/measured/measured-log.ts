/** The log of a whole boot: the firmware's, then systemd's. */
import { Failure } from '../failure.ts';
import { readIfPresent } from '../system/files.ts';
import { type Bank, extended, initialValue, isComputable } from './bank.ts';
import { type MeasuredEvent, measuredBy } from './event.ts';
import { parseFirmwareLog } from './firmware-log.ts';
import { parseUserspaceLog } from './userspace-log.ts';

/** Everything that this boot measured and recorded, in order. */
export interface MeasuredLog {
  /** The banks of the firmware's log. */
  readonly banks: readonly Bank[];
  readonly events: readonly MeasuredEvent[];
}

/** Parses both logs. @throws Failure `malformed` */
export function parseLog(firmware: Uint8Array, userspace: Uint8Array | undefined): MeasuredLog {
  const { banks, events } = parseFirmwareLog(firmware);
  return {
    banks,
    events: [...events.map(measuredBy), ...(userspace === undefined ? [] : parseUserspaceLog(userspace))],
  };
}

/** Where the logs are. */
export interface LogFiles {
  readonly firmware: string;
  readonly userspace: string;
}

/**
 * Reads the logs.
 * @returns undefined if there is no firmware log: no measured boot, or the kernel has no access to it
 * @throws Failure `malformed`, or the error of a system call if the user may not read it
 */
export function readLog({ firmware, userspace }: LogFiles): MeasuredLog | undefined {
  // The kernel says that its log has 0 bytes, so it is read to its end.
  const bytes = readIfPresent(firmware, 'read');
  return bytes && parseLog(bytes, readIfPresent(userspace, 'read'));
}

/**
 * Reads the logs of a boot that has to be measured.
 * @param hint - the way out if it is not
 * @throws Failure `not-found` if there is no log, or as {@link readLog}
 */
export function neededLog(files: LogFiles, hint: string): MeasuredLog {
  const log = readLog(files);
  if (log) return log;
  throw new Failure('not-found', `there is no log of a measured boot at ${files.firmware}`, { hint });
}

/**
 * The PCR values that the events lead to, 0 to 23 (TPM 2.0 part 1, section 17.3). A StartupLocality note makes PCR 0
 * start with that number in its last byte (TCG PC Client Platform Firmware Profile, section 10.4.5.3).
 * @throws Failure `system` for a bank whose algorithm this Node lacks, `malformed` if an event has no digest for it
 */
export function replayed(events: readonly MeasuredEvent[], bank: Bank): Map<number, Uint8Array> {
  if (!isComputable(bank)) throw new Failure('system', `this Node can't compute ${bank}`);
  const values = new Map(Array.from({ length: 24 }, (_, pcr) => [pcr, initialValue(bank, pcr)]));
  for (const event of events) {
    const { pcr, isMeasured, digests, meaning } = event;
    if (meaning.kind === 'startup-locality') {
      const start = initialValue(bank, 0);
      start[start.length - 1] = meaning.locality;
      values.set(0, start);
    }
    if (!isMeasured) continue;
    const digest = digests.get(bank);
    if (digest === undefined)
      throw new Failure('malformed', `an event of PCR ${String(pcr)} has no ${bank} digest`, {
        hint: 'the log is of another bank',
      });
    values.set(pcr, extended(bank, values.get(pcr) ?? initialValue(bank, pcr), digest));
  }
  return values;
}

/** The events of one PCR that were measured. */
export const measuredInto = ({ events }: Pick<MeasuredLog, 'events'>, pcr: number): MeasuredEvent[] =>
  events.filter((event) => event.isMeasured && event.pcr === pcr);
