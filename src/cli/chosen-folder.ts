/** Which fixed folder a command works on: the operator's vault's if there is one, else this machine's own. */
import { hex } from '../bytes.ts';
import { keyId, scopeParts, scopeSeed } from '../derive/tree.ts';
import { Failure } from '../failure.ts';
import { FixedFolder, type FolderKeys } from '../fixed/folder.ts';
import { checkedPath, type FixedName, nameText, splitName } from '../fixed/name.ts';
import { openersOf } from '../machine/openers.ts';
import { openPinnedSeeds } from '../seeds/open.ts';
import { readPins } from '../seeds/pins.ts';
import { scopeSeedsOf, wipeScopes } from '../seeds/scope.ts';
import { refuseForeign } from '../system/held-folder.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import { isTerminal } from '../system/terminals.ts';
import { askYes } from '../terminal/prompt.ts';
import { epochOfScope, type Vault, vaultFiles } from '../vault/vault.ts';
import { folderSide, type Side } from './chosen-side.ts';
import { chosenVault, withFleetSeed } from './chosen-vault.ts';
import type { Options } from './options.ts';

/** A fixed folder with its surroundings, for verbs about fixed secrets: `folderSide` says whose it is. */
export interface Place {
  readonly folder: FixedFolder;
  /** Where `auxcred fetch` records what it has seen of other vaults. */
  readonly fetched: string;
  /** The operator's vault; undefined on a machine. */
  readonly vault: Vault | undefined;
  readonly paths: Paths;
  /** The scope of names that are given without one; undefined if a scope has to be given. */
  readonly scope: string | undefined;
}

/** A place whose seeds are open. */
export interface OpenPlace extends Place, FolderKeys {}

/** The fixed folder that the options name. @param side - whose, if it is known otherwise @throws Failure */
export function placeOf(options: Options, side: Side = folderSide(options)): Place {
  const paths = pathsUnder(options.value('root') ?? '/');
  const [host, group] = [options.value('host'), options.value('group')];
  if (host !== undefined && group !== undefined)
    throw new Failure('usage', "a secret is a host's or a group's, not both");
  const named = group === undefined ? (host === undefined ? undefined : `host/${host}`) : `group/${group}`;
  if (side === 'vault') {
    const vault = chosenVault(options);
    if (named !== undefined) epochOfScope(vault, named);
    const { fixed, fetched } = vaultFiles(vault.folder);
    return { folder: new FixedFolder(fixed), fetched, vault, paths, scope: named };
  }
  const scopes = [...(readPins(paths)?.scopes.keys() ?? [])];
  if (scopes.length === 0)
    throw new Failure('not-found', 'there is no vault and no sealed seed here', {
      hint: "auxcred init creates a vault; auxcred seal creates this machine's own seed",
    });
  refuseForeign(paths.root, [paths.fixed]);
  return {
    folder: new FixedFolder(paths.fixed),
    fetched: paths.fetched,
    vault: undefined,
    paths,
    scope: named ?? scopes.find((scope) => scope.startsWith('host/')),
  };
}

/** The secret that an operand names. @throws Failure `usage` */
export function nameIn({ scope, vault }: Place, text: string): FixedName {
  const full = splitName(text);
  if (full) {
    checkedPath(full.path);
    return full;
  }
  if (scope !== undefined) return { scope, path: checkedPath(text) };
  const example = vault?.hosts.keys().next().value ?? 'web1';
  throw new Failure('usage', `${JSON.stringify(text)} does not say whose secret it is`, {
    hint: `host/${example}/${text}, or group/NAME/${text}; --host= and --group= say it once`,
  });
}

/** The scope and path that `ls` and the like are limited to, or everything. @throws Failure `usage` */
export function belowIn(
  place: Place,
  text: string | undefined,
): { readonly scope: string | undefined; readonly path: string } {
  const asked = text?.replace(/\/+$/, '');
  if (asked === undefined || asked === '') return { scope: place.scope, path: '' };
  const [kind, name, ...rest] = asked.split('/');
  if ((kind === 'host' || kind === 'group') && rest.length === 0)
    return { scope: name === undefined ? kind : `${kind}/${name}`, path: '' };
  return nameIn(place, asked);
}

/** Opens the seeds for `work` and wipes them afterwards. @throws Failure */
export async function withSeeds<T>(place: Place, options: Options, work: (place: OpenPlace) => T): Promise<T> {
  const { vault } = place;
  if (!vault) {
    const { payload } = await openPinnedSeeds(place.paths, openersOf(place.paths, options.value('tpm2-device')));
    try {
      return work({ ...place, seedOf: scopeSeedsOf(payload.scopes), former: () => undefined });
    } finally {
      wipeScopes(payload.scopes);
    }
  }
  return await withFleetSeed(vault, options, (fleetSeed) => {
    const known = new Map<string, { seed: Uint8Array; epoch: number }>();
    const formerEpochs = new Map<string, Map<string, number>>();
    const derive = (scope: string, epoch: number): { seed: Uint8Array; epoch: number } => {
      const { kind, name } = scopeParts(scope);
      return { seed: scopeSeed(fleetSeed, kind, name, epoch), epoch };
    };
    try {
      return work({
        ...place,
        seedOf: (scope) => {
          const found = known.get(scope) ?? derive(scope, epochOfScope(vault, scope));
          known.set(scope, found);
          return found;
        },
        former: (scope, id) => {
          const epochs = formerEpochs.get(scope) ?? new Map(formerIds(scope, epochOfScope(vault, scope), derive));
          formerEpochs.set(scope, epochs);
          const epoch = epochs.get(hex(id));
          return epoch === undefined ? undefined : derive(scope, epoch);
        },
      });
    } finally {
      for (const { seed } of known.values()) seed.fill(0);
    }
  });
}

/** How many earlier epochs are tried for a file that does not open. */
const mostFormer = 1000;

/** The epoch of each key id (hexadecimal) that a scope had before. */
function formerIds(
  scope: string,
  epoch: number,
  derive: (scope: string, epoch: number) => { readonly seed: Uint8Array },
): [string, number][] {
  return Array.from({ length: Math.min(mostFormer, epoch - 1) }, (_, i) => {
    const { seed } = derive(scope, epoch - 1 - i);
    const id = hex(keyId(seed));
    seed.fill(0);
    return [id, epoch - 1 - i];
  });
}

/**
 * Makes sure that a secret may be written: at a terminal it asks before one that exists is replaced.
 * @returns whether the secret is new
 * @throws Failure `refused`
 */
export function mayWrite({ folder }: Place, name: FixedName, options: Options): boolean {
  if (!folder.has(name)) return true;
  if (options.flag('force')) return false;
  const refusal = new Failure('refused', `${nameText(name)} already exists, so nothing was changed`, {
    hint: '--force replaces it',
  });
  if (!isTerminal(0)) throw refusal;
  if (!askYes(`${nameText(name)} exists; replace it?`, '--force replaces it')) throw refusal;
  return false;
}
