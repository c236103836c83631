/** What the next boot will find, read from this machine: the ESP and the EFI variables. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Failure } from '../failure.ts';
import { fileOf, type MeasuredEvent } from '../measured/event.ts';
import type { MeasuredLog } from '../measured/measured-log.ts';
import { type PeImage, parsePe } from '../measured/pe.ts';
import type { NextBoot } from '../measured/prediction.ts';
import { parseUki, type Uki } from '../measured/uki.ts';
import { ukiAmong } from '../measured/words.ts';
import { readFileWithin } from '../system/files.ts';
import type { Paths } from '../system/paths.ts';
import { unlessDamaged } from './boot-changes.ts';

/** Where the ESP and the partition for kernels are mounted (systemd-gpt-auto-generator(8), bootctl(1)). */
const mounts = ['efi', 'boot', 'boot/efi', 'esp'];
/** The largest UKI that is read, in bytes. */
const largestUki = 512 * 1024 * 1024;

/**
 * Reads what decides the next boot of `named`: the path of a UKI, or its name in EFI/Linux of the ESP.
 * @param readsMachine - whether the log is of this machine: else neither its ESP nor its variables say anything
 * @throws Failure `not-found` if there is no such UKI, `malformed` if it is none
 */
export function nextBoot(paths: Paths, log: MeasuredLog, named: string, readsMachine: boolean): NextBoot {
  const file = ukiFile(paths, named);
  const bytes = file === undefined ? undefined : readFileWithin(file, largestUki);
  if (file === undefined || bytes === undefined)
    throw new Failure('not-found', `there is no UKI ${named}`, {
      hint: 'give a path, or the name of a file in EFI/Linux of the ESP, as bootctl list shows it',
    });
  const uki = parseUki(bytes, file);
  if (!readsMachine) return { uki };
  const { events } = log;
  return {
    uki,
    booted: bootedUki(paths, events[ukiAmong(events)]),
    loader: installed(
      paths,
      events.find((event) => fileOf(event) !== undefined),
    ),
    loaderConf: onBootPartition(paths, 'loader/loader.conf', 1024 * 1024),
    variable: existsSync(paths.efiVariables) ? (guid, name) => variableOf(paths, guid, name) : undefined,
  };
}

function ukiFile(paths: Paths, named: string): string | undefined {
  if (named.includes('/')) return existsSync(named) ? named : undefined;
  const onEsp = mounts.map((mount) => join(paths.root, mount, 'EFI/Linux', named));
  return [...onEsp, named].find((path) => existsSync(path));
}

/** The first file of this name on one of the boot partitions. */
function onBootPartition(paths: Paths, name: string, most: number): Uint8Array | undefined {
  const path = mounts.map((mount) => join(paths.root, mount, name)).find((candidate) => existsSync(candidate));
  return path === undefined ? undefined : readFileWithin(path, most);
}

/** The file that an event of this boot names, as it is now. */
function fileNow(paths: Paths, event: MeasuredEvent | undefined): Uint8Array | undefined {
  const name = event && fileOf(event);
  // Firmware writes the path with backslashes, from the root of the partition.
  const parts = name?.split('\\').filter((part) => part !== '') ?? [];
  if (parts.length === 0 || parts.some((part) => part === '..' || part.includes('/'))) return undefined;
  return onBootPartition(paths, join(...parts), largestUki);
}

function installed(paths: Paths, event: MeasuredEvent | undefined): PeImage | undefined {
  const bytes = fileNow(paths, event);
  return bytes && unlessDamaged(() => parsePe(bytes, 'the boot loader'));
}

/** The UKI that booted, if its file is still the one that was measured. */
function bootedUki(paths: Paths, event: MeasuredEvent | undefined): Uki | undefined {
  const bytes = fileNow(paths, event);
  const uki = bytes && unlessDamaged(() => parseUki(bytes, 'the booted UKI'));
  const measured = event?.digests.get('sha256') ?? new Uint8Array(0);
  return uki && Buffer.compare(uki.image.digest('sha256'), measured) === 0 ? uki : undefined;
}

/** A variable from efivarfs: four bytes of attributes, then the data. */
function variableOf(paths: Paths, guid: string, name: string): Uint8Array | undefined {
  if (!/^[A-Za-z0-9_-]+$/.test(name)) return undefined;
  return readFileWithin(join(paths.efiVariables, `${name}-${guid}`), 1024 * 1024)?.subarray(4);
}
