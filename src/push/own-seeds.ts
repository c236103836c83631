/** The seeds that a machine holds before an operator's take their place, and whether they may: what follows from a seed is lost with it. */
import { existsSync } from 'node:fs';
import { Failure } from '../failure.ts';
import { activeSnapshot } from '../provision/preparing.ts';
import { type Openers, type OpenStore, openSeeds } from '../seeds/open.ts';
import type { Payload } from '../seeds/payload.ts';
import { type Pins, pinsOf, samePins } from '../seeds/pins.ts';
import { type Scope, scopeName, wipeScopes } from '../seeds/scope.ts';
import { readIfPresent } from '../system/files.ts';
import type { Paths } from '../system/paths.ts';

/** What seeds.age holds, but for the seeds. */
export interface OwnStore extends Pick<Payload, 'sealing' | 'counter'>, Pick<OpenStore, 'srk'> {
  readonly pins: Pins['scopes'];
}

export interface OwnSeeds {
  /** What the machine expects; undefined if scopes.json is missing or damaged. */
  readonly pins: Pins | undefined;
  /** What is there, whatever the pins say; undefined if there is no seeds.age, or it does not open. */
  readonly store: OwnStore | undefined;
  /** Why seeds.age, which is there, does not open. */
  readonly closed: Failure | undefined;
}

/** Opens what is there, with or without pins, and wipes the seeds. Changes nothing. */
export async function ownSeeds(paths: Paths, openers: Openers, pins: Pins | undefined): Promise<OwnSeeds> {
  const file = readIfPresent(paths.seeds);
  if (!file) return { pins, store: undefined, closed: undefined };
  try {
    const {
      payload: { scopes, sealing, counter },
      srk,
    } = await openSeeds(file, { ...openers, device: openers.device ?? pins?.device });
    const store = { sealing, counter, srk, pins: pinsOf(scopes, undefined).scopes };
    wipeScopes(scopes);
    return { pins, store, closed: undefined };
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return { pins, store: undefined, closed: error };
  }
}

/** How the operator's seeds come. */
export interface Coming {
  /** Key ids (16 bytes) by scope that the operator knows as its own: those it means to replace. */
  readonly replaces: ReadonlyMap<string, Uint8Array>;
  /** Whether what the operator does not know is given up. */
  readonly replace: boolean;
  /** Whether an earlier push was begun here and not ended: its seeds may be there already. */
  readonly unfinished: boolean;
}

/**
 * A machine takes seeds of the host that it is, and gives up no seed that the operator can't derive.
 *
 * What it holds is what its pins say and what its seeds.age holds: either may be missing, damaged or from a backup.
 * @throws Failure `malformed` for seeds that are not one host's, `not-pinned` for another host's, whatever the options, `refused` for those of another vault
 */
export function checkSeeds(
  paths: Paths,
  scopes: readonly Scope[],
  own: OwnSeeds,
  { replaces, replace, unfinished }: Coming,
): void {
  const names = scopes.map(scopeName);
  const hosts = names.filter((name) => name.startsWith('host/'));
  if (hosts.length !== 1 || new Set(names).size !== names.length)
    throw new Failure('malformed', 'the seeds are not those of one host and its groups', {
      hint: 'auxcred of the same version on both machines',
    });
  const held = [...(own.pins?.scopes ?? []), ...(own.store?.pins ?? [])];
  const [other] = held.map(([name]) => name).filter((name) => name.startsWith('host/') && name !== hosts[0]);
  if (other !== undefined)
    throw new Failure('not-pinned', `this machine is ${other}, and takes no seeds of ${hosts.join()}`, {
      hint: 'is target in vault.toml right? auxcred status there says which machine it is',
    });
  if (replace) return;
  refuseUnknown(paths, scopes, own);
  const coming = pinsOf(scopes, undefined).scopes;
  for (const [name, { keyId }] of held) {
    const known = [
      coming.get(name)?.keyId,
      replaces.get(name),
      ...(unfinished ? [own.pins?.next?.get(name)?.keyId] : []),
    ];
    if (known.some((one) => one !== undefined && Buffer.compare(one, keyId) === 0)) continue;
    throw new Failure(
      'refused',
      `the seed of ${name} here is not one that the operator knows, and every secret that follows from it would be lost`,
      { hint: keepHint(own) },
    );
  }
}

const keepHint = ({ pins }: OwnSeeds): string =>
  `${pins ? '' : 'restore /etc/auxcred/scopes.json there; '}auxcred unseal --reveal there shows the seed as words for paper; push --replace gives it up`;

/** Without pins, what does not open may be anybody's. @throws Failure `refused` */
function refuseUnknown(paths: Paths, scopes: readonly Scope[], own: OwnSeeds): void {
  const { pins, store, closed } = own;
  if (pins || store) return;
  const hint =
    'restore /etc/auxcred/scopes.json and /var/lib/auxcred there; push --replace gives up what that seed has made';
  if (closed)
    throw new Failure(
      'refused',
      `scopes.json is missing or damaged and seeds.age does not open (${closed.message}), so nothing says whose seed would be lost`,
      { hint, cause: closed },
    );
  if (existsSync(paths.snapshot) && !activeSnapshot(paths, scopes))
    throw new Failure(
      'refused',
      'scopes.json and seeds.age are gone or damaged, and another seed than the one that comes made what is active here',
      { hint },
    );
}

/**
 * How the machine is sealed now and which seal it is, if the seeds in the file are certainly its own: anybody can encrypt a file to a public host key, with recipients of their own.
 * @throws Failure if it does not open, or is not known
 */
export function ownSealing({ pins, store, closed }: OwnSeeds, coming: readonly Scope[]): OwnStore {
  const hint =
    'with-key = "host" or "tpm2" for this host in vault.toml says what it is sealed to; then auxcred push --reseal';
  if (!store)
    throw new Failure(closed?.code ?? 'not-found', `seeds.age does not open: ${closed?.message ?? 'there is none'}`, {
      hint,
      cause: closed,
    });
  const expected = pins ? [pins.scopes, ...(pins.next ? [pins.next] : [])] : [pinsOf(coming, undefined).scopes];
  if (!expected.some((one) => samePins(one, store.pins)))
    throw new Failure('not-pinned', 'the seeds in seeds.age are not those that this machine expects', { hint });
  return store;
}
