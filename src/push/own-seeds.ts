/**
 * The seeds that a machine has before an operator's replace them, and whether they may be replaced: what is derived
 * from a seed is lost with it.
 */
import { existsSync } from 'node:fs';
import { Failure } from '../failure.ts';
import { activeSnapshot } from '../provision/active-snapshot.ts';
import { type OpenedSeeds, type Openers, openSeeds } from '../seeds/open.ts';
import type { Payload } from '../seeds/payload.ts';
import { type Pins, pinsOf, samePins } from '../seeds/pins.ts';
import { type Scope, scopeName, wipeScopes } from '../seeds/scope.ts';
import { readIfPresent } from '../system/files.ts';
import type { Paths } from '../system/paths.ts';

/** The payload of seeds.age without the seeds. */
export interface OwnStore extends Pick<Payload, 'sealing' | 'counter'>, Pick<OpenedSeeds, 'srk'> {
  readonly pins: Pins['scopes'];
}

export interface OwnSeeds {
  /** The pins; undefined if scopes.json is missing or damaged. */
  readonly pins: Pins | undefined;
  /** The payload, whatever the pins say; undefined if there is no seeds.age, or it does not open. */
  readonly store: OwnStore | undefined;
  /** Why an existing seeds.age does not open. */
  readonly closed: Failure | undefined;
}

/** Opens the present seeds, with or without pins, and wipes them. Changes nothing. */
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

/** The terms of the operator's request. */
export interface Coming {
  /** Key ids (16 bytes) by scope of the operator's own seeds that it intends to replace. */
  readonly replaces: ReadonlyMap<string, Uint8Array>;
  /** Whether seeds that the operator does not know are given up. */
  readonly replace: boolean;
  /** Whether an earlier push was interrupted: its seeds may already be here. */
  readonly unfinished: boolean;
}

/**
 * A machine accepts only seeds of its own host, and gives up no seed that the operator can't derive.
 *
 * Its seeds are known from its pins and from its seeds.age: either may be missing, damaged or from a backup.
 * @throws Failure `malformed` for seeds that are not of one host, `not-pinned` for another host's, whatever the
 * options, `refused` for those of another vault
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
      hint: 'both machines need the same version of auxcred',
    });
  const held = [...(own.pins?.scopes ?? []), ...(own.store?.pins ?? [])];
  const [other] = held.map(([name]) => name).filter((name) => name.startsWith('host/') && name !== hosts[0]);
  if (other !== undefined)
    throw new Failure('not-pinned', `this machine is ${other}, and does not accept seeds of ${hosts.join()}`, {
      hint: 'check target in vault.toml; auxcred status there says which machine it is',
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
      `the seed of ${name} here is unknown to the operator, and every secret derived from it would be lost`,
      { hint: keepHint(own) },
    );
  }
}

const keepHint = ({ pins }: OwnSeeds): string =>
  (pins ? '' : 'restore /etc/auxcred/scopes.json there (auxcred doctor there says how); ') +
  'auxcred unseal --reveal there shows the seed as words for paper; push --replace gives it up';

/** Without pins, seeds that do not open may be anybody's. @throws Failure `refused` */
function refuseUnknown(paths: Paths, scopes: readonly Scope[], own: OwnSeeds): void {
  const { pins, store, closed } = own;
  if (pins || store) return;
  const hint =
    'restore /etc/auxcred/scopes.json and /var/lib/auxcred there; push --replace gives up everything derived from ' +
    'that seed';
  if (closed)
    throw new Failure(
      'refused',
      `scopes.json is missing or damaged and seeds.age does not open (${closed.message}), so it is not known ` +
        'whose seed would be lost',
      { hint, cause: closed },
    );
  if (existsSync(paths.snapshot) && !activeSnapshot(paths, scopes))
    throw new Failure(
      'refused',
      'scopes.json and seeds.age are gone or damaged, and what is active here comes from another seed than the ' +
        'pushed one',
      { hint },
    );
}

/**
 * The machine's present sealing, and which seal it is, provided that the seeds in the file are certainly its own:
 * anybody can encrypt a file, with recipients of their own, to a public host key.
 * @throws Failure if it does not open, or its seeds are not pinned
 */
export function ownSealing({ pins, store, closed }: OwnSeeds, coming: readonly Scope[]): OwnStore {
  const hint =
    'with-key = "host" or "tpm2" for this host in vault.toml sets what it is sealed to; then auxcred push --reseal';
  if (!store)
    throw new Failure(closed?.code ?? 'not-found', `seeds.age does not open: ${closed?.message ?? 'there is none'}`, {
      hint,
      cause: closed,
    });
  const expected = pins ? [pins.scopes, ...(pins.next ? [pins.next] : [])] : [pinsOf(coming, undefined).scopes];
  if (!expected.some((one) => samePins(one, store.pins)))
    throw new Failure('not-pinned', 'the seeds in seeds.age are not the ones that this machine expects', { hint });
  return store;
}
