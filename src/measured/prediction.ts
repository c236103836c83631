/**
 * The PCR values of the next boot, computed from the log of this one and from what will be another: the UKI, the boot
 * loader, loader.conf, EFI variables. Everything that is not named is taken to stay as it was logged, and the verdict on
 * each PCR says so.
 */
import { utf8 } from '../bytes.ts';
import { printable } from '../system/printable.ts';
import { type Bank, digestIn, extended, initialValue } from './bank.ts';
import { fileOf, type MeasuredEvent, type MeasuredVariable } from './event.ts';
import { type MeasuredLog, replayed } from './measured-log.ts';
import { type PeImage, parsePe } from './pe.ts';
import { authorityOf, secureBootIn } from './secure-boot.ts';
import { bootPhases, kernelBootValues, sectionDigests, type Uki } from './uki.ts';
import { isSection, isStubKernel, ukiAmong } from './words.ts';

/** What the next boot will find. Undefined means: as in the log. */
export interface NextBoot {
  readonly uki: Uki;
  /** The UKI that booted now, which tells whether the stub is the same. */
  readonly booted?: Uki | undefined;
  /** The boot loader that is installed. */
  readonly loader?: PeImage | undefined;
  /** loader.conf as it is on the ESP. */
  readonly loaderConf?: Uint8Array | undefined;
  /** EFI variables as they are now; undefined for one that can't be read. */
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

export interface Prediction {
  readonly bank: Bank;
  readonly pcrs: ReadonlyMap<number, PredictedPcr>;
}

/** The events of a boot as they are expected, and what makes PCRs unsure. */
interface Course {
  readonly bank: Bank;
  readonly next: NextBoot;
  /** The position of the UKI in the log; -1 if the last boot was of another kind. */
  readonly uki: number;
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
  const course: Course = { bank, next, uki: ukiAmong(events), doubts: new Map() };
  const expected = expectedDigests(events, course);
  const values = new Map([...now].map(([pcr]) => [pcr, startOf(events, bank, pcr)]));
  for (const { pcr, digest } of expected)
    values.set(pcr, extended(bank, values.get(pcr) ?? initialValue(bank, pcr), digest));
  for (const [pcr, value] of current ?? [])
    if (pcr <= 16 && Buffer.compare(value, now.get(pcr) ?? new Uint8Array(0)) !== 0)
      doubt(course, pcr, 'the log does not account for the value that the TPM has now');
  commonDoubts(events, course);
  return {
    bank,
    pcrs: new Map([...values].filter(([pcr]) => pcr <= 15).map(([pcr, value]) => [pcr, predicted(course, pcr, value)])),
  };
}

function predicted({ bank, next, doubts }: Course, pcr: number, value: Uint8Array): PredictedPcr {
  const reasons = doubts.get(pcr) ?? [];
  return {
    pcr,
    values: pcr === 11 ? kernelBootValues(next.uki, bank) : [{ phase: undefined, value }],
    isSure: reasons.length === 0,
    why: reasons.length === 0 ? (grounds[pcr] ?? 'as in this boot') : reasons.join('; '),
  };
}

/** What a sure value rests on. */
const grounds: Readonly<Record<number, string>> = {
  0: 'as in this boot, unless the firmware is updated',
  1: 'as in this boot, unless settings or boot options change',
  2: 'as in this boot, unless a card changes',
  3: 'as in this boot, unless a card changes',
  4: 'from the boot loader, the UKI and the kernel in it',
  5: 'from loader.conf, and the partition table as in this boot',
  7: "from Secure Boot's variables and the certificates that the images are signed with",
  11: "from the UKI's sections and the phases of the boot",
  12: 'as in this boot: no credential, and no other command line than that of the UKI',
  13: 'as in this boot: no system extension on the ESP',
  15: 'as in this boot, with the same machine-id and volume keys',
};

function doubt({ doubts }: Course, pcr: number, why: string): void {
  doubts.set(pcr, [...(doubts.get(pcr) ?? []), why]);
}

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

/** The measurements of the next boot, but those of PCR 11. */
function expectedDigests(events: readonly MeasuredEvent[], course: Course): Expected[] {
  const { bank, next, uki } = course;
  const loader = events.findIndex((event) => fileOf(event) !== undefined);
  const authorities = expectedAuthorities(events, course, loader);
  const accepted = (i: number): Expected[] => (authorities.get(i) ?? []).map((digest) => ({ pcr: 7, digest }));
  const measured = events.flatMap((event, i): Expected[] => {
    const { pcr, meaning } = event;
    const logged = event.digests.get(bank);
    if (!event.isMeasured || !logged || pcr === 11 || isAuthority(event)) return [];
    const as = (digest: Uint8Array): Expected[] => [...accepted(i), { pcr, digest }];
    if (i === uki) return as(next.uki.image.digest(bank));
    if (i === loader && next.loader) return as(next.loader.digest(bank));
    if (isStubKernel(event)) return as(parsePe(next.uki.kernel, 'the kernel in the UKI').digest(bank));
    if (isLoaderConf(event) && next.loaderConf) return as(digestIn(bank, next.loaderConf));
    if (meaning.kind === 'variable') return as(variableDigest(event, meaning, course) ?? logged);
    return as(logged);
  });
  return [...measured, ...accepted(events.length)];
}

const isLoaderConf = ({ meaning }: MeasuredEvent): boolean => meaning.kind === 'tagged' && meaning.tag === 0xf5bc582a;

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
  if (value === undefined || Buffer.compare(value, variable.data) === 0) return undefined;
  const logged = digests.get(bank) ?? new Uint8Array(0);
  const is = (bytes: Uint8Array): boolean => Buffer.compare(digestIn(bank, bytes), logged) === 0;
  if (is(variable.data)) return digestIn(bank, value);
  if (is(data)) {
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
 * @returns digests by the position of the image before which they are measured; at the number of events those behind the
 * last image
 */
function expectedAuthorities(
  events: readonly MeasuredEvent[],
  course: Course,
  loader: number,
): ReadonlyMap<number, readonly Uint8Array[]> {
  const { bank, uki, next } = course;
  const secureBoot = secureBootIn(events, next.variable);
  if (!secureBoot.isOn) return new Map();
  const expected = authoritiesByImage(events, bank);
  for (const [position, image] of [
    [loader, next.loader],
    [uki, next.uki.image],
  ] as const) {
    if (position < 0) continue;
    const digest = image && authorityOf(image, secureBoot, bank);
    if (digest) expected.set(position, [digest]);
    else if (secureBoot.usesShim) doubt(course, 7, 'shim decides what accepts the images');
    else if (image) doubt(course, 7, 'an image is signed with no certificate of db, so Secure Boot would not start it');
    else doubt(course, 7, 'the boot loader was not found, and may be signed with another certificate');
  }
  const seen = new Set<string>();
  const isFirst = (digest: Uint8Array): boolean => {
    const text = Buffer.from(digest).toString('hex');
    return !seen.has(text) && seen.add(text).has(text);
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

/** Doubts that do not depend on a single event. */
function commonDoubts(events: readonly MeasuredEvent[], course: Course): void {
  const { next, uki, bank } = course;
  const { stubVersion, dependsOnHardware } = next.uki;
  doubt(course, 9, 'the initrd is put together by the stub, with credentials and signatures');
  doubt(course, 10, "IMA's measurements depend on what runs");
  if (uki < 0) {
    for (const pcr of [4, 5, 7, 12])
      doubt(course, pcr, 'this boot was not of a UKI, so the log does not show how one boots');
    return;
  }
  if (stubVersion === undefined)
    for (const pcr of [4, 11]) doubt(course, pcr, 'the UKI has a stub of another program than systemd');
  if (dependsOnHardware) doubt(course, 11, 'the stub chooses sections of the UKI by the hardware');
  if (!sectionsFit(events, course)) doubt(course, 11, 'this boot measured other things than the sections of its UKI');
  const { isOn } = secureBootIn(events, next.variable);
  if (isOn !== secureBootIn(events, undefined).isOn)
    doubt(course, 4, 'Secure Boot was switched, and then the stub may start the kernel in another way');
  if (!next.booted) doubt(course, 4, 'the UKI that booted now was not found, so its stub is not known');
  else if (!hasSameStub(next.uki, next.booted))
    doubt(course, 4, 'the UKI has another stub, which may start the kernel in another way');
  if (!next.variable) for (const pcr of [1, 7]) doubt(course, pcr, 'the EFI variables of now are not known');
  if (!next.loader) doubt(course, 4, 'the boot loader was not found, and may have been updated since this boot');
  if (events.some(isLoaderConf) && !next.loaderConf) doubt(course, 5, 'loader.conf was not found');
  for (const [pcr, why] of [
    [12, 'credentials and command lines beside that of the UKI may change before the next boot'],
    [13, 'system extensions on the ESP may change before the next boot'],
  ] as const)
    if (events.some((event) => event.pcr === pcr && event.isMeasured)) doubt(course, pcr, why);
  if (events.some((event) => event.pcr === 11 && event.source === 'systemd' && !isKnownPhase(event, bank)))
    doubt(course, 11, 'systemd measured more than the phases of the boot');
}

/** Whether the stub measured the sections of the booted UKI as expected, as far as that UKI is known. */
function sectionsFit(events: readonly MeasuredEvent[], { bank, next }: Course): boolean {
  if (!next.booted) return true;
  const logged = events.filter(isSection).map(({ digests }) => digests.get(bank) ?? new Uint8Array(0));
  return Buffer.compare(Buffer.concat(logged), Buffer.concat(sectionDigests(next.booted, bank))) === 0;
}

const isKnownPhase = ({ digests }: MeasuredEvent, bank: Bank): boolean =>
  bootPhases.some((phase) => Buffer.compare(digestIn(bank, utf8(phase)), digests.get(bank) ?? new Uint8Array(0)) === 0);

/** Whether the next UKI has the code of the stub that booted now. */
function hasSameStub(uki: Uki, booted: Uki): boolean {
  const code = ({ image }: Uki): Uint8Array =>
    image.sections.find(({ name }) => name === '.text')?.content ?? new Uint8Array(0);
  return Buffer.compare(code(uki), code(booted)) === 0;
}
