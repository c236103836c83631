/**
 * systemd's log of what it measures in the running system, /run/log/systemd/tpm2-measure.log: a JSON text sequence
 * (RFC 7464) of records close to the JSON encoding of TCG's Canonical Event Log. systemd writes it in
 * src/shared/tpm2-util.c (tpm2_userspace_log).
 */
import { Failure } from '../failure.ts';
import { Json } from '../system/json.ts';
import { type Bank, banks, digestSizes } from './bank.ts';
import type { MeasuredEvent } from './event.ts';
import { largestLog } from './firmware-log.ts';

const file = "systemd's log of measurements";
const hint = "the log is new at every boot; what it can't explain is compared all the same";

/**
 * Parses a whole log. Records about NV indices that stand for PCRs are skipped: nothing is sealed to these.
 * @throws Failure `malformed`
 */
export function parseUserspaceLog(bytes: Uint8Array): MeasuredEvent[] {
  if (bytes.length > largestLog) throw new Failure('malformed', `${file} is too large`, { hint });
  const events: MeasuredEvent[] = [];
  for (let start = 0; start < bytes.length; ) {
    const next = bytes.indexOf(0x1e, start);
    const record = bytes.subarray(start, next < 0 ? bytes.length : next);
    start += record.length + 1;
    if (record.some((byte) => byte > 0x20)) events.push(...eventIn(Json.parse(record, file, hint)));
  }
  return events;
}

function eventIn(record: Json): MeasuredEvent[] {
  const pcr = record.at('pcr').optional((index) => index.whole(0, 23));
  if (pcr === undefined) return [];
  const digests = new Map(record.at('digests').list().flatMap(digestIn));
  const content = record.at('content');
  return [
    {
      source: 'systemd',
      pcr,
      isMeasured: true,
      digests,
      data: new Uint8Array(0),
      meaning: {
        kind: 'systemd',
        type: content.at('eventType').optional((type) => type.text()) ?? '',
        text: content.at('string').optional((text) => text.text()) ?? '',
      },
    },
  ];
}

function digestIn(digest: Json): [Bank, Uint8Array][] {
  const name = digest.at('hashAlg').text();
  const bank = banks.find((known) => known === name);
  if (bank === undefined) return [];
  const hex = digest.at('digest').text();
  if (hex.length !== 2 * digestSizes[bank] || !/^[0-9a-f]*$/.test(hex)) throw digest.unexpected(`a ${bank} digest`);
  return [[bank, new Uint8Array(Buffer.from(hex, 'hex'))]];
}
