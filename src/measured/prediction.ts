/**
 * The PCR values of the next boot, computed from the log of this one and from what will differ: what is started, the
 * boot loader, loader.conf, EFI variables. Everything else is assumed to stay as it was logged, and the verdict on each
 * PCR says so.
 */
import { hex, sameBytes } from '../bytes.ts';
import { printable } from '../system/printable.ts';
import { type Bank, digestIn, extended, initialValue } from './bank.ts';
import {
  type BootShape,
  isLoaderConf,
  isOfKernel,
  type LinuxBoot,
  linuxDigests,
  loadOptions,
  shapeOf,
} from './boot-shape.ts';
import { commonDoubts } from './doubts.ts';
import type { MeasuredEvent, MeasuredVariable } from './event.ts';
import { type MeasuredLog, replayed } from './measured-log.ts';
import { type PeImage, parsePe } from './pe.ts';
import { authorityOf, secureBootIn } from './secure-boot.ts';
import { kernelBootValues, type Uki } from './uki.ts';
import { isStubKernel } from './words.ts';

/** What the next boot will find. Undefined means: as in the log. */
export interface NextBoot {
  /** What is started: a UKI, or the kernel of an entry. */
  readonly started: Uki | LinuxBoot;
  /** A command line that is added to the UKI's own, as by somebody who edits it in the boot menu. */
  readonly commandLine?: string | undefined;
  /** The UKI that booted now, which tells whether the stub is the same. */
  readonly booted?: Uki | undefined;
  /** The boot loader that is installed. */
  readonly loader?: PeImage | undefined;
  /** loader.conf as it is on the ESP. */
  readonly loaderConf?: Uint8Array | undefined;
  /** The present EFI variables; undefined for one that can't be read. */
  readonly variable?: ((guid: string, name: string) => Uint8Array | undefined) | undefined;
}

/** A PCR of the next boot. */
export interface PredictedPcr {
  readonly pcr: number;
  /** One value, or for PCR 11 one for each phase of the boot. */
  readonly values: readonly { readonly phase: string | undefined; readonly value: Uint8Array }[];
  /** Whether the value was computed from all that decides it. */
  readonly isSure: boolean;
  /** What it was computed from, or why it is not sure. */
  readonly why: string;
}

/** All PCRs of the next boot, in one bank. */
export interface Prediction {
  readonly bank: Bank;
  readonly pcrs: ReadonlyMap<number, PredictedPcr>;
}

/** The expected events of a boot, and what makes PCRs unsure. */
export interface Course {
  readonly bank: Bank;
  readonly next: NextBoot;
  readonly shape: BootShape;
  readonly doubts: Map<number, string[]>;
}

/**
 * Predicts the next boot. PCRs of which the next boot is not known stay as the log has them, and are unsure.
 * @param current - the TPM's values, if known: a PCR that the log does not account for is unsure
 * @throws Failure `malformed` if the log has no digests of `bank`, or the kernel in the UKI is no PE image
 */
export function predictBoot(
  log: MeasuredLog,
  next: NextBoot,
  { bank = 'sha256', current }: { readonly bank?: Bank; readonly current?: ReadonlyMap<number, Uint8Array> } = {},
): Prediction {
  const { events } = log;
  const now = replayed(events, bank);
  const course: Course = { bank, next, shape: shapeOf(events), doubts: new Map() };
  const expected = expectedDigests(events, course);
  const values = new Map([...now].map(([pcr]) => [pcr, startOf(events, bank, pcr)]));
  for (const { pcr, digest } of expected)
    values.set(pcr, extended(bank, values.get(pcr) ?? initialValue(bank, pcr), digest));
  for (const [pcr, value] of current ?? [])
    if (pcr <= 16 && !sameBytes(value, now.get(pcr)))
      doubt(course, pcr, 'the log does not account for the value that the TPM has now');
  for (const [pcr, why] of commonDoubts(events, course)) doubt(course, pcr, why);
  return {
    bank,
    pcrs: new Map([...values].filter(([pcr]) => pcr <= 15).map(([pcr, value]) => [pcr, predicted(course, pcr, value)])),
  };
}

function predicted({ bank, next, doubts }: Course, pcr: number, value: Uint8Array): PredictedPcr {
  const reasons = doubts.get(pcr) ?? [];
  return {
    pcr,
    values:
      pcr === 11 && next.started.kind === 'uki' ? kernelBootValues(next.started, bank) : [{ phase: undefined, value }],
    isSure: reasons.length === 0,
    why:
      reasons.length > 0
        ? reasons.join('; ')
        : ({ ...grounds, ...ofKind[next.started.kind] }[pcr] ?? 'as in this boot'),
  };
}

/** What a sure value rests on. */
const grounds: Readonly<Record<number, string>> = {
  0: 'as in this boot, unless the firmware is updated',
  1: 'as in this boot, unless settings or boot options change',
  2: 'as in this boot, unless a card changes',
  3: 'as in this boot, unless a card changes',
  5: 'from loader.conf, and the partition table as in this boot',
  7: "from Secure Boot's variables and the certificates that the images are signed with",
  13: 'as in this boot: no system extension on the ESP',
  15: 'as in this boot, with the same machine-id and volume keys',
};

const ofKind: Readonly<Record<NextBoot['started']['kind'], Readonly<Record<number, string>>>> = {
  uki: {
    4: 'from the boot loader, the UKI and the kernel in it',
    11: "from the UKI's sections and the phases of the boot",
    12: 'as in this boot: no credential, and no other command line than that of the UKI',
  },
  linux: {
    4: 'from the boot loader and the kernel',
    9: "from the entry's command line and initrds",
    11: 'nothing is measured there without a UKI',
    12: "from the entry's command line",
  },
};

/** Adds a reason why a PCR is not sure. */
function doubt({ doubts }: Pick<Course, 'doubts'>, pcr: number, why: string): void {
  doubts.set(pcr, [...(doubts.get(pcr) ?? []), why]);
}

/** The value of a PCR before the first measurement, which a note about the startup locality may set. */
function startOf(events: readonly MeasuredEvent[], bank: Bank, pcr: number): Uint8Array {
  return (
    replayed(
      events.filter(({ isMeasured }) => !isMeasured),
      bank,
    ).get(pcr) ?? initialValue(bank, pcr)
  );
}

interface Expected {
  readonly pcr: number;
  readonly digest: Uint8Array;
}

/** The measurements of the next boot, except those of PCR 11 that a UKI decides. */
function expectedDigests(events: readonly MeasuredEvent[], course: Course): Expected[] {
  const { bank, next, shape } = course;
  const { started } = next;
  const authorities = expectedAuthorities(events, course);
  const accepted = (i: number): Expected[] => (authorities.get(i) ?? []).map((digest) => ({ pcr: 7, digest }));
  // A UKI of the same kind as the one that booted measures the same things beside its sections.
  const keepsStub = started.kind === 'uki' && shape.kind === 'uki';
  const measured = events.flatMap((event, i): Expected[] => {
    const { pcr, meaning } = event;
    const logged = event.digests.get(bank);
    if (!event.isMeasured || !logged || isAuthority(event) || (pcr === 11 && started.kind === 'uki')) return [];
    const as = (digest: Uint8Array): Expected[] => [...accepted(i), { pcr, digest }];
    if (i === shape.image) return [...as(started.image.digest(bank)), ...besideImage(events, course)];
    if (i === shape.loader && next.loader) return as(next.loader.digest(bank));
    if (keepsStub && isStubKernel(event)) return as(parsePe(started.kernel, 'the kernel in the UKI').digest(bank));
    if (shape.image >= 0 && !keepsStub && isReplaced(event, shape)) return [];
    if (isLoaderConf(event) && next.loaderConf) return as(digestIn(bank, next.loaderConf));
    if (meaning.kind === 'variable') return as(variableDigest(event, meaning, course) ?? logged);
    return as(logged);
  });
  return [...measured, ...accepted(events.length)];
}

/** Whether what is started now measures something else there: after a UKI, systemd in the running system too. */
const isReplaced = (event: MeasuredEvent, { kind }: BootShape): boolean =>
  isOfKernel(event) || (kind === 'uki' && event.source === 'systemd' && event.pcr === 11);

/** What is measured right after the started image, instead of what this boot's image measured. */
function besideImage(events: readonly MeasuredEvent[], { bank, next, shape }: Course): Expected[] {
  const { started, commandLine } = next;
  if (started.kind === 'linux') return linuxDigests(started, bank);
  const { isOn } = secureBootIn(events, next.variable);
  // With Secure Boot the stub takes no command line but the UKI's own.
  const isGiven = commandLine !== undefined && !(isOn && started.commandLine !== undefined);
  const given = isGiven ? [{ pcr: 12, digest: digestIn(bank, loadOptions(commandLine)) }] : [];
  if (shape.kind === 'uki') return given;
  const kernel = { pcr: 4, digest: parsePe(started.kernel, 'the kernel in the UKI').digest(bank) };
  return isOn ? given : [...given, kernel];
}

/**
 * The digest of a variable as it is now. Firmware measures the whole event or the variable's data alone: the logged
 * digest tells which.
 */
function variableDigest(
  { pcr, digests, data }: MeasuredEvent,
  variable: MeasuredVariable,
  course: Course,
): Uint8Array | undefined {
  const { bank, next } = course;
  const value = next.variable?.(variable.guid, variable.name);
  if (next.variable && value === undefined && variable.data.length > 0)
    doubt(course, pcr, `the variable ${printable(variable.name, 60)} is gone, or can't be read`);
  if (value === undefined || sameBytes(value, variable.data)) return undefined;
  const isLogged = (bytes: Uint8Array): boolean => sameBytes(digestIn(bank, bytes), digests.get(bank));
  if (isLogged(variable.data)) return digestIn(bank, value);
  if (isLogged(data)) {
    const header = data.slice(0, data.length - variable.data.length);
    new DataView(header.buffer).setBigUint64(24, BigInt(value.length), true);
    return digestIn(bank, header, value);
  }
  doubt(
    course,
    pcr,
    `the variable ${printable(variable.name, 60)} changed, and how the firmware measures it is not known`,
  );
  return undefined;
}

/**
 * What Secure Boot accepts images by is measured once for each certificate, right before the first image that needs it.
 * @returns digests by the position of the image that they precede; those after the last image at the number of events
 */
function expectedAuthorities(
  events: readonly MeasuredEvent[],
  course: Course,
): ReadonlyMap<number, readonly Uint8Array[]> {
  const { bank, shape, next } = course;
  const secureBoot = secureBootIn(events, next.variable);
  if (!secureBoot.isOn) return new Map();
  const expected = authoritiesByImage(events, bank);
  for (const [position, image] of [
    [shape.loader, next.loader],
    [shape.image, next.started.image],
  ] as const) {
    if (position < 0) continue;
    const digest = image && authorityOf(image, secureBoot, bank);
    if (digest) expected.set(position, [digest]);
    else if (secureBoot.usesShim) doubt(course, 7, 'shim decides what accepts the images');
    else if (image) doubt(course, 7, 'no certificate in db signed an image, so Secure Boot would not start it');
    else doubt(course, 7, 'the boot loader was not found, and may be signed with another certificate');
  }
  const seen = new Set<string>();
  const isFirst = (digest: Uint8Array): boolean => {
    const { size } = seen;
    seen.add(hex(digest));
    return seen.size > size;
  };
  return new Map([...expected].sort(([a], [b]) => a - b).map(([i, digests]) => [i, digests.filter(isFirst)]));
}

/** The logged authorities, by the position of the image that follows. */
function authoritiesByImage(events: readonly MeasuredEvent[], bank: Bank): Map<number, Uint8Array[]> {
  const byImage = new Map<number, Uint8Array[]>();
  events.forEach((event, i) => {
    const digest = event.digests.get(bank);
    if (!isAuthority(event) || !digest) return;
    const following = events.findIndex(({ meaning }, j) => j > i && meaning.kind === 'image');
    const image = following < 0 ? events.length : following;
    byImage.set(image, [...(byImage.get(image) ?? []), digest]);
  });
  return byImage;
}

const isAuthority = ({ meaning }: MeasuredEvent): boolean =>
  meaning.kind === 'variable' && meaning.role === 'authority';
