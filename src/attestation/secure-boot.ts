/**
 * What Secure Boot let start, from PCR 7 of a log that was replayed. The replay proves the digests and their order, and
 * nothing else in the log: its maker chose the types and the data. So every event of PCR 7 has to be one that the
 * specification has at that place, with data that its digest is of (TCG PC Client Platform Firmware Profile, section
 * 3.3.4.8). Otherwise an event that condemns the boot could be called something else.
 */

import { createHash } from 'node:crypto';
import { hex, sameBytes } from '../bytes.ts';
import { digestIn } from '../measured/bank.ts';
import type { MeasuredEvent } from '../measured/event.ts';
import { type MeasuredLog, measuredInto } from '../measured/measured-log.ts';
import { isAction, isSeparator } from './markers.ts';

/** What PCR 7 proves. */
export interface ProvenAuthorities {
  readonly isOn: boolean;
  /** What accepted an image: SHA-256 of the certificate in DER, or the digest in `db` itself; 64 digits. */
  readonly authorities: readonly string[];
}

/** Ahead of the separator, in this order; a firmware may leave the last two out. */
const settings: readonly string[] = ['SecureBoot', 'PK', 'KEK', 'db', 'dbx', 'dbt', 'dbr'];
/** What shim measures as authorities beside certificates: its own settings, which accept nothing. */
const shimSettings: readonly string[] = ['SbatLevel', 'MokListTrusted'];
/** EV_EFI_ACTION texts that may be in PCR 7 (section 3.3.4.8). `UEFI Debug Mode` is not accepted. */
const actions: readonly string[] = ['DMA Protection Disabled'];

/** Whether the digest is of the data that the log has beside it. */
const isProven = ({ digests, data }: MeasuredEvent): boolean =>
  sameBytes(digestIn('sha256', data), digests.get('sha256'));

/** Reads what Secure Boot accepted out of PCR 7. @returns what is wrong with PCR 7 if it proves nothing */
export function provenAuthorities(log: Pick<MeasuredLog, 'events'>): ProvenAuthorities | string {
  const authorities: string[] = [];
  let isOn: boolean | undefined;
  let place = -1;
  let hasSeparator = false;
  for (const event of measuredInto(log, 7)) {
    const { meaning } = event;
    if (!isProven(event)) return 'the data of an event of PCR 7 is not what was measured';
    if (meaning.kind === 'variable' && meaning.role === 'setting' && !hasSeparator) {
      const next = settings.indexOf(meaning.name);
      if (next <= place) return `PCR 7 has the setting ${JSON.stringify(meaning.name)} where it does not belong`;
      place = next;
      if (meaning.name === 'SecureBoot') isOn = meaning.data.length === 1 && meaning.data[0] === 1;
    } else if (isSeparator(event) && !hasSeparator && isOn !== undefined) {
      hasSeparator = true;
    } else if (meaning.kind === 'variable' && meaning.role === 'authority' && hasSeparator) {
      if (!shimSettings.includes(meaning.name)) authorities.push(authorityDigest(meaning.data));
    } else if (!isAction(event, actions)) {
      return 'PCR 7 has an event that does not belong there';
    }
  }
  if (isOn === undefined || !hasSeparator) return 'PCR 7 does not say whether Secure Boot was on';
  return { isOn, authorities };
}

/** EFI_SIGNATURE_DATA: 16 bytes of owner, then a certificate or a SHA-256 digest. */
function authorityDigest(data: Uint8Array): string {
  const signature = data.subarray(16);
  return signature.length === 32 ? hex(signature) : createHash('sha256').update(signature).digest('hex');
}
