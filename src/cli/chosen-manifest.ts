/** Whose secrets a command works on: this machine's or, on the operator's side, those of a host in the vault. */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { Identities } from '../age/identities.ts';
import type { Recipe } from '../derive/recipe.ts';
import type { Sources } from '../derive/value.ts';
import { Failure } from '../failure.ts';
import { FixedFiles, unopened } from '../fixed/fixed-files.ts';
import { FixedFolder } from '../fixed/folder.ts';
import { fixedValues } from '../fixed/value.ts';
import { openersOf } from '../machine/openers.ts';
import { filesIn, manifestFiles } from '../manifest/folder.ts';
import { type Manifest, manifestOf } from '../manifest/manifest.ts';
import { problemText } from '../manifest/problem-text.ts';
import type { Standpoint } from '../manifest/recipes.ts';
import { activeRecipe, standpointOf } from '../provision/plan.ts';
import { activeSnapshot } from '../provision/preparing.ts';
import { openPinnedSeeds } from '../seeds/open.ts';
import { readPins } from '../seeds/pins.ts';
import { type Scope, scopeSeedsOf, seedsOf, wipeScopes } from '../seeds/scope.ts';
import { readFixedFile, type Snapshot } from '../snapshot/snapshot.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import { askSecret } from '../terminal/prompt.ts';
import { say } from '../terminal/say.ts';
import {
  epochsOf,
  hostOf,
  readVault,
  scopesOf,
  type Vault,
  type VaultHost,
  vaultFiles,
  vaultFolder,
} from '../vault/vault.ts';
import { manifestSide, secretSide } from './chosen-side.ts';
import type { Options } from './options.ts';

/** What is known without a seed. */
export interface View {
  readonly manifest: Manifest;
  /** The present state. */
  readonly standpoint: Standpoint;
}

/** What is known with the seeds, which are wiped afterwards. */
export interface OpenView extends View {
  readonly sources: Sources;
  /**
   * The active recipe of a secret on this machine, or the last one of a removed secret; undefined if it was never
   * active, and on the operator's side.
   */
  activeRecipe(name: string): Recipe | undefined;
  readonly snapshot: Snapshot | undefined;
}

/** The host that `--host=` names. @throws Failure `usage` without the option, `not-found` for an unknown host */
function hostIn(vault: Vault, options: Options): VaultHost {
  const name = options.value('host');
  if (name === undefined)
    throw options.lacks(
      'a host whose secret is meant',
      `--host=${[...vault.hosts.keys()].join(', --host=') || 'HOST'}`,
    );
  return hostOf(vault, name);
}

/**
 * The manifest, if it has no errors.
 * @param check - the command that also prints its warnings
 * @throws Failure `invalid-manifest` after printing every error
 */
export function sound(manifest: Manifest, check = 'auxcred check'): Manifest {
  const errors = manifest.problems.filter(({ severity }) => severity === 'error');
  for (const { hint, ...problem } of errors) {
    say(problemText({ ...problem, hint: undefined }));
    if (hint !== undefined) say(`hint: ${hint}`);
  }
  if (errors.length > 0)
    throw new Failure('invalid-manifest', 'the manifest has errors', { hint: `${check} also prints its warnings` });
  return manifest;
}

/** The folders of `--manifest=`. @throws Failure `not-found` if one is missing: an empty manifest would be sound */
export function namedFolders(options: Options): readonly string[] {
  const folders = options.list('manifest');
  const missing = folders.find((folder) => !existsSync(folder));
  if (missing !== undefined)
    throw new Failure('not-found', `there is no folder ${missing}`, {
      hint: '--manifest=DIR is a folder with a manifest',
    });
  return folders;
}

/** A host's manifest from the vault, with its problems. @throws Failure `not-found` if there is none */
export function manifestFor(host: VaultHost, options: Options): Manifest {
  const named = namedFolders(options);
  const folders = named.length > 0 ? named : host.manifest;
  const manifest = manifestOf(filesIn(folders));
  if (manifest.files.length === 0)
    throw new Failure('not-found', `there is no manifest for ${host.name} in ${folders.join(' or ')}`, {
      hint: '--manifest=DIR, or manifest = ["DIR"] in vault.toml',
    });
  return manifest;
}

/** The vault, and the host in it that `--host=` names. @throws Failure */
export function vaultHost(options: Options): { readonly vault: Vault; readonly host: VaultHost } {
  const vault = readVault(vaultFolder(options.value('vault'), process.env));
  return { vault, host: hostIn(vault, options) };
}

function operatorView(vault: Vault, host: VaultHost, options: Options): View {
  const manifest = sound(manifestFor(host, options), `auxcred check --host=${host.name}`);
  return {
    manifest,
    standpoint: {
      host: `host/${host.name}`,
      epochs: epochsOf(vault, host),
      at: new Date(),
      fixed: unopened(new FixedFolder(vaultFiles(vault.folder).fixed)),
    },
  };
}

/**
 * What is known without a seed of the host that the options name, else of this machine.
 * @throws Failure, `invalid-manifest` if the manifest has errors
 */
export function viewOf(options: Options): View {
  if (manifestSide(options) === 'vault') {
    const { vault, host } = vaultHost(options);
    return operatorView(vault, host, options);
  }
  const root = options.value('root') ?? '/';
  const paths = pathsUnder(root);
  const folders = namedFolders(options);
  const manifest = sound(manifestOf(folders.length > 0 ? filesIn(folders) : manifestFiles(root)));
  const pins = [...(readPins(paths)?.scopes ?? [])];
  return {
    manifest,
    standpoint: {
      host: pins.find(([name]) => name.startsWith('host/'))?.[0] ?? 'host',
      epochs: new Map(pins.map(([name, { epoch }]) => [name, epoch])),
      at: new Date(),
      fixed: unopened(new FixedFolder(paths.fixed)),
    },
  };
}

/** Does `work` for some hosts of the vault, and opens the fleet seed once for all of them. @throws Failure */
export async function withHostViews<T>(
  vault: Vault,
  hosts: readonly VaultHost[],
  options: Options,
  work: (view: OpenView) => T,
): Promise<T[]> {
  const views = hosts.map((host) => ({ host, view: operatorView(vault, host, options) }));
  return await withFleetSeed(vault, options, (fleetSeed) =>
    views.map(({ host, view }) => {
      const scopes = scopesOf(vault, host, fleetSeed);
      try {
        const fixedFiles = new FixedFiles(new FixedFolder(vaultFiles(vault.folder).fixed), scopeSeedsOf(scopes));
        return work({
          manifest: view.manifest,
          standpoint: { ...view.standpoint, fixed: fixedFiles.find },
          sources: sourcesOf(scopes, fixedFiles),
          activeRecipe: () => undefined,
          snapshot: undefined,
        });
      } finally {
        wipeScopes(scopes);
      }
    }),
  );
}

/**
 * Does `work` with the open seeds of the host that the options name, else of this machine, and wipes them.
 * @throws Failure as {@link viewOf}, or if the seeds do not open
 */
export async function withOpenView<T>(options: Options, work: (view: OpenView) => T): Promise<T> {
  if (secretSide(options) === 'vault') {
    const { vault, host } = vaultHost(options);
    let result: { readonly value: T } | undefined;
    await withHostViews(vault, [host], options, (view) => {
      result = { value: work(view) };
    });
    if (result === undefined) throw new TypeError('one host has one view');
    return result.value;
  }
  const { manifest } = viewOf(options);
  const paths = pathsUnder(options.value('root') ?? '/');
  const { payload } = await openPinnedSeeds(paths, openersOf(paths, options.value('tpm2-device')));
  try {
    const snapshot = activeSnapshot(paths, payload.scopes);
    const fixedFiles = new FixedFiles(new FixedFolder(paths.fixed), scopeSeedsOf(payload.scopes));
    return work({
      manifest,
      standpoint: standpointOf(payload.scopes, new Date(), fixedFiles.find),
      sources: sourcesOf(payload.scopes, fixedFiles, paths),
      activeRecipe: (name) => activeRecipe(snapshot?.history, name),
      snapshot,
    });
  } finally {
    wipeScopes(payload.scopes);
  }
}

/** What is active on a machine may exist only in its snapshot. */
function sourcesOf(scopes: readonly Scope[], fixedFiles: FixedFiles, paths?: Paths): Sources {
  const seedOf = seedsOf(scopes);
  return {
    seedOf,
    fixedValue: fixedValues(seedOf, (recipe) => fixedFiles.bytes(recipe) ?? (paths && readFixedFile(paths, recipe))),
  };
}

/** Opens the fleet seed for `work` and wipes it afterwards. @throws Failure */
export async function withFleetSeed<T>(
  vault: Vault,
  options: Options,
  work: (fleetSeed: Uint8Array) => T | Promise<T>,
): Promise<T> {
  // Loaded only here, so that commands on a machine need not wait for the age library.
  const { openFleetSeed } = await import('../vault/fleet-seed.ts');
  const fleetSeed = await openFleetSeed(vaultFiles(vault.folder).seed, fleetKeys(vault, options));
  try {
    return await work(fleetSeed);
  } finally {
    fleetSeed.fill(0);
  }
}

/** The identities from the options, else the vault's, else the user's own. */
export function fleetKeys(vault: Vault, options: Options): Identities {
  const named = [
    ...options.list('identity'),
    ...(process.env['AUXCRED_IDENTITY'] === undefined ? [] : [process.env['AUXCRED_IDENTITY']]),
  ];
  const own = [
    join(process.env['XDG_CONFIG_HOME'] ?? join(homedir(), '.config'), 'age/keys.txt'),
    join(homedir(), '.ssh/id_ed25519'),
  ];
  return {
    identities: named.length > 0 ? named : vault.identities.length > 0 ? vault.identities : own,
    passphrase: () =>
      Promise.resolve(
        new TextDecoder().decode(
          askSecret('passphrase of the fleet seed', '--identity=FILE opens a fleet seed that is encrypted to a key'),
        ),
      ),
    hint: '--identity=FILE, AUXCRED_IDENTITY, or identity = ["FILE"] in vault.toml',
  };
}
