/** What an event of the boot means, decoded from its untrusted data. */
import { X509Certificate } from 'node:crypto';
import type { Bank } from './bank.ts';
import { type DevicePath, parseDevicePath } from './device-path.ts';
import { type FirmwareEvent, noAction } from './firmware-log.ts';
import { Reader, Truncated, utf8Text, utf16 } from './reader.ts';

/** One measurement, or a note of the firmware that is not measured. */
export interface MeasuredEvent {
  readonly source: 'firmware' | 'systemd';
  readonly pcr: number;
  readonly isMeasured: boolean;
  readonly digests: ReadonlyMap<Bank, Uint8Array>;
  /** The data as recorded, of a firmware's event; empty for one of systemd. */
  readonly data: Uint8Array;
  readonly meaning: Meaning;
}

/** An EFI variable as it was measured. */
export interface MeasuredVariable {
  readonly guid: string;
  readonly name: string;
  readonly data: Uint8Array;
}

/** A partition of a GPT. */
export interface Partition {
  readonly type: string;
  readonly id: string;
  readonly name: string;
}

/** The data of an event, by its type (TCG PC Client Platform Firmware Profile, section 10.4). */
export type Meaning =
  | { readonly kind: 'startup-locality'; readonly locality: number }
  | { readonly kind: 'note'; readonly text: string }
  | { readonly kind: 'firmware-version'; readonly version: string }
  | { readonly kind: 'firmware-blob'; readonly name: string; readonly base: number; readonly length: number }
  | ({ readonly kind: 'variable'; readonly role: 'setting' | 'boot-option' | 'authority' } & MeasuredVariable)
  | { readonly kind: 'image'; readonly role: 'application' | 'driver'; readonly path: DevicePath }
  | { readonly kind: 'gpt'; readonly disk: string; readonly partitions: readonly Partition[] }
  | { readonly kind: 'action'; readonly text: string }
  | { readonly kind: 'separator'; readonly isError: boolean }
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'tagged'; readonly tag: number; readonly text: string }
  | { readonly kind: 'tables' }
  /** A measurement of systemd in the running system, such as `phase` with `enter-initrd`. */
  | { readonly kind: 'systemd'; readonly type: string; readonly text: string }
  | { readonly kind: 'unknown'; readonly type: number };

/** EV_* (section 10.4.1). */
const types = {
  separator: 0x00000004,
  action: 0x00000005,
  eventTag: 0x00000006,
  crtmContents: 0x00000007,
  crtmVersion: 0x00000008,
  tableOfDevices: 0x0000000b,
  compactHash: 0x0000000c,
  ipl: 0x0000000d,
  iplPartition: 0x0000000e,
  variableDriverConfig: 0x80000001,
  variableBoot: 0x80000002,
  application: 0x80000003,
  bootDriver: 0x80000004,
  runtimeDriver: 0x80000005,
  gpt: 0x80000006,
  efiAction: 0x80000007,
  firmwareBlob: 0x80000008,
  handoffTables: 0x80000009,
  firmwareBlob2: 0x8000000a,
  handoffTables2: 0x8000000b,
  variableBoot2: 0x8000000c,
  gpt2: 0x8000000d,
  variableAuthority: 0x800000e0,
} as const;

/** Decodes an event. Data that does not fit the type is of `unknown` meaning: the digest counts all the same. */
export function measuredBy(event: FirmwareEvent): MeasuredEvent {
  const { pcr, type, digests, data } = event;
  return { source: 'firmware', pcr, isMeasured: type !== noAction, digests, data, meaning: meaningOf(type, data) };
}

function meaningOf(type: number, data: Uint8Array): Meaning {
  try {
    return decoded(type, data);
  } catch (error) {
    if (error instanceof Truncated) return { kind: 'unknown', type };
    throw error;
  }
}

function decoded(type: number, data: Uint8Array): Meaning {
  const reader = new Reader(data);
  switch (type) {
    case noAction:
      return note(reader);
    case types.crtmVersion:
      return { kind: 'firmware-version', version: textIn(data) };
    case types.crtmContents:
    case types.firmwareBlob:
    case types.firmwareBlob2:
      return firmwareBlob(type === types.firmwareBlob2, reader);
    case types.variableDriverConfig:
      return { kind: 'variable', role: 'setting', ...variable(reader) };
    case types.variableBoot:
    case types.variableBoot2:
      return { kind: 'variable', role: 'boot-option', ...variable(reader) };
    case types.variableAuthority:
      return { kind: 'variable', role: 'authority', ...variable(reader) };
    case types.application:
      return { kind: 'image', role: 'application', path: image(reader) };
    case types.bootDriver:
    case types.runtimeDriver:
      return { kind: 'image', role: 'driver', path: image(reader) };
    case types.gpt:
    case types.gpt2:
      return gpt(reader);
    case types.action:
    case types.efiAction:
      return { kind: 'action', text: utf8Text(data) };
    case types.separator:
      return { kind: 'separator', isError: data.length === 4 && reader.u32() === 1 };
    case types.ipl:
    case types.iplPartition:
    case types.compactHash:
      return { kind: 'text', text: textIn(data) };
    case types.eventTag:
      return { kind: 'tagged', tag: reader.u32(), text: textIn(reader.bytes(reader.u32())) };
    case types.handoffTables:
    case types.handoffTables2:
    case types.tableOfDevices:
      return { kind: 'tables' };
    default:
      return { kind: 'unknown', type };
  }
}

/** EV_NO_ACTION: a signature of 16 bytes says which (section 10.4.5). */
function note(reader: Reader): Meaning {
  const signature = utf8Text(reader.bytes(Math.min(16, reader.left)));
  return signature === 'StartupLocality'
    ? { kind: 'startup-locality', locality: reader.u8() }
    : { kind: 'note', text: signature };
}

/** UEFI_PLATFORM_FIRMWARE_BLOB, and with a description UEFI_PLATFORM_FIRMWARE_BLOB2 (section 10.2.5). */
function firmwareBlob(isDescribed: boolean, reader: Reader): Meaning {
  const name = isDescribed ? textIn(reader.bytes(reader.u8())) : '';
  return { kind: 'firmware-blob', name, base: reader.u64(), length: reader.u64() };
}

/** The file that an event started; undefined for any other event. */
export const fileOf = ({ meaning }: MeasuredEvent): string | undefined =>
  meaning.kind === 'image' && meaning.role === 'application' ? meaning.path.file : undefined;

/** UEFI_VARIABLE_DATA (section 10.2.6): GUID, u64 length of the name in characters, u64 length of the data. */
function variable(reader: Reader): MeasuredVariable {
  const guid = reader.guid();
  const [nameLength, length] = [reader.u64(), reader.u64()];
  return { guid, name: utf16(reader.bytes(nameLength * 2)), data: reader.bytes(length) };
}

/** UEFI_IMAGE_LOAD_EVENT (section 10.2.3): address, size, link-time address, then the device path with its size. */
function image(reader: Reader): DevicePath {
  reader.bytes(24);
  return parseDevicePath(reader.bytes(reader.u64()));
}

/** UEFI_GPT_DATA (section 10.2.4): the header (UEFI specification, section 5.3.2), then the partitions in use. */
function gpt(reader: Reader): Meaning {
  const header = new Reader(reader.bytes(92));
  header.bytes(56);
  const disk = header.guid();
  header.bytes(12);
  const size = header.u32();
  if (size < 128) throw new Truncated('a partition entry is too small');
  const partitions: Partition[] = [];
  for (let left = reader.u64(); left > 0; left--) {
    const entry = new Reader(reader.bytes(size));
    const [type, id] = [entry.guid(), entry.guid()];
    entry.bytes(24);
    partitions.push({ type, id, name: utf16(entry.bytes(72)) });
  }
  return { kind: 'gpt', disk, partitions };
}

/** UTF-16 text if every second byte of the first characters is zero, else UTF-8. */
function textIn(data: Uint8Array): string {
  const isWide = data.length >= 2 && data.length % 2 === 0 && data[1] === 0 && (data.length < 4 || data[3] === 0);
  return isWide ? utf16(data) : utf8Text(data);
}

/** A signature in an EFI_SIGNATURE_LIST (UEFI specification, section 32.4.1). */
export interface Signature {
  /** EFI_SIGNATURE_DATA: the owner's GUID (16 bytes), and a certificate or a digest. */
  readonly data: Uint8Array;
  /** Undefined for a digest, and for what is no certificate. */
  readonly certificate: X509Certificate | undefined;
}

const x509Guid = 'a5c059a1-94e4-4aa7-87b5-ab155c2bf072';

/** The signatures in a variable such as `db`. Stops at the first list that does not fit. */
export function signaturesIn(data: Uint8Array): Signature[] {
  const reader = new Reader(data);
  const found: Signature[] = [];
  try {
    while (reader.left > 0) {
      const isX509 = reader.guid() === x509Guid;
      const [listSize, headerSize, size] = [reader.u32(), reader.u32(), reader.u32()];
      const list = new Reader(reader.bytes(Math.max(0, listSize - 28)));
      list.bytes(headerSize);
      if (size <= 16) return found;
      while (list.left >= size) found.push(signature(list.bytes(size), isX509));
    }
  } catch (error) {
    if (!(error instanceof Truncated)) throw error;
  }
  return found;
}

const signature = (data: Uint8Array, isX509: boolean): Signature => ({
  data,
  certificate: isX509 ? certificateIn(data.subarray(16)) : undefined,
});

/** The certificate in DER bytes; undefined if they are none. */
export function certificateIn(der: Uint8Array): X509Certificate | undefined {
  try {
    return new X509Certificate(der);
  } catch {
    return undefined;
  }
}

/** The common name of a certificate's subject, else all of the subject. */
export const commonName = ({ subject }: X509Certificate): string =>
  /^CN=(.+)$/m.exec(subject)?.[1] ?? subject.replaceAll('\n', ', ');
