/** What was measured into a PCR beside markers, from a log that was replayed. */
import { hex } from '../bytes.ts';
import type { MeasuredEvent } from '../measured/event.ts';
import { type MeasuredLog, measuredInto } from '../measured/measured-log.ts';
import { isAction, isSeparator } from './markers.ts';

/** Texts of the firmware by PCR (TCG PC Client Platform Firmware Profile, sections 3.3.4.5 and 3.3.4.6). */
const actions: Readonly<Record<number, readonly string[]>> = {
  4: ['Calling EFI Application from Boot Option', 'Returning from EFI Application from Boot Option'],
  5: ['Exit Boot Services Invocation', 'Exit Boot Services Returned with Success'],
};
/** The PCRs that every firmware measures a separator into (section 3.3.2.2). */
const lastOfFirmware = 7;

/**
 * The digests of the components in a PCR, 64 digits each.
 * @returns what is wrong with it, if the firmware measured nothing into a PCR of its own
 */
export function componentsOf(log: Pick<MeasuredLog, 'events'>, pcr: number): readonly string[] | string {
  const events = measuredInto(log, pcr);
  if (pcr <= lastOfFirmware && !events.some(isSeparator))
    return `PCR ${String(pcr)} has no separator, so the firmware did not measure what it started`;
  const isMarker = (event: MeasuredEvent): boolean =>
    (pcr <= lastOfFirmware && isSeparator(event)) || isAction(event, actions[pcr] ?? []);
  return events
    .filter((event) => !isMarker(event))
    .map(({ digests }) => hex(digests.get('sha256') ?? new Uint8Array()));
}
