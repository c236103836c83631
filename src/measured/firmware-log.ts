/**
 * The firmware's event log in its crypto-agile format (TCG PC Client Platform Firmware Profile 1.05, section 10):
 *
 *     first event: u32 pcr, u32 type (EV_NO_ACTION), SHA-1 digest (20 zeros), u32 size, TCG_EfiSpecIDEvent
 *     the others:  u32 pcr, u32 type, u32 count, count times (u16 algorithm, digest), u32 size, data
 *
 * Linux gives it as /sys/kernel/security/tpm0/binary_bios_measurements, whose size reads 0.
 */
import { Failure } from '../failure.ts';
import { type Bank, bankOf, digestSizes } from './bank.ts';
import { Reader, Truncated, utf8Text } from './reader.ts';

/** One event as the firmware recorded it. */
export interface FirmwareEvent {
  readonly pcr: number;
  /** EV_*, a 32-bit number. */
  readonly type: number;
  /** By bank, without those of algorithms that are not known here. Empty digests for EV_NO_ACTION are not measured. */
  readonly digests: ReadonlyMap<Bank, Uint8Array>;
  readonly data: Uint8Array;
}

/** A parsed log. */
export interface FirmwareLog {
  /** The banks that every event has a digest for. */
  readonly banks: readonly Bank[];
  /** Without the first one, which describes the log itself. */
  readonly events: readonly FirmwareEvent[];
}

/** EV_NO_ACTION (section 10.4.1): in the log, but never measured. */
export const noAction = 0x00000003;

/** The largest log that is read. Firmware reserves 64 kB for it. */
export const largestLog = 4 * 1024 * 1024;

const hint = 'the firmware may be too old; without a log, PCR values are compared, but not explained';
const malformed = (what: string): Failure => new Failure('malformed', `the firmware's event log ${what}`, { hint });

/**
 * Parses a whole log.
 * @throws Failure `malformed` for one that is cut off, is larger than {@link largestLog}, or has the format of TPM 1.2
 */
export function parseFirmwareLog(bytes: Uint8Array): FirmwareLog {
  if (bytes.length > largestLog) throw malformed('is too large');
  const reader = new Reader(bytes);
  try {
    const sizes = specification(reader);
    const events: FirmwareEvent[] = [];
    while (reader.left > 0) events.push(nextEvent(reader, sizes));
    return { banks: [...sizes.keys()].flatMap((identifier) => bankOf(identifier) ?? []), events };
  } catch (error) {
    if (error instanceof Truncated) throw malformed(`is damaged at byte ${String(reader.offset)}: ${error.message}`);
    throw error;
  }
}

/** The digest sizes by algorithm, from TCG_EfiSpecIDEvent (section 10.4.5.1). */
function specification(reader: Reader): ReadonlyMap<number, number> {
  reader.u32();
  const type = reader.u32();
  reader.bytes(20);
  const event = new Reader(reader.bytes(reader.u32()));
  if (type !== noAction || utf8Text(event.bytes(16)) !== 'Spec ID Event03')
    throw malformed('is not in the crypto-agile format of TPM 2.0');
  event.bytes(4 + 1 + 1 + 1 + 1);
  const sizes = new Map<number, number>();
  for (let left = event.u32(); left > 0; left--) {
    const [identifier, size] = [event.u16(), event.u16()];
    const bank = bankOf(identifier);
    if (bank !== undefined && digestSizes[bank] !== size) throw malformed(`has ${bank} digests of another size`);
    sizes.set(identifier, size);
  }
  return sizes;
}

function nextEvent(reader: Reader, sizes: ReadonlyMap<number, number>): FirmwareEvent {
  const [pcr, type] = [reader.u32(), reader.u32()];
  if (pcr > 23 && type !== noAction) throw malformed(`names PCR ${String(pcr)}`);
  const digests = new Map<Bank, Uint8Array>();
  for (let left = reader.u32(); left > 0; left--) {
    const identifier = reader.u16();
    const size = sizes.get(identifier);
    if (size === undefined)
      throw malformed(`has a digest of algorithm ${String(identifier)}, which it does not declare`);
    const digest = reader.bytes(size);
    const bank = bankOf(identifier);
    if (bank !== undefined) digests.set(bank, digest);
  }
  return { pcr, type, digests, data: reader.bytes(reader.u32()) };
}
