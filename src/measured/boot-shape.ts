/** How a boot went from the firmware to the kernel: through a UKI, or from a boot loader to a kernel itself. */
import { sameBytes } from '../bytes.ts';
import { type Bank, digestIn } from './bank.ts';
import { fileOf, type MeasuredEvent } from './event.ts';
import type { PeImage } from './pe.ts';
import { isSection, isStubKernel, ukiAmong } from './words.ts';

/** A kernel that systemd-boot starts from an entry of type 1. */
export interface LinuxBoot {
  readonly kind: 'linux';
  readonly image: PeImage;
  /** As systemd-boot passes and measures it; undefined for none, and then nothing is measured. */
  readonly commandLine: string | undefined;
  /** All initrds, one after the other; empty if there are none. */
  readonly initrd: Uint8Array;
  /** Why the entry's measurements are unknown; undefined if they are known. */
  readonly unknown: string | undefined;
}

/** Positions of images in the log; -1 for none. */
export interface BootShape {
  /** `other` is a boot whose kernel systemd-boot did not start, as with GRUB. */
  readonly kind: 'uki' | 'linux' | 'other';
  /** The first program from a disk. */
  readonly loader: number;
  /** The UKI, or the kernel. */
  readonly image: number;
}

/** Recognises the course of a boot. */
export function shapeOf(events: readonly MeasuredEvent[]): BootShape {
  const loader = events.findIndex((event) => fileOf(event) !== undefined);
  const uki = ukiAmong(events);
  if (uki >= 0) return { kind: 'uki', loader, image: uki };
  const image = events.findLastIndex((event) => fileOf(event) !== undefined);
  const isSystemdBoot = events.some(isLoaderConf) || events.some(isCommandLine);
  const isGrub = events.some(({ pcr, meaning }) => pcr === 8 && meaning.kind === 'text');
  return image > loader && isSystemdBoot && !isGrub
    ? { kind: 'linux', loader, image }
    : { kind: 'other', loader, image: -1 };
}

/** Whether systemd-boot measured its loader.conf (src/fundamental/tpm2-pcr.h). */
export const isLoaderConf = ({ meaning }: MeasuredEvent): boolean =>
  meaning.kind === 'tagged' && meaning.tag === 0xf5bc582a;

/** What the kernel itself measures into PCR 9 (linux/efi.h). */
const kernelTags = { initrd: 0x8f3b22ec, commandLine: 0x8f3b22ed } as const;
const isTagged = ({ meaning }: MeasuredEvent, tag: number): boolean => meaning.kind === 'tagged' && meaning.tag === tag;

const isCommandLine = ({ source, pcr, meaning }: MeasuredEvent): boolean =>
  source === 'firmware' && pcr === 12 && meaning.kind === 'text';

/** Whether an event belongs to what is started: another kernel measures others in its place. */
export const isOfKernel = (event: MeasuredEvent): boolean =>
  isSection(event) ||
  isStubKernel(event) ||
  isCommandLine(event) ||
  isTagged(event, kernelTags.initrd) ||
  isTagged(event, kernelTags.commandLine);

/** Load options as they are measured: UTF-16 with a NUL. */
export const loadOptions = (text: string): Uint8Array => new Uint8Array(Buffer.from(`${text}\0`, 'utf16le'));

/** What is measured once systemd-boot has loaded the kernel of an entry, except the kernel itself. */
export function linuxDigests({ commandLine, initrd }: LinuxBoot, bank: Bank): { pcr: number; digest: Uint8Array }[] {
  const options = commandLine === undefined ? undefined : digestIn(bank, loadOptions(commandLine));
  return [
    ...(options ? [12, 9].map((pcr) => ({ pcr, digest: options })) : []),
    ...(initrd.length > 0 ? [{ pcr: 9, digest: digestIn(bank, initrd) }] : []),
  ];
}

/** Whether the kernel of this boot measured its command line as given: then the next one is expected to. */
export function measuresAsExpected(events: readonly MeasuredEvent[], bank: Bank): boolean {
  const given = events.find(isCommandLine);
  const got = events.find((event) => isTagged(event, kernelTags.commandLine));
  const logged = given?.digests.get(bank);
  if (given?.meaning.kind !== 'text' || logged === undefined) return false;
  return (
    sameBytes(logged, got?.digests.get(bank)) && sameBytes(logged, digestIn(bank, loadOptions(given.meaning.text)))
  );
}
