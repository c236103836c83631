/**
 * The provisioned snapshot: which unit gets which secret, as `provision` put it in force. The broker answers from it and from
 * nothing else, so an edited manifest or a half-copied file changes no answer.
 *
 * `generations/N/releases.json`: a line with the HMAC-SHA256 of all that follows, in hexadecimal, then canonical JSON.
 * The HMAC key comes from the machine's own scope seed, so that whoever can write /var can't hand one unit's secret to another.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { readdirSync, readlinkSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { concat, utf8 } from '../derive/framing.ts';
import { characterClasses, type KindOptions, kindNames } from '../derive/kind.ts';
import type { Recipe } from '../derive/secret.ts';
import { stateKey } from '../derive/tree.ts';
import { Failure } from '../failure.ts';
import { deliveries, type Delivery } from '../manifest/declaration.ts';
import { type Access, ensureFolder, readIfPresent, syncFolder, writeNew } from '../system/files.ts';
import { canonicalJson, Json } from '../system/json.ts';
import type { Paths } from '../system/paths.ts';
import { scopeName, type Scope } from './scope.ts';

/** One credential of one unit. */
export interface Release {
  /** As declared: a service, or a template for all its instances. */
  readonly unit: string;
  readonly credential: string;
  readonly delivery: Delivery;
  /** `host/web1`. */
  readonly scope: string;
  readonly recipe: Recipe;
}

const fileName = 'releases.json';
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

/** The snapshot's bytes. Equal releases give equal bytes. */
export function encodeSnapshot(releases: readonly Release[], host: Scope): Uint8Array {
  const body = utf8(canonicalJson({ version: 1, host: scopeName(host), releases }));
  return concat(utf8(`${Buffer.from(mac(host, body)).toString('hex')}\n`), body);
}

/** @throws Failure `malformed` where the bytes were not written by this machine's own provision. */
export function parseSnapshot(bytes: Uint8Array, host: Scope): Release[] {
  const body = bytes.subarray(macLength + 1);
  const claimed = Buffer.from(new TextDecoder().decode(bytes.subarray(0, macLength)), 'hex');
  if (claimed.length !== macLength / 2 || !timingSafeEqual(claimed, mac(host, body))) {
    throw new Failure('malformed', 'the provisioned snapshot was not made with this machine\'s seed', { hint });
  }
  const json = Json.parse(body, 'the provisioned snapshot', hint);
  json.at('version').whole(1, 1);
  return json.at('releases').list().map(parseRelease);
}

function parseRelease(item: Json): Release {
  const recipe = item.at('recipe');
  return {
    unit: item.at('unit').text(),
    credential: item.at('credential').text(),
    delivery: item.at('delivery').oneOf(deliveries),
    scope: item.at('scope').text(),
    recipe: {
      name: recipe.at('name').text(),
      options: parseOptions(recipe.at('options')),
      period: recipe.at('period').text(),
      generation: recipe.at('generation').whole(1, 0xffffffff),
    },
  };
}

function parseOptions(item: Json): KindOptions {
  const size = (key: string): number => item.at(key).whole(1, 0xffffffff);
  const kind = item.at('kind').oneOf(kindNames);
  switch (kind) {
    case 'password':
      return { kind, length: size('length'), alphabet: item.at('alphabet').text(), require: item.at('require').list().map((name) => name.oneOf(characterClasses)) };
    case 'hex':
    case 'base64':
    case 'bytes':
      return { kind, bytes: size('bytes') };
    case 'uuid':
      return { kind };
  }
}

/** The snapshot in force, or undefined before the first provision. */
export function readSnapshot(paths: Paths): Uint8Array | undefined {
  return readIfPresent(join(paths.snapshot, fileName));
}

/**
 * Puts `snapshot` in force: a new generation folder, then one symlink swap. A crash leaves the old one or the new one.
 * @returns false where the same bytes are in force already.
 */
export function installSnapshot(paths: Paths, snapshot: Uint8Array, group: number | undefined): boolean {
  const current = readSnapshot(paths);
  if (current && Buffer.compare(current, snapshot) === 0) return false;
  const folderAccess: Access = { mode: 0o750, group };
  ensureFolder(paths.store, folderAccess);
  ensureFolder(paths.generations, folderAccess);
  const number = 1 + Math.max(0, ...readdirSync(paths.generations).map(Number).filter(Number.isInteger));
  const folder = join(paths.generations, String(number));
  ensureFolder(folder, folderAccess);
  writeNew(join(folder, fileName), snapshot, { mode: 0o640, group });
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
