/**
 * The provisioned snapshot: which unit gets which secret, as `provision` put it in force. The broker answers from it and from
 * nothing else, so an edited manifest or a half-copied file changes no answer.
 *
 * `generations/N/releases.json` is what the broker reads, with the files of fixed secrets that it names by their SHA-256 in
 * `generations/N/fixed`, `generations/N/record.json` what the next `provision` has to know. Each of the two is a
 * line with the HMAC-SHA256 of all that follows, in hexadecimal, then canonical JSON. The HMAC key comes from the machine's own
 * scope seed, so that whoever can write /var can't hand one unit's secret to another.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { readdirSync, readlinkSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { concat, utf8 } from '../derive/framing.ts';
import { type Fixed, ingredients, type Recipe } from '../derive/recipe.ts';
import { stateKey } from '../derive/tree.ts';
import { Failure } from '../failure.ts';
import { deliveries, type Delivery, needs, type Placement } from '../manifest/declaration.ts';
import { type Access, ensureFolder, readIfPresent, syncFolder, writeNew } from '../system/files.ts';
import { canonicalJson, Json } from '../system/json.ts';
import type { Paths } from '../system/paths.ts';
import { parseRecipe } from './recipe-json.ts';
import { scopeName, type Scope } from './scope.ts';

/** One credential of one unit. */
export interface Release {
  /** As declared: a service, or a template for all its instances; `anyUnit` for a credential that whoever imports it may have. */
  readonly unit: string;
  readonly credential: string;
  readonly delivery: Delivery;
  readonly recipe: Recipe;
  /** Of `delivery = "file"` alone. */
  readonly placement?: Placement;
}

/** A secret that was put in force, and when. */
export interface HistoryEntry {
  /** UTC, to the second, as `2026-11-23T00:00:07Z`. */
  readonly since: string;
  readonly recipe: Recipe;
}

/** By secret, the oldest entry first; the last is the one in force. */
export type History = ReadonlyMap<string, readonly HistoryEntry[]>;

export interface Snapshot {
  /** That of the seeds.age it was made with: an older one is not believed after it. */
  readonly counter: number;
  readonly releases: readonly Release[];
  readonly history: History;
}

const version = 4;
const releasesFile = 'releases.json';
const recordFile = 'record.json';
const fixedFolder = 'fixed';
const macLength = 64;
const hint = 'run auxcred provision';

/** The scope whose seed authenticates the snapshot: the machine's own. @throws Failure `malformed` where there is none. */
export function hostScope(scopes: readonly Scope[]): Scope {
  const host = scopes.find((scope) => scope.kind === 'host');
  if (!host) throw new Failure('malformed', 'the store holds no seed of this host', { hint: 'run auxcred seal' });
  return host;
}

function mac(host: Scope, body: Uint8Array): Uint8Array {
  const key = stateKey(host.seed);
  const digest = createHmac('sha256', key).update(body).digest();
  key.fill(0);
  return digest;
}

/** `content` as canonical JSON, after a line with its MAC. */
export function authenticated(content: Readonly<Record<string, unknown>>, host: Scope): Uint8Array {
  const body = utf8(canonicalJson({ version, host: scopeName(host), ...content }));
  return concat(utf8(`${Buffer.from(mac(host, body)).toString('hex')}\n`), body);
}

/** What {@link authenticated} says it holds, whoever made it. @throws Failure `malformed` */
export const unverified = (bytes: Uint8Array): Json => Json.parse(bytes.subarray(macLength + 1), 'what was provisioned', hint);

/** Reads {@link authenticated} back. @throws Failure `malformed` where another seed made it */
export function verified(bytes: Uint8Array, host: Scope): Json {
  const body = bytes.subarray(macLength + 1);
  const claimed = Buffer.from(new TextDecoder().decode(bytes.subarray(0, macLength)), 'hex');
  if (claimed.length !== macLength / 2 || !timingSafeEqual(claimed, mac(host, body))) {
    throw new Failure('malformed', 'the provisioned snapshot was not made with this machine\'s seed', { hint });
  }
  const json = Json.parse(body, 'the provisioned snapshot', hint);
  json.at('version').whole(version, version);
  return json;
}

/** What the broker answers from. */
export type Releases = Pick<Snapshot, 'counter' | 'releases'>;

/** The broker's file. Equal releases give equal bytes. */
export const encodeReleases = ({ counter, releases }: Releases, host: Scope): Uint8Array => authenticated({ kind: 'releases', counter, releases }, host);

/** @throws Failure `malformed` where the bytes were not written by this machine's own provision. */
export function parseReleases(bytes: Uint8Array, host: Scope): Releases {
  const json = verified(bytes, host);
  json.at('kind').oneOf(['releases']);
  return { counter: json.at('counter').whole(0, 0xffffffff), releases: json.at('releases').list().map((item) => ({
    unit: item.at('unit').text(),
    credential: item.at('credential').text(),
    delivery: item.at('delivery').oneOf(deliveries),
    recipe: parseRecipe(item.at('recipe')),
    ...(item.at('placement').optional((placement) => ({ placement: parsePlacement(placement) })) ?? {}),
  })) };
}

const parsePlacement = (item: Json): Placement => ({
  owner: item.at('owner').text(), group: item.at('group').text(), mode: item.at('mode').whole(0, 0o777), link: item.at('link').optional((link) => link.text()), neededFor: item.at('neededFor').oneOf(needs),
});

const encodeRecord = (history: History, host: Scope): Uint8Array => authenticated({ kind: 'record', history: Object.fromEntries(history) }, host);

function parseRecord(bytes: Uint8Array, host: Scope): History {
  const json = verified(bytes, host);
  json.at('kind').oneOf(['record']);
  return new Map(json.at('history').entries().map(([name, entries]) => [name, entries.list().map((entry) => ({ since: entry.at('since').text(), recipe: parseRecipe(entry.at('recipe')) }))]));
}

/** The bytes of the broker's file in force, or undefined before the first provision. */
export const readReleases = (paths: Paths): Uint8Array | undefined => readIfPresent(join(paths.snapshot, releasesFile));

/**
 * The snapshot in force, or undefined before the first provision.
 * @throws Failure `malformed` where it was not written by this machine's own provision
 */
export function readSnapshot(paths: Paths, host: Scope): Snapshot | undefined {
  const releases = readReleases(paths);
  const record = readIfPresent(join(paths.snapshot, recordFile));
  if (!releases || !record) return undefined;
  return { ...parseReleases(releases, host), history: parseRecord(record, host) };
}

/** The file of a fixed secret, as it was put in force; undefined where the snapshot in force has it not. */
export const readFixedFile = (paths: Paths, { file }: Fixed): Uint8Array | undefined => readIfPresent(join(paths.snapshot, fixedFolder, file));

/**
 * Puts `snapshot` in force: a new generation folder, then one symlink swap. A crash leaves the old one or the new one.
 * @param fileOf - finds the file of a fixed secret
 * @returns false where the same bytes are in force already.
 */
export function installSnapshot(paths: Paths, { counter, releases, history }: Snapshot, host: Scope, group: number | undefined, fileOf: (recipe: Fixed) => Uint8Array): boolean {
  const files = { [releasesFile]: encodeReleases({ counter, releases }, host), [recordFile]: encodeRecord(history, host) };
  const fixed = new Map(releases.flatMap(({ recipe }) => ingredients(recipe)).filter((source) => source.form === 'fixed').map((source) => [source.file, source]));
  const isInForce = Object.entries(files).every(([name, bytes]) => Buffer.compare(readIfPresent(join(paths.snapshot, name)) ?? new Uint8Array(0), bytes) === 0);
  if (isInForce && [...fixed.values()].every((recipe) => readFixedFile(paths, recipe) !== undefined)) return false;
  const folderAccess: Access = { mode: 0o750, group };
  ensureFolder(paths.store, folderAccess);
  ensureFolder(paths.generations, folderAccess);
  const number = 1 + Math.max(0, ...readdirSync(paths.generations).map(Number).filter(Number.isInteger));
  const folder = join(paths.generations, String(number));
  ensureFolder(folder, folderAccess);
  writeNew(join(folder, releasesFile), files[releasesFile], { mode: 0o640, group });
  writeNew(join(folder, recordFile), files[recordFile], { mode: 0o600 });
  if (fixed.size > 0) ensureFolder(join(folder, fixedFolder), folderAccess);
  for (const [digest, recipe] of fixed) {
    writeNew(join(folder, fixedFolder, digest), fileOf(recipe), { mode: 0o640, group });
  }
  if (fixed.size > 0) syncFolder(join(folder, fixedFolder));
  syncFolder(folder);
  syncFolder(paths.generations);
  const link = `${paths.snapshot}.new`;
  rmSync(link, { force: true });
  symlinkSync(join(basename(paths.generations), String(number)), link);
  renameSync(link, paths.snapshot);
  syncFolder(paths.store);
  removeOldGenerations(paths);
  return true;
}

/** Keeps the generation in force and the one before it, which a broker may be reading at this moment. */
function removeOldGenerations(paths: Paths): void {
  const current = Number(basename(readlinkSync(paths.snapshot)));
  for (const name of readdirSync(paths.generations)) {
    if (Number(name) < current - 1) rmSync(join(paths.generations, name), { recursive: true });
  }
}
