/**
 * The operator's vault: a folder with the fleet seed (`seed.age`), the settings of hosts, groups and other vaults
 * (`vault.toml`), the fixed folder (`fixed`), and optionally the hosts' manifests.
 */

import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { scopeNamePattern } from '../derive/realm.ts';
import { type ScopeKind, scopeParts, scopeSeed } from '../derive/tree.ts';
import { Failure } from '../failure.ts';
import type { WantedSealing } from '../seeds/enrollment.ts';
import { absolutePathIn, type RemoteKeySource, recipientPattern, remoteKeySources } from '../seeds/payload.ts';
import { type Scope, scopeName } from '../seeds/scope.ts';
import { readIfPresent } from '../system/files.ts';
import type { Json } from '../system/json.ts';
import { allowKeys } from '../system/known-keys.ts';
import { tomlIn } from '../system/toml.ts';
import { parsePcrs, pcrAdvice } from '../tpm2/pcr.ts';
import { readSigningKey } from '../tpm2/signing-key.ts';
import { commandOf, fromHome, type OtherVaultSettings, readOtherVaults } from './settings.ts';

/** A host of the vault. */
export interface VaultHost {
  readonly name: string;
  /** Counts from 1. A new epoch gives the host new secrets. */
  readonly epoch: number;
  readonly groups: readonly string[];
  /** The folders of its manifest, the strongest first. */
  readonly manifest: readonly string[];
  /** Its destination for ssh: `root@web1.example.org`. */
  readonly target: string;
  /** The key that its seeds are sealed to. */
  readonly withKey: RemoteKeySource;
  /** Whether vault.toml names the key. Otherwise, a host that is sealed already stays sealed as it is. */
  readonly withKeyIsChosen: boolean;
  /** PCRs that must have the values from its enrollment, ascending; may be empty. */
  readonly pcrs: readonly number[];
  /** The key that signs PCR values of its images; undefined without one. */
  readonly publicKey: { readonly file: string; readonly pcrs: readonly number[] } | undefined;
  /** The path of pcrlock.json there, if its prediction is to open the seeds. */
  readonly pcrlock: string | undefined;
  /** Whether nobody can open its seeds again until the next boot once its broker has them. */
  readonly locksAfterUnseal: boolean;
  /** Age recipients that can open its seeds without it, including those for all hosts. */
  readonly recipients: readonly string[];
  /** Whether vault.toml names recipients, even none. Otherwise, a host that is sealed already keeps its own. */
  readonly recipientsAreChosen: boolean;
  /** The file that says what an attested host may have booted. */
  readonly attestation: string;
  /** Whether a push sends it nothing unless it is attested. */
  readonly requireAttestation: boolean;
}

/** The content of vault.toml. */
export interface Vault {
  readonly folder: string;
  readonly hosts: ReadonlyMap<string, VaultHost>;
  /** The epochs of groups that are past their first. */
  readonly groupEpochs: ReadonlyMap<string, number>;
  /** The files with keys that open the fleet seed. */
  readonly identities: readonly string[];
  /** Other vaults, by name. */
  readonly others: ReadonlyMap<string, OtherVaultSettings>;
  /** The ssh program and its options. */
  readonly ssh: readonly string[];
  /** Whether to commit changes of the fixed folder, if the vault is a git repository. */
  readonly git: boolean;
}

/** The files of a vault, by its folder. */
export const vaultFiles = (
  folder: string,
): {
  readonly seed: string;
  readonly settings: string;
  readonly fixed: string;
  readonly fetched: string;
  readonly enrolled: string;
  readonly sealed: string;
  readonly attestation: string;
  readonly ekIssuers: string;
  readonly challenges: string;
} => ({
  seed: join(folder, 'seed.age'),
  settings: join(folder, 'vault.toml'),
  fixed: join(folder, 'fixed'),
  fetched: join(folder, 'fetched.json'),
  enrolled: join(folder, 'enrolled'),
  sealed: join(folder, 'sealed'),
  attestation: join(folder, 'attestation.toml'),
  ekIssuers: join(folder, 'ek-ca'),
  challenges: join(folder, 'challenges'),
});

/**
 * The vault's folder: `asked`, else AUXCRED_VAULT, else `auxcred` in the user's data folder (XDG Base Directory
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
 * Reads the vaults that a machine without an operator fetches from: `[vault.NAME]` of this file.
 * @throws Failure `malformed`
 */
export function readMachineVaults(file: string): ReadonlyMap<string, OtherVaultSettings> {
  const bytes = readIfPresent(file);
  if (!bytes) return new Map();
  const top = tomlIn(bytes, file, hint);
  allowKeys(top, ['vault'], file);
  return readOtherVaults(top, file, dirname(file));
}

/** Reads a vault. @throws Failure `not-found` if there is none, `malformed` for an invalid vault.toml */
export function readVault(folder: string): Vault {
  const { settings } = vaultFiles(folder);
  const bytes = readIfPresent(settings);
  if (!bytes)
    throw new Failure('not-found', `there is no vault at ${folder}: ${settings} is missing`, {
      hint: 'auxcred init makes one; --vault=DIR or AUXCRED_VAULT names another',
    });
  return vaultOf(folder, bytes);
}

/** Parses the bytes of a vault.toml. @throws Failure `malformed` */
export function vaultOf(folder: string, bytes: Uint8Array): Vault {
  const { settings } = vaultFiles(folder);
  const top = tomlIn(bytes, settings, hint);
  allowKeys(top, ['host', 'group', 'vault', ...topKeys], settings);
  const everywhere = recipientsOf(top);
  const policyFile = (table: Json): string | undefined =>
    table.at('attestation').optional((item) => resolve(folder, fromHome(item.text())));
  const isRequired = (table: Json): boolean | undefined =>
    table.at('require-attestation').optional((item) => item.flag());
  const hosts = tables(top, 'host').map(([name, entry]): VaultHost => {
    allowKeys(entry, hostKeys, settings, topKeys);
    const withKey = entry.at('with-key').optional((item) => item.oneOf(remoteKeySources)) ?? 'host';
    const own = recipientsOf(entry);
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
      publicKey: entry.at('tpm2-public-key').optional((item) => ({
        file: resolve(folder, fromHome(withTpm(item, withKey).text())),
        pcrs: entry.at('tpm2-public-key-pcrs').optional(signedPcrsIn) ?? [11],
      })),
      pcrlock: entry.at('tpm2-pcrlock').optional((item) => absolutePathIn(withTpm(item, withKey))),
      locksAfterUnseal: entry.at('lock-after-unseal').optional((item) => withTpm(item, withKey).flag()) ?? false,
      recipients: [...new Set([...(everywhere ?? []), ...(own ?? [])])],
      recipientsAreChosen: (own ?? everywhere) !== undefined,
      attestation: policyFile(entry) ?? policyFile(top) ?? vaultFiles(folder).attestation,
      requireAttestation: isRequired(entry) ?? isRequired(top) ?? false,
    };
  });
  const groupEpochs = tables(top, 'group').map(([name, entry]): [string, number] => {
    allowKeys(entry, ['epoch'], settings, topKeys);
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

const tables = (top: Json, key: string): [string, Json][] => top.at(key).optional((item) => item.entries()) ?? [];
const textsOf = (table: Json, key: string): string[] =>
  table.at(key).optional((item) => item.list().map((entry) => entry.text())) ?? [];
const epochOf = (table: Json): number => table.at('epoch').optional((item) => item.whole(1, 0xffffffff)) ?? 1;

/** Refuses anything that ssh would take for an option. @throws Failure `malformed` */
function targetIn(item: Json): string {
  if (!targetPattern.test(item.text())) throw item.unexpected('a destination of ssh');
  return item.text();
}

/** A destination of ssh: `web1`, `root@web1.example.org`, `ssh://root@web1:2222`. */
export const targetPattern = /^[A-Za-z0-9_[][A-Za-z0-9._@:%+/[\]-]*$/;

const recipientsOf = (table: Json): string[] | undefined =>
  table.at('recipients').optional((item) =>
    item.list().map((entry) => {
      if (!recipientPattern.test(entry.text())) throw entry.unexpected('an age recipient');
      return entry.text();
    }),
  );

const topKeys = ['identity', 'git', 'recipients', 'ssh', 'attestation', 'require-attestation'];
const hostKeys = [
  ...['epoch', 'groups', 'manifest', 'with-key', 'tpm2-pcrs', 'recipients', 'target'],
  ...['tpm2-public-key', 'tpm2-public-key-pcrs', 'tpm2-pcrlock', 'lock-after-unseal'],
  ...['attestation', 'require-attestation'],
];

/** How a host's seeds are to be sealed. Reads its public key. @throws Failure `not-found`, `malformed` */
export function wantedSealing(host: VaultHost): WantedSealing {
  const { withKey, pcrs, publicKey, pcrlock, locksAfterUnseal, recipients } = host;
  const signed = publicKey && {
    publicKey: readSigningKey(publicKey.file).spki,
    pcrs: publicKey.pcrs,
    signature: undefined,
  };
  return { withKey, pcrs, signed, pcrlock, locksAfterUnseal, recipients };
}

/** Refuses what is of no use with a host key. @throws Failure `malformed` */
function withTpm(item: Json, withKey: RemoteKeySource): Json {
  if (withKey === 'host') throw item.unexpected('of use without with-key = "tpm2" or "tpm2+host"');
  return item;
}

function signedPcrsIn(item: Json): number[] {
  const pcrs = parsePcrsIn(item);
  if (pcrs.length === 0) throw item.unexpected('a list of PCRs');
  return pcrs;
}

/** @throws Failure `malformed` */
function pcrsIn(item: Json, withKey: RemoteKeySource): number[] {
  const pcrs = parsePcrsIn(withTpm(item, withKey));
  return asMalformed(item, () => {
    pcrAdvice(pcrs);
    return pcrs;
  });
}

const parsePcrsIn = (item: Json): number[] => asMalformed(item, () => parsePcrs(item.text()));

/** Runs `work`, and says of a wrong PCR where it is. @throws Failure `malformed` */
function asMalformed<T>(item: Json, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof Failure && error.code === 'usage') throw item.unexpected(`possible: ${error.message}`);
    throw error;
  }
}

const nameHint = 'lower-case letters, digits and . _ @ + -';

function checkedName(settings: string, name: string): string {
  if (!scopeNamePattern.test(name))
    throw new Failure('malformed', `${settings}: ${JSON.stringify(name)} is not a name`, {
      hint: nameHint,
    });
  return name;
}

/** The heading of a table in vault.toml, as it is typed: `[host.web1]`, `[host."web1.example.org"]`. */
export const tableHeading = (kind: ScopeKind, name: string): string =>
  `[${kind}.${/^[\w-]+$/.test(name) ? name : JSON.stringify(name)}]`;

const madeKnown = (name: string, where: string): string =>
  scopeNamePattern.test(name) ? `${where} in vault.toml makes it known` : nameHint;

/** A host of the vault. @throws Failure `not-found` for an unknown host: a misspelt name would get its own secrets */
export function hostOf(vault: Vault, name: string): VaultHost {
  const host = vault.hosts.get(name);
  if (!host)
    throw new Failure('not-found', `the vault at ${vault.folder} knows no host ${name}`, {
      hint: madeKnown(name, tableHeading('host', name)),
    });
  return host;
}

/** The epoch of a scope such as `host/web1` or `group/db`. @throws Failure `not-found` for an unknown scope */
export function epochOfScope(vault: Vault, scope: string): number {
  const { kind, name } = scopeParts(scope);
  if (kind === 'host') return hostOf(vault, name).epoch;
  const known =
    vault.groupEpochs.get(name) ??
    ([...vault.hosts.values()].some(({ groups }) => groups.includes(name)) ? 1 : undefined);
  if (known === undefined)
    throw new Failure('not-found', `the vault at ${vault.folder} knows no group ${name}`, {
      hint: madeKnown(name, `groups = ["${name}"] of a host, or ${tableHeading('group', name)},`),
    });
  return known;
}

/** Derives a host's own scope and those of its groups. The caller wipes them (`wipeScopes`). */
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
