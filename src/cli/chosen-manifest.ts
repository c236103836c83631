/** The manifest that a call is about: this machine's, or that of a host in the operator's vault. */
import { existsSync } from 'node:fs';
import type { Recipe } from '../derive/recipe.ts';
import type { Sources } from '../derive/value.ts';
import { Failure } from '../failure.ts';
import { FixedFiles, unopened } from '../fixed/fixed-files.ts';
import { FixedFolder } from '../fixed/folder.ts';
import { fixedValues } from '../fixed/value.ts';
import { openersOf } from '../machine/openers.ts';
import { filesIn, manifestFiles } from '../manifest/folder.ts';
import { type Manifest, manifestOf } from '../manifest/manifest.ts';
import type { Standpoint } from '../manifest/recipes.ts';
import { activeSnapshot } from '../provision/active-snapshot.ts';
import { activeRecipe, standpointOf } from '../provision/plan.ts';
import { openPinnedSeeds } from '../seeds/open.ts';
import { readPins } from '../seeds/pins.ts';
import { type Scope, scopeSeedsOf, seedsOf, wipeScopes } from '../seeds/scope.ts';
import { readFixedFile, type Snapshot } from '../snapshot/snapshot.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import { epochsOf, scopesOf, type Vault, type VaultHost, vaultFiles } from '../vault/vault.ts';
import { manifestSide, secretSide } from './chosen-side.ts';
import { chosenHost, chosenVault, withFleetSeed } from './chosen-vault.ts';
import type { Options } from './options.ts';
import { sound } from './sound-manifest.ts';

/** A manifest and its host's state, for verbs about declared secrets: `manifestSide` says whose. Needs no seed. */
export interface View {
  readonly manifest: Manifest;
  /** The present state. */
  readonly standpoint: Standpoint;
}

/** A view with open seeds, which are wiped afterwards; `secretSide` says whose. */
export interface OpenView extends View {
  readonly sources: Sources;
  /**
   * The active recipe of a secret on this machine, or the last one of a removed secret; undefined if it was never
   * active, and on the operator's side.
   */
  activeRecipe(name: string): Recipe | undefined;
  readonly snapshot: Snapshot | undefined;
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
    const { vault, host } = chosenHost(options);
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

/**
 * Reads a host's manifest, and gives the `work` to do for it once the fleet seed is open.
 * @throws Failure
 */
function workFor<T>(
  vault: Vault,
  host: VaultHost,
  options: Options,
  work: (view: OpenView) => T,
): (fleetSeed: Uint8Array) => T {
  const { manifest, standpoint } = operatorView(vault, host, options);
  return (fleetSeed) => {
    const scopes = scopesOf(vault, host, fleetSeed);
    try {
      const fixedFiles = new FixedFiles(new FixedFolder(vaultFiles(vault.folder).fixed), scopeSeedsOf(scopes));
      return work({
        manifest,
        standpoint: { ...standpoint, fixed: fixedFiles.find },
        sources: sourcesOf(scopes, fixedFiles),
        activeRecipe: () => undefined,
        snapshot: undefined,
      });
    } finally {
      wipeScopes(scopes);
    }
  };
}

/** Does `work` for each host of the vault, and opens the fleet seed once for all of them. @throws Failure */
export async function withEveryHost<T>(options: Options, work: (view: OpenView) => T): Promise<T[]> {
  const vault = chosenVault(options);
  const all = [...vault.hosts.values()].map((host) => workFor(vault, host, options, work));
  return await withFleetSeed(vault, options, (fleetSeed) => all.map((one) => one(fleetSeed)));
}

/**
 * Does `work` with the open seeds of the host that the options name, else of this machine, and wipes them.
 * @throws Failure as {@link viewOf}, or if the seeds do not open
 */
export async function withOpenView<T>(options: Options, work: (view: OpenView) => T): Promise<T> {
  if (secretSide(options) === 'vault') {
    const { vault, host } = chosenHost(options);
    return await withFleetSeed(vault, options, workFor(vault, host, options, work));
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
