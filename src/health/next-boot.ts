/** What the next boot will find, read from this machine: the boot partitions and the EFI variables. */

import { join } from 'node:path';
import { hex, sameBytes } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { shapeOf } from '../measured/boot-shape.ts';
import { fileOf, type MeasuredEvent } from '../measured/event.ts';
import { type MeasuredLog, parseLog } from '../measured/measured-log.ts';
import { type PeImage, parsePe } from '../measured/pe.ts';
import { type NextBoot, predictBoot } from '../measured/prediction.ts';
import { parseUki, type Uki } from '../measured/uki.ts';
import type { Paths } from '../system/paths.ts';
import type { SealedObject } from '../tpm2/sealed-object.ts';
import { unlessDamaged } from './boot-changes.ts';
import {
  defaultBoot,
  hasVariables,
  type InstalledBoot,
  imageIn,
  loaderConf,
  namedBoot,
  onBootPartition,
  selectedEntry,
  startedBy,
  variableOf,
} from './boot-entries.ts';
import { type NextPcr, predictedPcrs } from './measured-boot.ts';
import type { ReadableFiles } from './readable-files.ts';

/** What to predict. */
export interface WantedBoot {
  /** A path of a UKI or of an entry, or an id; undefined for what boots by default. */
  readonly named: string | undefined;
  /** A command line that replaces the entry's options, or is added to the UKI's. */
  readonly commandLine?: string | undefined;
  /** Whether the log is of this machine. Otherwise its boot partitions and variables say nothing. */
  readonly readsMachine: boolean;
}

/** What the next boot finds, and which boot it is. */
export type WantedNextBoot = NextBoot & { readonly boot: InstalledBoot };

/**
 * Reads what decides the next boot.
 * @throws Failure `not-found` if there is no such UKI or entry, `malformed` if the file is neither
 */
export function nextBoot(
  paths: Paths,
  log: MeasuredLog,
  { named, commandLine, readsMachine }: WantedBoot,
): WantedNextBoot {
  const boot = named === undefined ? bootByDefault(paths, log) : namedBoot(paths, named);
  if (!boot)
    throw named === undefined
      ? new Failure('not-found', 'it is not known what boots next: there is no entry of systemd-boot, and no UKI', {
          hint: 'name it: --predict=UKI or --predict=ENTRY',
        })
      : new Failure('not-found', `there is no UKI or boot entry ${named}`, {
          hint: 'give the path of a UKI or of an entry in loader/entries, or its id, as bootctl list shows it',
        });
  const started = startedBy(boot, commandLine);
  const given = started.kind === 'uki' ? { commandLine } : {};
  if (!readsMachine) return { boot, started, ...given };
  return { boot, started, ...given, ...surroundings(paths, log) };
}

/**
 * What each of several boots of this machine would find.
 * @param failed - called for each whose files are gone or damaged, which is left out
 */
export function* nextBoots(
  paths: Paths,
  log: MeasuredLog,
  boots: readonly InstalledBoot[],
  failed: (boot: InstalledBoot, failure: Failure) => void,
): Generator<WantedNextBoot> {
  const around = surroundings(paths, log);
  for (const boot of boots) {
    try {
      yield { boot, started: startedBy(boot), ...around };
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      failed(boot, error);
    }
  }
}

/** What booted now: the entry's id, else the file's name, and the digest of its UKI or kernel in hexadecimal. */
export function bootedNow(paths: Paths, { events }: MeasuredLog): { entry: string; image: string } | undefined {
  const event = events[shapeOf(events).image];
  const digest = event?.digests.get('sha256');
  const file = event && fileOf(event);
  if (digest === undefined || file === undefined) return undefined;
  return {
    entry: selectedEntry(paths) ?? file.split('\\').at(-1) ?? file,
    image: hex(digest),
  };
}

/** Everything but the entry: the same whichever entry boots. */
function surroundings(paths: Paths, { events }: MeasuredLog): Omit<NextBoot, 'started' | 'commandLine'> {
  const { kind, image, loader } = shapeOf(events);
  return {
    booted: kind === 'uki' ? bootedUki(paths, events[image]) : undefined,
    loader: loaderNow(paths, events[loader]),
    loaderConf: loaderConf(paths),
    variable: hasVariables(paths) ? (guid, name) => variableOf(paths, guid, name) : undefined,
  };
}

/** What boots if nobody chooses another entry in the boot menu: with no menu, the same file again. */
function bootByDefault(paths: Paths, { events }: MeasuredLog): InstalledBoot | undefined {
  const { kind, loader, image } = shapeOf(events);
  const again = kind === 'uki' ? pathNow(paths, events[image]) : undefined;
  const same = again === undefined ? undefined : { id: again.split('/').at(-1) ?? again, file: again };
  return kind === 'uki' && loader === image ? same : (defaultBoot(paths) ?? same);
}

/** The next boot as far as it is known, for the PCRs that the seed is sealed to. */
export interface SealedNextBoot {
  /** The id of the entry that boots by default; undefined if it is not known. */
  readonly entry: string | undefined;
  /** Why nothing can be said; undefined if something can. */
  readonly unknown: string | undefined;
  /** The PCRs that the seed is sealed to; empty if nothing can be said, or nothing is bound. */
  readonly pcrs: readonly NextPcr[];
}

/** PCRs that depend on what boots. A seed without them opens under every installed kernel. */
const kernelPcrs: readonly number[] = [4, 5, 7, 8, 9, 11, 12, 13];

/** Whether one of the PCRs depends on what boots. */
export const dependsOnKernel = (pcrs: readonly number[]): boolean => pcrs.some((pcr) => kernelPcrs.includes(pcr));

/** PCR 7 changes only with a kernel that another key signed, so an unknown one is no news. */
const changesWithKernel = (pcrs: readonly number[]): boolean => dependsOnKernel(pcrs.filter((pcr) => pcr !== 7));

/** Nothing is bound that a boot could change, or nobody looked. */
export const nothingBound: SealedNextBoot = { entry: undefined, unknown: undefined, pcrs: [] };

/**
 * The sealed PCRs as the next boot will have them, if nobody chooses another entry in the boot menu.
 */
export function sealedNextBoot(readable: ReadableFiles, paths: Paths, { policy }: SealedObject): SealedNextBoot {
  const firmware = policy.branches.length === 0 ? undefined : readable.read(paths.firmwareLog);
  if (!firmware) return nothingBound;
  const pcrs = [...(policy.branches[0]?.keys() ?? [])];
  try {
    const log = parseLog(firmware, readable.read(paths.userspaceLog));
    const next = nextBoot(paths, log, { named: undefined, readsMachine: true });
    const predicted = predictedPcrs(predictBoot(log, next), policy);
    return { entry: next.boot.id, unknown: undefined, pcrs: predicted.filter(({ matches }) => matches !== undefined) };
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return changesWithKernel(pcrs) ? { entry: undefined, unknown: error.message, pcrs: [] } : nothingBound;
  }
}

/** The path of the file that an event of this boot names, if it still exists. */
function pathNow(paths: Paths, event: MeasuredEvent | undefined): string | undefined {
  const name = event && fileOf(event);
  // Firmware writes the path with backslashes, from the root of the partition.
  const parts = name?.split('\\').filter((part) => part !== '') ?? [];
  if (parts.length === 0 || parts.some((part) => part === '..' || part.includes('/'))) return undefined;
  return onBootPartition(paths, join(...parts));
}

function loaderNow(paths: Paths, event: MeasuredEvent | undefined): PeImage | undefined {
  const bytes = imageIn(pathNow(paths, event));
  return bytes && unlessDamaged(() => parsePe(bytes, 'the boot loader'));
}

/** The UKI that booted, if its file is still the one that was measured. */
function bootedUki(paths: Paths, event: MeasuredEvent | undefined): Uki | undefined {
  const bytes = imageIn(pathNow(paths, event));
  const uki = bytes && unlessDamaged(() => parseUki(bytes, 'the booted UKI'));
  return uki && sameBytes(uki.image.digest('sha256'), event?.digests.get('sha256')) ? uki : undefined;
}
