/** What the vault has for a host, and which of it the host lacks. */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { utf8 } from '../bytes.ts';
import { keyId } from '../derive/tree.ts';
import { Failure } from '../failure.ts';
import { digestOf, readHeader } from '../fixed/file.ts';
import { FixedFolder } from '../fixed/folder.ts';
import { type FixedName, nameText } from '../fixed/name.ts';
import { filesIn } from '../manifest/folder.ts';
import { type Pin, pinsOf } from '../seeds/pins.ts';
import { type Scope, scopeName } from '../seeds/scope.ts';
import { unmergedIn, unmergedText } from '../vault/git.ts';
import { sealCommand } from '../vault/over-ssh.ts';
import { type Vault, type VaultHost, vaultFiles } from '../vault/vault.ts';
import { isManifestName, type Offer } from './protocol.ts';
import { listed, refuseConflict, refuseOlderFile, refuseOwn } from './refusals.ts';

/** A file of the vault. */
export interface Supply {
  /** Its path. */
  readonly source: string;
  readonly bytes: Uint8Array;
  /** SHA-256, in hexadecimal. */
  readonly digest: string;
}

export interface FixedSupply extends Supply {
  readonly name: FixedName;
  readonly sequence: number;
}

/** Everything that a host should have. */
export interface Supplies {
  readonly scopes: readonly Scope[];
  /** By name: `host/web1/wifi`. */
  readonly fixed: ReadonlyMap<string, FixedSupply>;
  /** By file name; undefined if the manifest is not sent. */
  readonly manifest: ReadonlyMap<string, Supply> | undefined;
}

/**
 * A host's fixed files, those of its groups, and its manifest.
 * @throws Failure `malformed` for a fixed file of an earlier epoch, `refused` for one in which a merge left a conflict,
 * `usage` for a manifest file whose name can't be sent
 */
export function suppliesOf(vault: Vault, host: VaultHost, scopes: readonly Scope[], withManifest: boolean): Supplies {
  refuseUnmerged(vault, scopes);
  const folder = new FixedFolder(vaultFiles(vault.folder).fixed);
  const fixed = scopes.flatMap((scope) => {
    const id = keyId(scope.seed);
    return folder.list(scopeName(scope)).names.map((name): [string, FixedSupply] => {
      const bytes = folder.bytes(name);
      const { keyId: actual, sequence } = readHeader(name, bytes);
      if (Buffer.compare(actual, id) !== 0)
        throw new Failure(
          'malformed',
          `${nameText(name)} is not encrypted for epoch ${String(scope.epoch)} of ${name.scope}`,
          { hint: `auxcred rekey ${name.scope}` },
        );
      return [nameText(name), { name, source: folder.fileOf(name), bytes, digest: digestOf(bytes), sequence }];
    });
  });
  return { scopes, fixed: new Map(fixed), manifest: withManifest ? manifestSupplies(host) : undefined };
}

/** Git leaves one of the two files there, which would settle the conflict on the host. @throws Failure `refused` */
function refuseUnmerged({ folder }: Vault, scopes: readonly Scope[]): void {
  const conflicts = unmergedIn(folder, ...scopes.map((scope) => `fixed/${scopeName(scope)}`));
  if (conflicts.length > 0)
    throw new Failure('refused', unmergedText(conflicts), {
      hint: `in ${folder}: git checkout --ours FILE, or --theirs, then git add FILE; git status says how to go on`,
    });
}

/** The effective files of the host's folders; a file hides those of the same name in folders of lower precedence. */
function manifestSupplies({ name: host, manifest }: VaultHost): Map<string, Supply> {
  return new Map(
    filesIn(manifest).map(({ path, text }) => {
      const name = basename(path);
      if (!isManifestName(name))
        throw new Failure('usage', `${path} can't be sent to ${host}`, {
          hint: 'letters, digits and . _ @ + - in the name of a manifest file',
        });
      if (text === undefined)
        throw new Failure('system', `${path} can't be read`, { hint: 'a manifest file has to be a regular file' });
      const bytes = text === '' ? utf8('') : new Uint8Array(readFileSync(path));
      return [name, { source: path, bytes, digest: digestOf(bytes) }];
    }),
  );
}

/** What sending the manifest would do: `brings a.toml`, `removes b.toml`. Nothing if the vault's can't be read. */
export function unsentManifest(host: VaultHost, { manifest }: Offer): string[] {
  try {
    const supplies = manifestSupplies(host);
    const [brought, removed] = [changed(supplies, manifest), gone(supplies, manifest)];
    return [
      ...(brought.length > 0 ? [`brings ${listed(brought)}`] : []),
      ...(removed.length > 0 ? [`removes ${listed(removed)}`] : []),
    ];
  } catch (error) {
    if (error instanceof Failure) return [];
    throw error;
  }
}

/** What a host lacks. */
export interface Difference {
  /** Whether its seeds have to be sealed. */
  readonly seeds: boolean;
  /** Key ids of this vault's own earlier seeds, by scope. */
  readonly replaces: ReadonlyMap<string, Uint8Array>;
  readonly fixed: readonly string[];
  readonly removeFixed: readonly string[];
  readonly manifest: readonly string[];
  readonly removeManifest: readonly string[];
}

/** Whether the host lacks nothing. */
export const isNothing = ({ seeds, fixed, removeFixed, manifest, removeManifest }: Difference): boolean =>
  !seeds && fixed.length + removeFixed.length + manifest.length + removeManifest.length === 0;

export interface DifferenceOptions {
  readonly replace: boolean;
  readonly acceptOlder: boolean;
  readonly reseal: boolean;
  /** The key id of a scope in an epoch, as derived by this vault. */
  readonly keyIdIn: (scope: string, epoch: number) => Uint8Array;
}

/**
 * Compares what a host offers with what it should have.
 * @throws Failure `not-pinned` for a host that is sealed under another name, `refused` for one with seeds of another
 * vault or files of its own, `older` for an epoch or a file that is older than the host's
 */
export function differenceOf(
  vaultHost: VaultHost,
  offer: Offer,
  supplies: Supplies,
  options: DifferenceOptions,
): Difference {
  refuseOtherHost(vaultHost, offer);
  const { name: host } = vaultHost;
  const { scopes, fixed, manifest } = supplies;
  const wanted = pinsOf(scopes, undefined).scopes;
  const difference = {
    seeds: options.reseal || !isSealedTo(wanted, offer),
    replaces: replacedBy(wanted, host, offer, options),
    fixed: changed(fixed, offer.fixed),
    removeFixed: gone(fixed, offer.fixed),
    manifest: manifest ? changed(manifest, offer.manifest) : [],
    removeManifest: manifest ? gone(manifest, offer.manifest) : [],
  };
  const removed = new Set(difference.removeFixed);
  const kept = [...offer.fixed.keys()].filter((name) => !removed.has(name) && !fixed.has(name));
  refuseConflict(host, kept, [...fixed.keys()]);
  if (!options.replace)
    refuseOwn(host, [...byHand(difference.fixed, offer.fixed), ...byHand(difference.manifest, offer.manifest)]);
  if (!options.acceptOlder)
    for (const name of difference.fixed)
      refuseOlderFile(name, offer.fixed.get(name)?.sequence ?? 0, fixed.get(name)?.sequence ?? 0);
  return difference;
}

/** @throws Failure `not-pinned` for a host that is sealed under another name */
function refuseOtherHost(vaultHost: VaultHost, { pins }: Offer): void {
  const { name: host } = vaultHost;
  const sealedAs = [...pins.keys()].find((name) => name.startsWith('host/'));
  if (sealedAs === undefined || sealedAs === `host/${host}`) return;
  throw new Failure('not-pinned', `${host} is sealed as ${sealedAs}`, {
    hint:
      `push to ${sealedAs.slice('host/'.length)}, or fix target in vault.toml; if it was renamed: ` +
      `${sealCommand(vaultHost, '--replace')}, then push again`,
  });
}

type WantedPins = ReadonlyMap<string, Pin>;

const isSamePin = (one: Pin | undefined, other: Pin): boolean =>
  one?.epoch === other.epoch && hasKeyId(one, other.keyId);

/** Whether the host has the seeds of these scopes and epochs, and no others. */
const isSealedTo = (wanted: WantedPins, { pins }: Offer): boolean =>
  pins.size === wanted.size && [...wanted].every(([name, pin]) => isSamePin(pins.get(name), pin));

/**
 * The key ids of seeds that the host has and should not have any more, by scope.
 * @throws Failure `refused` or `older`, as {@link refuseForeign}, unless `replace` gives them up
 */
function replacedBy(
  wanted: WantedPins,
  host: string,
  { pins }: Offer,
  { replace, keyIdIn }: DifferenceOptions,
): Map<string, Uint8Array> {
  const replaced = [...pins].filter(([name, pin]) => !isSamePin(wanted.get(name), pin));
  if (!replace)
    for (const [name, pin] of replaced) refuseForeign(host, name, pin, wanted.get(name), keyIdIn(name, pin.epoch));
  return new Map(replaced.map(([name, { keyId: id }]) => [name, id]));
}

/** Files that were changed since a push brought them. */
const byHand = (names: readonly string[], there: Offer['manifest']): string[] =>
  names.filter((name) => there.get(name)?.pushed === false);

const hasKeyId = (pin: Pin, id: Uint8Array): boolean => Buffer.compare(pin.keyId, id) === 0;

type Digests = ReadonlyMap<string, { readonly digest: string }>;
/** Names of files that are missing there or differ. */
const changed = (here: Digests, there: Digests): string[] =>
  [...here].filter(([name, { digest }]) => there.get(name)?.digest !== digest).map(([name]) => name);
/** Names of files that a push brought there and that are not here. */
const gone = (here: Digests, there: Offer['manifest']): string[] =>
  [...there].filter(([name, { pushed }]) => pushed && !here.has(name)).map(([name]) => name);

/** A seed that is not an earlier one of this vault belongs to somebody else: what is derived from it would be lost. */
function refuseForeign(host: string, name: string, pin: Pin, wanted: Pin | undefined, own: Uint8Array): void {
  if (!hasKeyId(pin, own))
    throw new Failure(
      'refused',
      `${host} has a seed for ${name} that is not from this vault, and replacing it changes every secret derived ` +
        'from it',
      {
        hint:
          'check that the vault and the machine are right; auxcred unseal --reveal there shows its seed as words ' +
          'for paper; push --replace gives it up',
      },
    );
  if (wanted && wanted.epoch < pin.epoch)
    throw new Failure(
      'older',
      `${host} has ${name} in epoch ${String(pin.epoch)}, and the vault is in ${String(wanted.epoch)}`,
      { hint: 'check that vault.toml is the newest one; --replace goes back' },
    );
}
