/**
 * The snapshot, written by `provision`: which unit gets which secret. The broker answers only from it, so an edited
 * manifest or a half-copied file changes no answer.
 *
 * The broker reads `generations/N/releases.json`, and `generations/N/fixed` with the fixed files, named by their
 * SHA-256. The next `provision` reads `generations/N/record.json`, and `generations/N/settled.json` with the inputs of
 * the snapshot, which tells it at once if nothing changed. Each of the three JSON files is a line with the HMAC-SHA256
 * of the rest, in hexadecimal, then canonical JSON. The HMAC key comes from the seed of the machine's own scope, so
 * that somebody who can write /var can't give one unit's secret to another.
 */
import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type Fixed, ingredients, type Recipe } from '../derive/recipe.ts';
import type { Sources } from '../derive/value.ts';
import { fixedValues } from '../fixed/value.ts';
import { type Delivery, deliveries, needs, type Placement } from '../manifest/declaration.ts';
import type { Declared } from '../manifest/declared.ts';
import { parseSealing, type Sealing, sealingJson } from '../seeds/payload.ts';
import { type Scope, seedsOf } from '../seeds/scope.ts';
import {
  type Access,
  ensureFolder,
  linkTarget,
  namesIn,
  readIfPresent,
  removeLeftovers,
  replaceIfChanged,
  replaceLink,
  syncFolder,
  writeNew,
} from '../system/files.ts';
import { type Json, sameJson } from '../system/json.ts';
import type { Paths } from '../system/paths.ts';
import { authenticated, isAuthentic, unverified, verified } from './authenticated.ts';
import { parseRecipe } from './recipe-json.ts';

/** One credential of one unit. */
export interface Release {
  /**
   * The declared unit: a service, or a template for all its instances; `anyUnit` for a credential that anybody who
   * imports it may have.
   */
  readonly unit: string;
  readonly credential: string;
  readonly delivery: Delivery;
  readonly recipe: Recipe;
  /** Defined for `delivery = "file"` only. */
  readonly placement?: Placement;
  /** Defined if a configuration renders the manifest. */
  readonly declared?: Declared;
}

/** A recipe of a secret, and since when it was active. */
export interface HistoryEntry {
  /** UTC, to the second: `2026-11-23T00:00:07Z`. */
  readonly since: string;
  /** When the secret was removed, in the same form; undefined if it is active or another recipe followed. */
  readonly until?: string;
  readonly recipe: Recipe;
}

/** The entries of each secret, the oldest first; the last one is active, unless it was removed. */
export type History = ReadonlyMap<string, readonly HistoryEntry[]>;

/**
 * The label in the seed tree of the key for fingerprints of releases. Records from before `release` existed have
 * `fingerprint`, as fixed files do.
 */
export type FingerprintLabel = 'release' | 'fingerprint';

/** All that `provision` records. */
export interface Snapshot {
  /** The counter of the seeds.age that it was made with. An older seeds.age is refused from then on. */
  readonly counter: number;
  /** The value of the TPM's counter once this snapshot is active; undefined if there is no counter. */
  readonly tpmCounter?: number | undefined;
  /** How the seeds were sealed, to reseal after seeds.age is lost. */
  readonly sealing: Sealing;
  readonly releases: readonly Release[];
  readonly history: History;
  /** A keyed digest of each release's value, by {@link releaseKey}. Tells whether a value changed. */
  readonly fingerprints: ReadonlyMap<string, string>;
  readonly fingerprintLabel: FingerprintLabel;
}

/** The inputs of a snapshot. While they stay the same, so does the snapshot. */
export interface Settled {
  /** SHA-256, in hexadecimal, of all inputs but the fixed files and the clock. */
  readonly inputs: string;
  /** SHA-256, in hexadecimal, of each fixed file, by its scope and path. */
  readonly fixed: Readonly<Record<string, string>>;
  /** Milliseconds since 1970: the snapshot's periods are current from here on. */
  readonly from: number;
  /** Milliseconds since 1970: they end here, exclusive. */
  readonly until: number;
}

/** The key of a release: `UNIT/CREDENTIAL`. */
export const releaseKey = ({ unit, credential }: Pick<Release, 'unit' | 'credential'>): string =>
  `${unit}/${credential}`;

/** The JSON files of a snapshot. */
export const snapshotFiles = { releases: 'releases.json', record: 'record.json', settled: 'settled.json' } as const;
const fixedFolder = 'fixed';

/** The part of the snapshot that the broker reads. */
export type Releases = Pick<Snapshot, 'counter' | 'tpmCounter' | 'releases'>;

/** Encodes the broker's file. Equal releases give equal bytes. */
export const encodeReleases = ({ counter, tpmCounter, releases }: Releases, host: Scope): Uint8Array =>
  authenticated({ kind: 'releases', counter, tpmCounter, releases }, host);

/** Parses the broker's file. @throws Failure `malformed` unless this machine's own `provision` wrote it */
export function parseReleases(bytes: Uint8Array, host: Scope): Releases {
  const json = verified(bytes, host);
  json.at('kind').oneOf(['releases']);
  const tpmCounter = json.at('tpmCounter').optional((item) => item.whole(0, Number.MAX_SAFE_INTEGER));
  return {
    counter: json.at('counter').whole(0, 0xffffffff),
    ...(tpmCounter === undefined ? {} : { tpmCounter }),
    releases: releasesIn(json),
  };
}

/** The releases in the broker's file, without checking its MAC: untrusted input. @throws Failure `malformed` */
export const unverifiedReleases = (bytes: Uint8Array): Release[] => releasesIn(unverified(bytes));

const releasesIn = (json: Json): Release[] =>
  json
    .at('releases')
    .list()
    .map((item) => ({
      unit: item.at('unit').text(),
      credential: item.at('credential').text(),
      delivery: item.at('delivery').oneOf(deliveries),
      recipe: parseRecipe(item.at('recipe')),
      ...(item.at('placement').optional((placement) => ({ placement: parsePlacement(placement) })) ?? {}),
      ...(item.at('declared').optional((declared) => ({ declared: parseDeclared(declared) })) ?? {}),
    }));

const parseDeclared = (item: Json): Declared => ({
  secret: item.at('secret').text(),
  digest: item.at('digest').text(),
});

const parsePlacement = (item: Json): Placement => ({
  owner: item.at('owner').text(),
  group: item.at('group').text(),
  mode: item.at('mode').whole(0, 0o777),
  link: item.at('link').optional((link) => link.text()),
  neededFor: item.at('neededFor').oneOf(needs),
});

/** The part of the snapshot that only the next `provision` reads. */
type Kept = Omit<Snapshot, keyof Releases>;

const encodeRecord = ({ sealing, history, fingerprints, fingerprintLabel }: Kept, host: Scope): Uint8Array =>
  authenticated(
    {
      kind: 'record',
      ...sealingJson(sealing),
      history: Object.fromEntries(history),
      fingerprints: Object.fromEntries(fingerprints),
      ...(fingerprintLabel === 'fingerprint' ? {} : { fingerprintLabel }),
    },
    host,
  );

function parseRecord(bytes: Uint8Array, host: Scope): Kept {
  const json = verified(bytes, host);
  json.at('kind').oneOf(['record']);
  return {
    sealing: parseSealing(json),
    history: new Map(
      json
        .at('history')
        .entries()
        .map(([name, entries]) => [name, entries.list().map(parseEntry)]),
    ),
    fingerprints: new Map(
      json
        .at('fingerprints')
        .entries()
        .map(([release, fingerprint]) => [release, fingerprint.text()]),
    ),
    fingerprintLabel: json.at('fingerprintLabel').optional((label) => label.oneOf(['release'])) ?? 'fingerprint',
  };
}

function parseEntry(item: Json): HistoryEntry {
  const until = item.at('until').optional((text) => text.text());
  return {
    since: item.at('since').text(),
    ...(until === undefined ? {} : { until }),
    recipe: parseRecipe(item.at('recipe')),
  };
}

/** Reads the bytes of the active broker's file; undefined before the first provision. */
export const readReleases = (paths: Paths): Uint8Array | undefined =>
  readIfPresent(join(paths.snapshot, snapshotFiles.releases));

/**
 * Reads the active snapshot; undefined before the first provision.
 * @throws Failure `malformed` unless this machine's own `provision` wrote it
 */
export function readSnapshot(paths: Paths, host: Scope): Snapshot | undefined {
  const releases = readReleases(paths);
  const record = readIfPresent(join(paths.snapshot, snapshotFiles.record));
  if (!releases || !record) return undefined;
  return { ...parseReleases(releases, host), ...parseRecord(record, host) };
}

/**
 * Reads the inputs of the active snapshot; undefined if they are unknown, or a file of the snapshot is missing or
 * damaged.
 */
export function readSettled(paths: Paths, host: Scope): Settled | undefined {
  const files = Object.values(snapshotFiles).map((name) => readIfPresent(join(paths.snapshot, name)));
  const settled = readIfPresent(join(paths.snapshot, snapshotFiles.settled));
  if (!settled || !files.every((bytes) => bytes && isAuthentic(bytes, host))) return undefined;
  const json = verified(settled, host);
  json.at('kind').oneOf(['settled']);
  const time = (key: string): number => json.at(key).whole(0, Number.MAX_SAFE_INTEGER);
  const fixed = Object.fromEntries(
    json
      .at('fixed')
      .entries()
      .map(([name, digest]) => [name, digest.text()]),
  );
  if (!Object.values(fixed).every((file) => readFixedFile(paths, { file }) !== undefined)) return undefined;
  return { inputs: json.at('inputs').text(), fixed, from: time('from'), until: time('until') };
}

const encodeSettled = (settled: Settled, host: Scope): Uint8Array =>
  authenticated({ kind: 'settled', ...settled }, host);

/**
 * Reads a fixed file of the active snapshot; undefined if the snapshot lacks it, or it was altered.
 */
export function readFixedFile(paths: Paths, { file }: Pick<Fixed, 'file'>): Uint8Array | undefined {
  const bytes = readIfPresent(join(paths.snapshot, fixedFolder, file));
  return bytes && createHash('sha256').update(bytes).digest('hex') === file ? bytes : undefined;
}

/** The sources of the active releases' values. `scopes` are the seeds that the snapshot was made with. */
export function activeSources(paths: Paths, scopes: readonly Scope[]): Sources {
  const seedOf = seedsOf(scopes);
  return { seedOf, fixedValue: fixedValues(seedOf, (recipe) => readFixedFile(paths, recipe)) };
}

/** The fixed secrets of a snapshot, by the SHA-256 of their files. */
const fixedIn = ({ releases }: Releases): ReadonlyMap<string, Fixed> =>
  new Map(
    releases
      .flatMap(({ recipe }) => ingredients(recipe))
      .filter((source) => source.form === 'fixed')
      .map((source) => [source.file, source]),
  );

/**
 * Whether `snapshot` is active already. Compares without encoding, because most runs have nothing to do.
 * @param before - the active snapshot
 */
export function isActiveSnapshot(paths: Paths, before: Snapshot | undefined, snapshot: Snapshot): boolean {
  return (
    before !== undefined &&
    sameSnapshot(before, snapshot) &&
    [...fixedIn(snapshot).values()].every((recipe) => readFixedFile(paths, recipe) !== undefined)
  );
}

/** A snapshot that is to become active. */
export interface Installation {
  /** The active snapshot. */
  readonly before: Snapshot | undefined;
  readonly snapshot: Snapshot;
  /** Its inputs; undefined if the run postponed part of what the manifest asks for. */
  readonly settled?: Settled | undefined;
  readonly host: Scope;
  /** The group id of the broker. */
  readonly group?: number | undefined;
  /** Finds the file of a fixed secret. */
  readonly fileOf: (recipe: Fixed) => Uint8Array;
}

/**
 * Makes a snapshot active: writes a new generation folder, then swaps one symlink. A crash leaves the old or the new
 * snapshot.
 * @returns false if the same snapshot is active already
 */
export function installSnapshot(paths: Paths, installation: Installation): boolean {
  const { before, snapshot, settled, host } = installation;
  removeStrayGenerations(paths);
  if (isActiveSnapshot(paths, before, snapshot)) {
    if (settled) replaceSettled(paths, settled, host);
    return false;
  }
  const next = String(1 + activeGeneration(paths));
  const folder = join(paths.generations, next);
  try {
    writeGeneration(paths, folder, installation);
    replaceLink(paths.snapshot, join(basename(paths.generations), next));
  } catch (error) {
    // Leave a full disk as it was.
    rmSync(folder, { recursive: true, force: true });
    throw error;
  }
  syncFolder(paths.store);
  removeStrayGenerations(paths);
  return true;
}

function writeGeneration(paths: Paths, folder: string, { snapshot, settled, host, group, fileOf }: Installation): void {
  const access: Access = { mode: 0o750, group };
  const fixed = fixedIn(snapshot);
  for (const path of [paths.store, paths.generations, folder]) ensureFolder(path, access);
  writeNew(join(folder, snapshotFiles.releases), encodeReleases(snapshot, host), { mode: 0o640, group });
  writeNew(join(folder, snapshotFiles.record), encodeRecord(snapshot, host), { mode: 0o600 });
  if (settled) writeNew(join(folder, snapshotFiles.settled), encodeSettled(settled, host), { mode: 0o600 });
  if (fixed.size > 0) {
    ensureFolder(join(folder, fixedFolder), access);
    for (const [digest, recipe] of fixed)
      writeNew(join(folder, fixedFolder, digest), fileOf(recipe), { mode: 0o640, group });
    syncFolder(join(folder, fixedFolder));
  }
  syncFolder(folder);
  syncFolder(paths.generations);
}

/**
 * Updates the recorded inputs: others may give the same snapshot, such as another comment in the manifest, or resealed
 * seeds.
 */
function replaceSettled(paths: Paths, settled: Settled, host: Scope): void {
  replaceIfChanged(join(paths.snapshot, snapshotFiles.settled), encodeSettled(settled, host), { mode: 0o600 });
}

function sameSnapshot(a: Snapshot, b: Snapshot): boolean {
  const sameMap = (one: ReadonlyMap<string, unknown>, other: ReadonlyMap<string, unknown>): boolean =>
    one.size === other.size && [...one].every(([key, value]) => sameJson(value, other.get(key)));
  return (
    a.counter === b.counter &&
    a.tpmCounter === b.tpmCounter &&
    sameJson(a.sealing, b.sealing) &&
    sameJson(a.releases, b.releases) &&
    sameMap(a.history, b.history) &&
    sameMap(a.fingerprints, b.fingerprints) &&
    a.fingerprintLabel === b.fingerprintLabel
  );
}

/** The number of the active generation; 0 if there is none. */
const activeGeneration = (paths: Paths): number => Number(basename(linkTarget(paths.snapshot) ?? '0'));

/**
 * Removes all generations but the active one and the one before, which a broker may be reading. So it removes the
 * leftovers of killed runs.
 */
export function removeStrayGenerations(paths: Paths): void {
  const current = activeGeneration(paths);
  removeLeftovers(paths.snapshot);
  for (const name of namesIn(paths.generations)) {
    if (Number(name) !== current && Number(name) !== current - 1)
      rmSync(join(paths.generations, name), { recursive: true });
  }
}
