/** What the next boot will find, read from this machine: the ESP and the EFI variables. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { utf8 } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { fileOf, type MeasuredEvent } from '../measured/event.ts';
import { type MeasuredLog, parseLog } from '../measured/measured-log.ts';
import { type PeImage, parsePe } from '../measured/pe.ts';
import { type NextBoot, predictBoot } from '../measured/prediction.ts';
import { parseUki, type Uki } from '../measured/uki.ts';
import { ukiAmong } from '../measured/words.ts';
import { readFileWithin } from '../system/files.ts';
import { Json } from '../system/json.ts';
import type { Paths } from '../system/paths.ts';
import type { SealedObject } from '../tpm2/sealed-object.ts';
import { unlessDamaged } from './boot-changes.ts';
import { type NextPcr, predictedPcrs } from './measured-boot.ts';
import type { ReadableFiles } from './readable-files.ts';

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
    loaderConf: contentOf(onBootPartition(paths, 'loader/loader.conf'), 1024 * 1024),
    variable: existsSync(variablesIn(paths)) ? (guid, name) => variableOf(paths, guid, name) : undefined,
  };
}

/**
 * The sealed PCRs as the next boot will have them, if nobody chooses another entry in the boot menu. Empty if it is not
 * known what boots next, or if this boot left no log.
 */
export function sealedNextBoot(readable: ReadableFiles, paths: Paths, { policy }: SealedObject): NextPcr[] {
  const firmware = policy.branches.length === 0 ? undefined : readable.read(paths.firmwareLog);
  if (!firmware) return [];
  const predicted = unlessDamaged(() => {
    const log = parseLog(firmware, readable.read(paths.userspaceLog));
    const file = defaultUki() ?? pathNow(paths, log.events[ukiAmong(log.events)]);
    return file === undefined ? undefined : predictedPcrs(predictBoot(log, nextBoot(paths, log, file, true)), policy);
  });
  return (predicted ?? []).filter(({ matches }) => matches !== undefined);
}

/** The UKI that boots by default, as systemd-boot tells the system (bootctl(1), `list --json`). */
function defaultUki(): string | undefined {
  const { status, stdout } = spawnSync('bootctl', ['list', '--json=short'], { encoding: 'utf8', timeout: 10_000 });
  if (status !== 0) return undefined;
  return unlessDamaged(() => {
    const entries = Json.parse(utf8(stdout), "bootctl's list", 'bootctl list').list();
    const chosen = entries.find((entry) => entry.at('isDefault').optional((value) => value.flag()) === true);
    const path = chosen?.at('path').optional((value) => value.text());
    return path?.toLowerCase().endsWith('.efi') === true ? path : undefined;
  });
}

function ukiFile(paths: Paths, named: string): string | undefined {
  if (named.includes('/')) return existsSync(named) ? named : undefined;
  const onEsp = mounts.map((mount) => join(paths.root, mount, 'EFI/Linux', named));
  return [...onEsp, named].find((path) => existsSync(path));
}

/** The first file of this name on one of the boot partitions. */
function onBootPartition(paths: Paths, name: string): string | undefined {
  return mounts.map((mount) => join(paths.root, mount, name)).find((candidate) => existsSync(candidate));
}

const contentOf = (path: string | undefined, most: number): Uint8Array | undefined =>
  path === undefined ? undefined : readFileWithin(path, most);

/** The path of the file that an event of this boot names, if there is one by that name now. */
function pathNow(paths: Paths, event: MeasuredEvent | undefined): string | undefined {
  const name = event && fileOf(event);
  // Firmware writes the path with backslashes, from the root of the partition.
  const parts = name?.split('\\').filter((part) => part !== '') ?? [];
  if (parts.length === 0 || parts.some((part) => part === '..' || part.includes('/'))) return undefined;
  return onBootPartition(paths, join(...parts));
}

function installed(paths: Paths, event: MeasuredEvent | undefined): PeImage | undefined {
  const bytes = contentOf(pathNow(paths, event), largestUki);
  return bytes && unlessDamaged(() => parsePe(bytes, 'the boot loader'));
}

/** The UKI that booted, if its file is still the one that was measured. */
function bootedUki(paths: Paths, event: MeasuredEvent | undefined): Uki | undefined {
  const bytes = contentOf(pathNow(paths, event), largestUki);
  const uki = bytes && unlessDamaged(() => parseUki(bytes, 'the booted UKI'));
  const measured = event?.digests.get('sha256') ?? new Uint8Array(0);
  return uki && Buffer.compare(uki.image.digest('sha256'), measured) === 0 ? uki : undefined;
}

const variablesIn = ({ root }: Paths): string => join(root, 'sys/firmware/efi/efivars');

/** A variable from efivarfs: four bytes of attributes, then the data. */
function variableOf(paths: Paths, guid: string, name: string): Uint8Array | undefined {
  if (!/^[A-Za-z0-9_-]+$/.test(name)) return undefined;
  return readFileWithin(join(variablesIn(paths), `${name}-${guid}`), 1024 * 1024)?.subarray(4);
}
