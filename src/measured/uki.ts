/** Unified kernel images, and what systemd-stub measures of them (src/fundamental/uki.h, src/boot/stub.c). */
import { utf8 } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { type Bank, digestIn, extended, initialValue } from './bank.ts';
import { type PeImage, parsePe, type Section } from './pe.ts';
import { utf8Text } from './reader.ts';

/** The sections that are measured, in that order, and since which stub. `.pcrsig` is not: it signs the result. */
const measuredSections: readonly (readonly [name: string, since: number])[] = [
  ['.linux', 0],
  ['.osrel', 0],
  ['.cmdline', 0],
  ['.initrd', 0],
  ['.ucode', 256],
  ['.splash', 0],
  ['.dtb', 0],
  ['.uname', 253],
  ['.sbat', 254],
  ['.pcrpkey', 252],
  ['.profile', 257],
];

/** Sections from which the stub chooses by the hardware. */
const byHardware: readonly string[] = ['.dtbauto', '.hwids', '.efifw'];

/** The phases of a boot until the system is up (systemd-pcrphase.service(8)). */
export const bootPhases = ['enter-initrd', 'leave-initrd', 'sysinit', 'ready'] as const;

/** A UKI. */
export interface Uki {
  readonly kind: 'uki';
  readonly image: PeImage;
  /** The sections of the chosen profile that are measured, in the order of measurement. */
  readonly measured: readonly Section[];
  /** The kernel, itself a PE image. */
  readonly kernel: Uint8Array;
  /** The command line as the kernel gets it; undefined if it has none of its own. */
  readonly commandLine: string | undefined;
  /** The version of the kernel. */
  readonly version: string | undefined;
  /** Of systemd-stub, such as 257; undefined if it does not say, as other stubs. */
  readonly stubVersion: number | undefined;
  /** Whether the stub chooses some of its sections by the hardware. */
  readonly dependsOnHardware: boolean;
}

/**
 * Parses a UKI.
 * @param file - its name, for failures
 * @param profile - which of its profiles is booted, from 0
 * @throws Failure `malformed` for what is no UKI, and `not-found` for a profile that it does not have
 */
export function parseUki(bytes: Uint8Array, file: string, profile = 0): Uki {
  const image = parsePe(bytes, file);
  const chosen = sectionsOf(image.sections, profile, file);
  const kernel = chosen.get('.linux');
  if (!kernel)
    throw new Failure('malformed', `${file} is not a UKI: it has no section .linux`, {
      hint: 'ukify build makes one; the kernel alone is not enough to know the next boot',
    });
  const text = (name: string): string | undefined => {
    const content = chosen.get(name);
    return content && utf8Text(content);
  };
  const stubVersion = stubVersionIn(text('.sdmagic'));
  return {
    kind: 'uki',
    image,
    stubVersion,
    measured: measuredSections.flatMap(([name, since]) => {
      const content = chosen.get(name);
      return content && since <= (stubVersion ?? since) ? [{ name, content }] : [];
    }),
    kernel,
    commandLine: text('.cmdline')?.trim(),
    version: text('.uname')?.trim(),
    dependsOnHardware: image.sections.some(({ name }) => byHardware.includes(name)),
  };
}

/** From `#### LoaderInfo: systemd-stub 257.13-1 ####`. */
function stubVersionIn(magic: string | undefined): number | undefined {
  const version = /LoaderInfo: systemd-stub (\d{3,4})/.exec(magic ?? '')?.[1];
  return version === undefined ? undefined : Number(version);
}

/** The sections before the first `.profile` are shared by all profiles; those behind a `.profile` replace them. */
function sectionsOf(sections: readonly Section[], profile: number, file: string): ReadonlyMap<string, Uint8Array> {
  const starts = sections.flatMap(({ name }, i) => (name === '.profile' ? [i] : []));
  const shared = sections.slice(0, starts[0] ?? sections.length);
  const start = starts[profile];
  if (profile !== 0 && start === undefined)
    throw new Failure('not-found', `${file} has no profile ${String(profile)}`, {
      hint: `it has ${String(Math.max(1, starts.length))}, counted from 0`,
    });
  const own = start === undefined ? [] : sections.slice(start, starts[profile + 1] ?? sections.length);
  const firstOf = (list: readonly Section[]): [string, Uint8Array][] =>
    // The stub takes the first of several sections of a name, and none that is empty.
    [...list]
      .reverse()
      .filter(({ content }) => content.length > 0)
      .map(({ name, content }) => [name, content]);
  return new Map([...firstOf(shared), ...firstOf(own)]);
}

/** The digests that the stub extends PCR 11 by: for each section its name with a NUL, then its content. */
export const sectionDigests = ({ measured }: Uki, bank: Bank): Uint8Array[] =>
  measured.flatMap(({ name, content }) => [digestIn(bank, utf8(`${name}\0`)), digestIn(bank, content)]);

/** The digest of a phase of the boot (src/pcrextend/pcrextend.c). */
export const phaseDigest = (phase: string, bank: Bank): Uint8Array => digestIn(bank, utf8(phase));

/** PCR 11 in each phase of the boot of a UKI, in order. */
export function kernelBootValues(
  uki: Uki,
  bank: Bank,
  phases: readonly string[] = bootPhases,
): { readonly phase: string; readonly value: Uint8Array }[] {
  let value = sectionDigests(uki, bank).reduce(
    (before, digest) => extended(bank, before, digest),
    initialValue(bank, 11),
  );
  return phases.map((phase) => {
    value = extended(bank, value, phaseDigest(phase, bank));
    return { phase, value };
  });
}
