/**
 * The operator's vault: a folder with the fleet seed (`seed.age`), what the operator knows of hosts, groups and other
 * vaults (`vault.toml`), secrets that somebody chose (`fixed`), and optionally the hosts' manifests.
 */

import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { parse as parseToml, TomlError } from 'smol-toml';
import { scopeNamePattern } from '../derive/realm.ts';
import { type ScopeKind, scopeParts, scopeSeed } from '../derive/tree.ts';
import { Failure } from '../failure.ts';
import { nearest } from '../nearest.ts';
import { type RemoteKeySource, recipientPattern, remoteKeySources } from '../seeds/payload.ts';
import { type Scope, scopeName } from '../seeds/scope.ts';
import { readIfPresent } from '../system/files.ts';
import { Json } from '../system/json.ts';
import { parsePcrs, pcrAdvice } from '../tpm2/pcr.ts';
import { commandOf, fromHome, type OtherVaultSettings, readOtherVaults } from './settings.ts';

export interface VaultHost {
  readonly name: string;
  /** Counts from 1; a new one gives the host new secrets. */
  readonly epoch: number;
  readonly groups: readonly string[];
  /** Folders with its manifest, the strongest first. */
  readonly manifest: readonly string[];
  /** How ssh reaches it: `root@web1.example.org`. */
  readonly target: string;
  /** What its seeds are sealed to. */
  readonly withKey: RemoteKeySource;
  /** Whether that was said: a host that is sealed already otherwise stays sealed as it is. */
  readonly withKeyIsChosen: boolean;
  /** PCRs that have to be as they were when it was enrolled, ascending; empty for none. */
  readonly pcrs: readonly number[];
  /** Age recipients that can open its seeds without it, those of all hosts among them. */
  readonly recipients: readonly string[];
}

export interface Vault {
  readonly folder: string;
  readonly hosts: ReadonlyMap<string, VaultHost>;
  /** Epochs of groups that are not in their first. */
  readonly groupEpochs: ReadonlyMap<string, number>;
  /** Files with keys that open the fleet seed. */
  readonly identities: readonly string[];
  /** Other vaults, by name. */
  readonly others: ReadonlyMap<string, OtherVaultSettings>;
  /** The ssh program and its options. */
  readonly ssh: readonly string[];
  /** Whether changes of the fixed folder are committed where the vault is a git repository. */
  readonly git: boolean;
}

export const vaultFiles = (
  folder: string,
): {
  readonly seed: string;
  readonly settings: string;
  readonly fixed: string;
  readonly fetched: string;
  readonly enrolled: string;
  readonly sealed: string;
} => ({
  seed: join(folder, 'seed.age'),
  settings: join(folder, 'vault.toml'),
  fixed: join(folder, 'fixed'),
  fetched: join(folder, 'fetched.json'),
  enrolled: join(folder, 'enrolled'),
  sealed: join(folder, 'sealed'),
});

/**
 * The folder that was asked for, else AUXCRED_VAULT, else `auxcred` in the user's data folder (XDG Base Directory
 * Specification).
 */
export function vaultFolder(asked: string | undefined, environment: NodeJS.ProcessEnv): string {
  return resolve(
    asked ??
      environment['AUXCRED_VAULT'] ??
      join(environment['XDG_DATA_HOME'] ?? join(homedir(), '.local/share'), 'auxcred'),
  );
}

const hint = 'docs/guide.md lists its keys';

/**
 * The vaults that a machine without an operator fetches from: `[vault.NAME]` of this file.
 * @throws Failure `malformed`
 */
export function readMachineVaults(file: string): ReadonlyMap<string, OtherVaultSettings> {
  const bytes = readIfPresent(file);
  if (!bytes) return new Map();
  const top = parsed(file, bytes);
  allow(top, ['vault'], file);
  return readOtherVaults(top, file, dirname(file));
}

/** @throws Failure `not-found` if there is no vault, `malformed` for a vault.toml that is not one */
export function readVault(folder: string): Vault {
  const { settings } = vaultFiles(folder);
  const bytes = readIfPresent(settings);
  if (!bytes)
    throw new Failure('not-found', `there is no vault at ${folder}: ${settings} is missing`, {
      hint: 'auxcred init makes one; --vault=DIR or AUXCRED_VAULT names another',
    });
  return vaultOf(folder, bytes);
}

/** The vault that a vault.toml of these bytes would make. @throws Failure `malformed` */
export function vaultOf(folder: string, bytes: Uint8Array): Vault {
  const { settings } = vaultFiles(folder);
  const top = parsed(settings, bytes);
  allow(top, ['host', 'group', 'identity', 'vault', 'git', 'recipients', 'ssh'], settings);
  const everywhere = recipientsOf(top);
  const hosts = tables(top, 'host').map(([name, entry]): VaultHost => {
    allow(entry, ['epoch', 'groups', 'manifest', 'with-key', 'tpm2-pcrs', 'recipients', 'target'], settings);
    const withKey = entry.at('with-key').optional((item) => item.oneOf(remoteKeySources)) ?? 'host';
    return {
      name: checkedName(settings, name),
      epoch: epochOf(entry),
      groups: textsOf(entry, 'groups').map((group) => checkedName(settings, group)),
      manifest: (
        entry.at('manifest').optional((item) => item.list().map((path) => path.text())) ?? [join('hosts', name), 'all']
      ).map((path) => resolve(folder, path)),
      target: entry.at('target').optional(targetIn) ?? `root@${name}`,
      withKey,
      withKeyIsChosen: entry.at('with-key').optional(() => true) ?? false,
      pcrs: entry.at('tpm2-pcrs').optional((item) => pcrsIn(item, withKey)) ?? [],
      recipients: [...new Set([...everywhere, ...recipientsOf(entry)])],
    };
  });
  const groupEpochs = tables(top, 'group').map(([name, entry]): [string, number] => {
    allow(entry, ['epoch'], settings);
    return [checkedName(settings, name), epochOf(entry)];
  });
  return {
    folder,
    others: readOtherVaults(top, settings, folder),
    ssh: top.at('ssh').optional(commandOf) ?? ['ssh', '-T', '-o', 'BatchMode=yes', '-o', 'ConnectTimeout=20'],
    git: top.at('git').optional((item) => item.flag()) ?? true,
    hosts: new Map(hosts.map((host) => [host.name, host])),
    groupEpochs: new Map(groupEpochs),
    identities: textsOf(top, 'identity').map((path) => resolve(folder, fromHome(path))),
  };
}

function parsed(file: string, bytes: Uint8Array): Json {
  try {
    return Json.of(parseToml(new TextDecoder().decode(bytes)), file, hint);
  } catch (error) {
    if (error instanceof TomlError)
      throw new Failure('malformed', `${file}:${String(error.line)}: it is not TOML`, { hint });
    throw error;
  }
}

function allow(table: Json, keys: readonly string[], file: string): void {
  for (const [key] of table.entries())
    if (!keys.includes(key))
      throw new Failure('malformed', `${file} has no key ${key} there`, {
        hint: nearest(key, keys) ?? `it has ${keys.join(', ')}`,
      });
}

const tables = (top: Json, key: string): [string, Json][] => top.at(key).optional((item) => item.entries()) ?? [];
const textsOf = (table: Json, key: string): string[] =>
  table.at(key).optional((item) => item.list().map((entry) => entry.text())) ?? [];
const epochOf = (table: Json): number => table.at('epoch').optional((item) => item.whole(1, 0xffffffff)) ?? 1;

/** Nothing that ssh would take for an option. @throws Failure `malformed` */
function targetIn(item: Json): string {
  if (!targetPattern.test(item.text())) throw item.unexpected('a destination of ssh');
  return item.text();
}

/** A destination of ssh: `web1`, `root@web1.example.org`, `ssh://root@web1:2222`. */
export const targetPattern = /^[A-Za-z0-9_[][A-Za-z0-9._@:%+/[\]-]*$/;

const recipientsOf = (table: Json): string[] =>
  table.at('recipients').optional((item) =>
    item.list().map((entry) => {
      if (!recipientPattern.test(entry.text())) throw entry.unexpected('an age recipient');
      return entry.text();
    }),
  ) ?? [];

/** @throws Failure `malformed` */
function pcrsIn(item: Json, withKey: RemoteKeySource): number[] {
  if (withKey === 'host') throw item.unexpected('of use without with-key = "tpm2" or "tpm2+host"');
  try {
    const pcrs = parsePcrs(item.text());
    pcrAdvice(pcrs);
    return pcrs;
  } catch (error) {
    if (error instanceof Failure && error.code === 'usage') throw item.unexpected(`possible: ${error.message}`);
    throw error;
  }
}

function checkedName(settings: string, name: string): string {
  if (!scopeNamePattern.test(name))
    throw new Failure('malformed', `${settings}: ${JSON.stringify(name)} is not a name`, {
      hint: 'lower-case letters, digits and . _ @ + -',
    });
  return name;
}

/** @throws Failure `not-found` for a host that the vault does not know: a misspelt one would get secrets of its own */
export function hostOf(vault: Vault, name: string): VaultHost {
  const host = vault.hosts.get(name);
  if (!host)
    throw new Failure('not-found', `the vault at ${vault.folder} knows no host ${name}`, {
      hint: `[host.${name}] in vault.toml makes it known`,
    });
  return host;
}

/** The epoch of `host/web1` or `group/db`. @throws Failure `not-found` for a scope that the vault does not know */
export function epochOfScope(vault: Vault, scope: string): number {
  const { kind, name } = scopeParts(scope);
  if (kind === 'host') return hostOf(vault, name).epoch;
  const known =
    vault.groupEpochs.get(name) ??
    ([...vault.hosts.values()].some(({ groups }) => groups.includes(name)) ? 1 : undefined);
  if (known === undefined)
    throw new Failure('not-found', `the vault at ${vault.folder} knows no group ${name}`, {
      hint: `a host with groups = ["${name}"], or [group.${name}], in vault.toml makes it known`,
    });
  return known;
}

/** A host's own scope and those of its groups, and nothing else. The caller wipes them (`wipeScopes`). */
export function scopesOf(vault: Vault, host: VaultHost, fleetSeed: Uint8Array): Scope[] {
  const scope = (kind: ScopeKind, name: string, epoch: number): Scope => ({
    kind,
    name,
    epoch,
    seed: scopeSeed(fleetSeed, kind, name, epoch),
  });
  return [
    scope('host', host.name, host.epoch),
    ...[...new Set(host.groups)].map((group) => scope('group', group, vault.groupEpochs.get(group) ?? 1)),
  ];
}

/** The epoch of each scope of a host, by its name. */
export function epochsOf(vault: Vault, host: VaultHost): Map<string, number> {
  return new Map([
    [scopeName({ kind: 'host', name: host.name }), host.epoch],
    ...host.groups.map((group): [string, number] => [
      scopeName({ kind: 'group', name: group }),
      vault.groupEpochs.get(group) ?? 1,
    ]),
  ]);
}
