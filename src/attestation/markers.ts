/**
 * Events that say where the boot is, and stand for no component. They are known by their digests: these are proven, and
 * what the log calls an event is not. A program's own bytes, called a separator, would have the digest of the program.
 */
import { hex, utf8 } from '../bytes.ts';
import { digestIn } from '../measured/bank.ts';
import type { MeasuredEvent } from '../measured/event.ts';

/** EV_SEPARATOR without an error (TCG PC Client Platform Firmware Profile, section 3.3.2.2). */
const separators: readonly Uint8Array[] = [Uint8Array.of(0, 0, 0, 0), Uint8Array.of(0xff, 0xff, 0xff, 0xff)];

function isOneOf({ digests }: MeasuredEvent, contents: readonly Uint8Array[]): boolean {
  const digest = digests.get('sha256');
  return digest !== undefined && contents.some((content) => hex(digestIn('sha256', content)) === hex(digest));
}

/** Whether the firmware ended its part of a PCR without an error here. */
export const isSeparator = (event: MeasuredEvent): boolean => isOneOf(event, separators);

/** Whether an event is one of these EV_EFI_ACTION texts, as the firmware writes them: some end with a NUL. */
export const isAction = (event: MeasuredEvent, texts: readonly string[]): boolean =>
  isOneOf(
    event,
    texts.flatMap((text) => [utf8(text), utf8(`${text}\0`)]),
  );
