/** Why PCRs of the next boot are not sure, if no single event says so. */
import { sameBytes } from '../bytes.ts';
import type { Bank } from './bank.ts';
import { isLoaderConf, type LinuxBoot, measuresAsExpected } from './boot-shape.ts';
import type { MeasuredEvent } from './event.ts';
import type { Course } from './prediction.ts';
import { secureBootIn } from './secure-boot.ts';
import { bootPhases, phaseDigest, sectionDigests, type Uki } from './uki.ts';
import { isSection } from './words.ts';

/** A PCR, and why it is not sure. */
type Doubt = readonly [pcr: number, why: string];

/** All such doubts, in their order. */
export function commonDoubts(events: readonly MeasuredEvent[], course: Course): Doubt[] {
  const { next, shape } = course;
  const { started } = next;
  const ima: Doubt = [10, "IMA's measurements depend on what runs"];
  if (shape.kind === 'other')
    return [
      ima,
      ...each(
        [4, 5, 7, 8, 9, 11, 12],
        'this boot started neither a UKI nor an entry of systemd-boot, so the log does not show how one boots',
      ),
    ];
  return [
    ima,
    ...crossing(course),
    ...(started.kind === 'uki' ? ukiDoubts(events, course, started) : linuxDoubts(events, course, started)),
    ...(next.variable ? [] : each([1, 7], 'the present EFI variables are not known')),
    ...each(next.loader ? [] : [4], 'the boot loader was not found, and may have been updated since this boot'),
    ...each(events.some(isLoaderConf) && !next.loaderConf ? [5] : [], 'loader.conf was not found'),
    ...each(
      events.some((event) => event.pcr === 13 && event.isMeasured) ? [13] : [],
      'system extensions on the ESP may change before the next boot',
    ),
  ];
}

const each = (pcrs: readonly number[], why: string): Doubt[] => pcrs.map((pcr) => [pcr, why]);

/** A UKI after a kernel without one, or the other way round. */
function crossing({ next, shape }: Course): Doubt[] {
  if (next.started.kind === shape.kind) return [];
  return each(
    [4, 7, 9, 12, 15],
    shape.kind === 'uki'
      ? 'this boot started a UKI, so the log does not show how a kernel without one boots'
      : 'this boot started no UKI, so the log does not show how one boots',
  );
}

/** Doubts about the kernel of an entry. */
function linuxDoubts(events: readonly MeasuredEvent[], { bank, shape }: Course, { unknown }: LinuxBoot): Doubt[] {
  return [
    ...(unknown === undefined ? [] : each([4, 9, 12], unknown)),
    ...each(
      shape.kind === 'linux' && !measuresAsExpected(events, bank) ? [9] : [],
      "this boot's kernel did not measure its command line and initrd as expected, and the next one may",
    ),
  ];
}

/** Doubts about a UKI and its stub. */
function ukiDoubts(events: readonly MeasuredEvent[], course: Course, uki: Uki): Doubt[] {
  const { next, bank, shape } = course;
  const isFit = shape.kind !== 'uki' || sectionsFit(events, course);
  const otherPhase = events.some(
    (event) => event.pcr === 11 && event.source === 'systemd' && !isKnownPhase(event, bank),
  );
  return [
    [9, 'the initrd is put together by the stub, with credentials and signatures'],
    ...each(uki.stubVersion === undefined ? [4, 11] : [], "the UKI has a stub that is not systemd's"),
    ...each(uki.dependsOnHardware ? [11] : [], 'the stub chooses sections of the UKI by the hardware'),
    ...each(isFit ? [] : [11], 'this boot did not measure the sections that its UKI has'),
    ...(shape.kind === 'uki' ? stubDoubts(events, next, uki) : []),
    ...each(
      events.some((event) => event.pcr === 12 && event.isMeasured) || next.commandLine !== undefined ? [12] : [],
      'credentials and command lines beside that of the UKI may change before the next boot',
    ),
    ...each(otherPhase ? [11] : [], 'systemd measured more than the phases of the boot'),
  ];
}

function stubDoubts(events: readonly MeasuredEvent[], { variable, booted }: Course['next'], uki: Uki): Doubt[] {
  const isSwitched = secureBootIn(events, variable).isOn !== secureBootIn(events, undefined).isOn;
  return [
    ...each(isSwitched ? [4] : [], 'Secure Boot was switched on or off, so the stub may start the kernel differently'),
    ...(!booted
      ? each([4], 'the UKI of this boot was not found, so its stub is not known')
      : each(hasSameStub(uki, booted) ? [] : [4], 'the UKI has another stub, which may start the kernel differently')),
  ];
}

/** Whether the stub measured the sections of the booted UKI as expected, as far as that UKI is known. */
function sectionsFit(events: readonly MeasuredEvent[], { bank, next }: Course): boolean {
  if (!next.booted) return true;
  const logged = events.filter(isSection).map(({ digests }) => digests.get(bank) ?? new Uint8Array(0));
  return sameBytes(Buffer.concat(logged), Buffer.concat(sectionDigests(next.booted, bank)));
}

const isKnownPhase = ({ digests }: MeasuredEvent, bank: Bank): boolean =>
  bootPhases.some((phase) => sameBytes(phaseDigest(phase, bank), digests.get(bank)));

/** Whether the next UKI has the same stub code as the UKI of this boot. */
function hasSameStub(uki: Uki, booted: Uki): boolean {
  const code = ({ image }: Uki): Uint8Array =>
    image.sections.find(({ name }) => name === '.text')?.content ?? new Uint8Array(0);
  return sameBytes(code(uki), code(booted));
}
