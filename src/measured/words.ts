/** Says in words what was measured. */
import { sameBytes, utf8 } from '../bytes.ts';
import { printable } from '../system/printable.ts';
import { type Bank, digestIn } from './bank.ts';
import {
  certificateIn,
  commonName,
  fileOf,
  type Meaning,
  type MeasuredEvent,
  type MeasuredVariable,
  signaturesIn,
} from './event.ts';

/** An event in words. */
export interface Described {
  /** What was measured, such as `the boot loader \EFI\BOOT\BOOTX64.EFI`. The same at every boot. */
  readonly subject: string;
  /** Its value, where it is short enough to say: `on`, `the certificate NAME`. */
  readonly value: string | undefined;
  /** A phrase, such as `Secure Boot is on`. */
  readonly text: string;
}

/** The vendor GUID in the device path that systemd-stub gives the kernel inside a UKI (src/boot/stub.c). */
const stubPayload = '55c5d1f8-04cd-46b5-8a20-e56cbb3052d0';

/** Tags of EV_EVENT_TAG events: systemd's (src/fundamental/tpm2-pcr.h), and those of Linux (linux/efi.h). */
const tags: ReadonlyMap<number, string> = new Map([
  [0xf5bc582a, "systemd-boot's loader.conf"],
  [0x6c46f751, 'a device tree of an addon'],
  [0x49dffe0f, 'an initrd of an addon'],
  [0xdac08e1a, 'a microcode update of an addon'],
  [0x13aed6db, "the UKI's profile"],
  [0x8f3b22ec, 'the initrd'],
  [0x8f3b22ed, 'the command line that the kernel got'],
]);

const variables: Readonly<Record<string, string>> = {
  PK: 'the platform key (PK)',
  KEK: 'the key exchange keys (KEK)',
  db: 'the keys that may sign what boots (db)',
  dbx: 'the list of what may no longer boot (dbx)',
  dbt: 'the timestamp keys (dbt)',
  dbr: 'the recovery keys (dbr)',
  BootOrder: 'the order of boot options',
  MokList: "the machine owner's keys (MokList)",
  MokListX: "the machine owner's forbidden keys (MokListX)",
  SbatLevel: 'the minimum versions that shim accepts (SbatLevel)',
};

const actions: Readonly<Record<string, string>> = {
  'Calling EFI Application from Boot Option': 'a boot option is started',
  'Exit Boot Services Invocation': 'the firmware is told that the kernel takes over',
  'Exit Boot Services Returned with Success': 'the kernel takes over',
};

/** Describes every event of a boot, in its order. */
export function describeAll(events: readonly MeasuredEvent[]): Described[] {
  const uki = ukiAmong(events);
  const firstFile = events.findIndex((event) => fileOf(event) !== undefined);
  return events.map((event, i) => {
    const { meaning } = event;
    if (meaning.kind !== 'image' || meaning.path.file === undefined) return describe(event);
    const file = printable(meaning.path.file, 200);
    const role =
      meaning.role === 'driver'
        ? 'the driver'
        : i === uki
          ? 'the UKI'
          : i === firstFile || /(?:shim|grub|systemd-boot|refind|limine|\\boot)[^\\]*\.efi$/i.test(file)
            ? 'the boot loader'
            : /(?:vmlinu|linux|kernel|bzimage)/i.test(file)
              ? 'the kernel'
              : 'the program';
    return plain(`${role} ${file}`);
  });
}

/** The position of the UKI: the last program from a disk before a UKI's sections are measured. -1 if none is booted. */
export function ukiAmong(events: readonly MeasuredEvent[]): number {
  const section = events.findIndex(isSection);
  return section < 0 ? -1 : events.slice(0, section).findLastIndex((event) => fileOf(event) !== undefined);
}

/** Whether systemd-stub measured a section of a UKI, or its name. */
export const isSection = ({ source, pcr, meaning }: MeasuredEvent): boolean =>
  source === 'firmware' && pcr === 11 && meaning.kind === 'text';

/** Whether a program that came from no disk is the kernel that systemd-stub holds. */
export const isStubKernel = ({ meaning }: MeasuredEvent): boolean =>
  meaning.kind === 'image' && meaning.path.vendors.includes(stubPayload);

const plain = (subject: string): Described => ({ subject, value: undefined, text: subject });
const valued = (subject: string, value: string): Described => ({ subject, value, text: `${subject} is ${value}` });

function describe(event: MeasuredEvent): Described {
  const { meaning } = event;
  switch (meaning.kind) {
    case 'startup-locality':
      return valued('the locality that started the TPM', String(meaning.locality));
    case 'note':
      return plain(`a note of the firmware: ${printable(meaning.text, 40)}`);
    case 'firmware-version':
      return meaning.version === ''
        ? plain("the firmware's version")
        : valued("the firmware's version", printable(meaning.version, 80));
    case 'firmware-blob':
      return plain(blobText(meaning));
    case 'variable':
      return meaning.role === 'authority' ? authority(meaning) : setting(meaning);
    case 'image':
      return imageText(event, meaning);
    case 'gpt':
      return valued(
        'the partition table of the disk that boots',
        `that of disk ${meaning.disk} with ${String(meaning.partitions.length)} partitions`,
      );
    case 'action':
      return plain(actions[meaning.text] ?? `the firmware's step "${printable(meaning.text, 120)}"`);
    case 'separator':
      return plain(meaning.isError ? 'the firmware reports an error' : 'the end of what runs before a boot loader');
    case 'text':
      return textOf(event, meaning.text);
    case 'tagged':
      return plain(tags.get(meaning.tag) ?? `the event ${meaning.tag.toString(16)} ${printable(meaning.text, 120)}`);
    case 'tables':
      return plain('tables of the firmware');
    case 'systemd':
      return systemdText(meaning.type, printable(meaning.text, 200));
    case 'unknown':
      return plain(`an event of type 0x${meaning.type.toString(16)}`);
  }
}

function blobText({ name, base, length }: Extract<Meaning, { kind: 'firmware-blob' }>): string {
  const size = `${String(Math.round(length / 1024))} KiB`;
  return `the firmware${name === '' ? '' : ` ${printable(name, 80)}`} (${size} at 0x${base.toString(16)})`;
}

function setting({ name, data, role }: MeasuredVariable & { readonly role: string }): Described {
  const shown = printable(name, 60);
  if (name === 'SecureBoot') return valued('Secure Boot', data.length === 1 && data[0] === 1 ? 'on' : 'off');
  if (role === 'boot-option' && name === 'BootOrder') return valued(variables['BootOrder'] ?? name, bootOrder(data));
  if (/^Boot[0-9A-F]{4}$/.test(name)) return plain(`the boot option ${shown}${optionName(data)}`);
  const subject = Object.hasOwn(variables, name) ? (variables[name] ?? '') : `the firmware's setting ${shown}`;
  if (data.length === 0) return { subject, value: 'empty', text: `${subject} ${areOrIs(name)} empty` };
  const names = signaturesIn(data).flatMap(({ certificate }) => (certificate ? [commonName(certificate)] : []));
  const value = printable(names.join(', '), 300);
  return names.length === 0 ? plain(subject) : { subject, value, text: `${subject}: ${value}` };
}

const areOrIs = (name: string): string =>
  ['KEK', 'db', 'dbt', 'dbr', 'MokList', 'MokListX'].includes(name) ? 'are' : 'is';

/** The description of an EFI_LOAD_OPTION (UEFI specification, section 3.1.3): after u32 attributes and u16 length. */
function optionName(data: Uint8Array): string {
  const name = new TextDecoder('utf-16le').decode(data.subarray(6, 6 + 2 * Math.floor((data.length - 6) / 2)));
  const [described = ''] = name.split('\0');
  return described === '' ? '' : ` (${printable(described, 80)})`;
}

function bootOrder(data: Uint8Array): string {
  const numbers = [...data.keys()].filter((i) => i % 2 === 0).map((i) => (data[i] ?? 0) + 256 * (data[i + 1] ?? 0));
  return numbers.map((number) => number.toString(16).padStart(4, '0').toUpperCase()).join(', ');
}

/** What let an image boot: a certificate, or the digest of the image itself. */
function authority({ name, data }: MeasuredVariable): Described {
  const subject = `what Secure Boot accepted the image by (${printable(name, 60)})`;
  const certificate = data.length > 16 ? certificateIn(data.subarray(16)) : undefined;
  if (certificate) return valued(subject, `the certificate ${printable(commonName(certificate), 200)}`);
  return name === 'SbatLevel' ? plain(variables['SbatLevel'] ?? name) : plain(subject);
}

function imageText(event: MeasuredEvent, { role, path }: Extract<Meaning, { kind: 'image' }>): Described {
  if (isStubKernel(event)) return plain('the kernel inside the UKI');
  if (path.isOnCard) return plain(`the ${role} on an expansion card`);
  const [file] = path.firmwareFiles;
  if (file !== undefined) return plain(`the firmware's own ${role} ${file}`);
  return plain(`a ${role} that was in memory`);
}

/** A section's name is measured before its content, so that an absent section can't look like an empty one. */
function textOf(event: MeasuredEvent, text: string): Described {
  const shown = printable(text, 300);
  if (isSection(event))
    return plain(`${digestIsOf(event, text) ? 'the name of ' : ''}the UKI's section ${printable(text, 20)}`);
  if (event.pcr === 12) return kernelConfig(shown);
  if (event.pcr === 13) return plain(`${shown.startsWith('System extension') ? 'the ' : ''}${lowered(shown)}`);
  const grub = /^(grub_cmd|kernel_cmdline|module_cmdline): *(.*)$/.exec(shown);
  if (grub?.[1] === 'kernel_cmdline') return valued('the kernel command line', grub[2] ?? '');
  if (grub) return plain(`GRUB's command ${grub[2] ?? ''}`);
  if (event.pcr === 9) return plain(`the file ${shown}`);
  return plain(shown === '' ? 'an event without a name' : (variables[text] ?? shown));
}

const lowered = (text: string): string => text.charAt(0).toLowerCase() + text.slice(1);

/** What systemd-stub measures into PCR 12: credentials by a fixed name, and command lines by themselves. */
function kernelConfig(text: string): Described {
  return /^(?:Global c|C)redentials initrd$/.test(text)
    ? plain(`${text.startsWith('Global') ? 'the credentials for all kernels' : "the UKI's credentials"} on the ESP`)
    : valued('the kernel command line beside that of the UKI', `"${text}"`);
}

/** Whether the event measured its own name: UTF-8 with a NUL at the end. */
function digestIsOf({ digests }: MeasuredEvent, text: string): boolean {
  return [...digests].some(([bank, digest]: [Bank, Uint8Array]) =>
    sameBytes(digestIn(bank, utf8(`${text}\0`)), digest),
  );
}

function systemdText(type: string, text: string): Described {
  const value = text.slice(text.indexOf(':') + 1);
  if (type === 'phase') return plain(`the boot's phase ${text}`);
  if (type === 'machine-id') return valued('the machine-id', value);
  if (type === 'filesystem') return plain(`the file system ${value}`);
  if (type === 'volume-key') return plain(`the key of the encrypted volume ${value}`);
  return plain(`${type === '' ? '' : `${type}: `}${text}`);
}
