/** Tells what a machine would lose if it got other seeds. */
import { sameBytes } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { readHeader } from '../fixed/file.ts';
import { FixedFolder } from '../fixed/folder.ts';
import type { FixedName } from '../fixed/name.ts';
import { establishedPins, type Pin, pinsOf } from '../seeds/pins.ts';
import { type Scope, scopeName } from '../seeds/scope.ts';
import type { Paths } from '../system/paths.ts';
import { verified } from './authenticated.ts';
import { readReleases } from './snapshot.ts';

/** The loss under other seeds. */
export interface Loss {
  /** Pinned scopes whose seed would change or disappear. */
  readonly scopes: readonly string[];
  /** Whether the pins are damaged, so that this machine's seeds are unknown. */
  readonly pinsAreDamaged: boolean;
  /** Whether the snapshot was made with another seed. */
  readonly snapshot: boolean;
  /** The number of fixed secrets that would not open any more. */
  readonly fixed: number;
}

/** The loss if `scopes` are sealed here; without scopes, everything that depends on a seed. Opens nothing. */
export function lossUnder(paths: Paths, scopes: readonly Scope[]): Loss {
  const established = establishedPins(paths);
  const pins = established === 'damaged' ? undefined : established?.scopes;
  const sealed = pinsOf(scopes, undefined).scopes;
  const stays = (name: string): boolean => isSame(pins?.get(name), sealed.get(name));
  return {
    scopes: [...(pins?.keys() ?? [])].filter((name) => !stays(name)),
    pinsAreDamaged: established === 'damaged',
    snapshot: isForeign(
      readReleases(paths),
      scopes.find(({ kind }) => kind === 'host'),
      stays,
    ),
    fixed: foreignFiles(paths, sealed, stays),
  };
}

/** Whether nothing is lost. */
export const isNoLoss = ({ scopes, pinsAreDamaged, snapshot, fixed }: Loss): boolean =>
  scopes.length === 0 && !pinsAreDamaged && !snapshot && fixed === 0;

/** The loss in words: `every secret of host/web1, what is active and 3 fixed secrets`. */
export function lossText({ scopes, pinsAreDamaged, snapshot, fixed }: Loss): string {
  const parts = [
    ...(scopes.length > 0
      ? [`every secret of ${scopes.join(' and ')}`]
      : pinsAreDamaged
        ? ['every secret of the scopes in the damaged scopes.json']
        : []),
    ...(snapshot ? ['what is active'] : []),
    ...(fixed > 0 ? [`${String(fixed)} fixed ${fixed === 1 ? 'secret' : 'secrets'}`] : []),
  ];
  return parts.length < 2 ? parts.join('') : `${parts.slice(0, -1).join(', ')} and ${parts.at(-1) ?? ''}`;
}

const isSame = (one: Pin | undefined, other: Pin | undefined): boolean =>
  one !== undefined && one.epoch === other?.epoch && sameBytes(one.keyId, other.keyId);

/** Whether the snapshot does not belong to this host's seed, and not because it was damaged before. */
function isForeign(
  releases: Uint8Array | undefined,
  host: Scope | undefined,
  stays: (name: string) => boolean,
): boolean {
  if (!releases || !host) return releases !== undefined;
  try {
    verified(releases, host);
    return false;
  } catch (error) {
    if (error instanceof Failure && error.code === 'malformed') return !stays(scopeName(host));
    throw error;
  }
}

/** How many files of the fixed folder none of the sealed scopes opens, beside those that did not open before either. */
function foreignFiles(paths: Paths, sealed: ReadonlyMap<string, Pin>, stays: (name: string) => boolean): number {
  const folder = new FixedFolder(paths.fixed);
  const isFor = (name: FixedName, pin: Pin): boolean => {
    try {
      return sameBytes(readHeader(name, folder.bytes(name)).keyId, pin.keyId);
    } catch (error) {
      if (error instanceof Failure) return false;
      throw error;
    }
  };
  return folder.list().names.filter((name) => {
    const pin = sealed.get(name.scope);
    return !stays(name.scope) && !(pin && isFor(name, pin));
  }).length;
}
