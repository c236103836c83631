/** Checks, seals, writes and activates what arrived from the operator. */
import { existsSync } from 'node:fs';
import { Failure } from '../failure.ts';
import type { Manifest } from '../manifest/manifest.ts';
import { activeSnapshot } from '../provision/active-snapshot.ts';
import { nobody, runningSteps, stepsFor, type Told, type UnitStep } from '../provision/running-units.ts';
import { unitsFailure } from '../provision/unit-jobs.ts';
import { begun, finished, type Judged, judge, writeFiles } from '../push/arrival.ts';
import { checkSeeds, type OwnSeeds, ownSealing, ownSeeds } from '../push/own-seeds.ts';
import type { Arrived, Request, Result } from '../push/protocol.ts';
import { type Pushed, readPushed, writeBegun, writePushed } from '../push/pushed.ts';
import { listed } from '../push/refusals.ts';
import { type OpenedSeeds, openPinnedSeeds, openSeeds } from '../seeds/open.ts';
import type { Payload } from '../seeds/payload.ts';
import { type Pins, pinsOf, samePins, usablePins } from '../seeds/pins.ts';
import { type Scope, wipeScopes } from '../seeds/scope.ts';
import { refuseOldSeeds, refuseRewound } from '../seeds/tpm-counter.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import { systemIsRunning } from '../system/systemctl.ts';
import { say } from '../terminal/say.ts';
import { applyToUnits } from './applying.ts';
import { openersOf } from './openers.ts';
import { provisionWith, sayHeld } from './provisioning.ts';
import { unitFailures } from './restarts.ts';
import { boundWhenRunning, type SealWishes, sealMachine, wantedPolicy, withPolicy } from './sealing.ts';
import { oneAtATime } from './store-lock.ts';

/** What arrived, and for which machine. */
export interface Arrival {
  readonly root: string;
  /** The named TPM. */
  readonly device: string | undefined;
  readonly request: Request;
  readonly arrived: Arrived;
}

/**
 * Judges everything and, unless only that was asked for, writes and activates it.
 * @throws Failure, before or after anything was written
 */
export async function received(arrival: Arrival): Promise<Result> {
  const { root, request, arrived } = arrival;
  if (request.purpose === 'judge-without-seeds') {
    judge(root, request, arrived, { scopes: undefined, pushed: readPushed(pathsUnder(root)), own: undefined });
    return { units: [], failure: undefined };
  }
  // No lock: nothing is written, and the lock's folder may not even exist.
  if (request.purpose === 'judge')
    return await withSeeds<Result>(arrival, {
      opened: ({ judged: { changes } }) =>
        Promise.resolve({
          units: systemIsRunning(root) ? actionsOf(runningSteps(stepsFor(changes))) : [],
          failure: undefined,
        }),
      locked: () => ({ units: [], failure: undefined, atNextBoot: true }),
    });
  let result: Result = { units: [], failure: undefined };
  let told = nobody;
  await oneAtATime(root, 'wait', async () => {
    ({ told, ...result } = await withSeeds<Result & { told: Told }>(arrival, {
      opened: async (sound) => await carriedOut(arrival, sound),
      locked: (pushed) => leftForNextBoot(arrival, pushed),
    }));
    return 0;
  });
  const failures = await unitFailures(told, request.wait);
  return result.failure === undefined && failures.length > 0 ? { ...result, failure: unitsFailure(failures) } : result;
}

/** An arrival that may be carried out, with the seeds as they will be. */
interface Sound {
  readonly payload: Payload;
  /** The TPM that opened them, or this machine's own. */
  readonly srk: OpenedSeeds['srk'];
  /** This machine's own store; undefined if other seeds replace it. */
  readonly opened: OpenedSeeds | undefined;
  /** Whether the broker may have refused the present seeds. */
  readonly wasClosed: boolean;
  readonly pushed: Pushed;
  readonly judged: Judged;
}

type ActiveSeeds = Pick<OpenedSeeds, 'payload' | 'counter'>;

/** What to do with an arrival, once it is known whether seeds are available. */
interface Work<T> {
  readonly opened: (sound: Sound) => Promise<T>;
  /** For an arrival without seeds that was judged as far as that goes without them. */
  readonly locked: (pushed: Pushed) => T;
}

/**
 * Judges an arrival with the seeds that were sent, else with this machine's own, which are wiped afterwards; without
 * any if the broker locked these.
 * @throws Failure
 */
async function withSeeds<T>({ root, device, request, arrived }: Arrival, work: Work<T>): Promise<T> {
  const paths = pathsUnder(root);
  const pushed = readPushed(paths);
  const opened = arrived.seeds ? undefined : await ownUnlessLocked(paths, device);
  if (opened === 'locked') {
    judge(root, request, arrived, { scopes: undefined, locked: usablePins(paths)?.scopes, pushed, own: undefined });
    return work.locked(pushed);
  }
  const sent = arrived.seeds
    ? await sentSeeds(root, device, { request, file: arrived.seeds, unfinished: pushed.unfinished })
    : undefined;
  const payload = opened?.payload ?? sent?.payload;
  if (!payload) throw new Failure('malformed', 'there are no seeds');
  try {
    if (opened && !request.acceptOlder) refuseOlderStore(paths, opened);
    const judged = judge(root, request, arrived, { scopes: payload.scopes, pushed, own: sent?.own });
    const closed = sent?.own.closed;
    // A broker that holds locked seeds is the only one until the next boot.
    const wasClosed = closed?.code !== 'until-boot' && (request.acceptOlder || closed !== undefined);
    return await work.opened({ payload, srk: (opened ?? sent)?.srk, opened, wasClosed, pushed, judged });
  } finally {
    wipeScopes(payload.scopes);
  }
}

/** @throws Failure as {@link openPinnedSeeds}, except if the seeds are locked until the next boot */
async function ownUnlessLocked(paths: Paths, device: string | undefined): Promise<OpenedSeeds | 'locked'> {
  try {
    return await openPinnedSeeds(paths, openersOf(paths, device));
  } catch (error) {
    if (error instanceof Failure && error.code === 'until-boot') return 'locked';
    throw error;
  }
}

/** Writes what was judged; the next boot activates it. The push stays unfinished until one finds it active. */
function leftForNextBoot({ root, request, arrived }: Arrival, pushed: Pushed): Result & { told: Told } {
  const paths = pathsUnder(root);
  writeBegun(paths, begun(pushed, arrived));
  writeFiles(paths, request, arrived);
  return { told: nobody, units: [], failure: undefined, atNextBoot: true };
}

/** Writes what was judged, in a crash-safe order, and activates it. @throws Failure */
async function carriedOut(
  { root, request, arrived }: Arrival,
  { payload, srk, opened, wasClosed, pushed, judged }: Sound,
): Promise<Result & { told: Told }> {
  const paths = pathsUnder(root);
  const unfinished = begun(pushed, arrived);
  writeBegun(paths, unfinished);
  // Seeds that are locked from now on do not open again before the next boot.
  const wishes = { acceptOlder: request.acceptOlder, wasClosed, acceptWeak: true, srk };
  const seeds = opened ?? (await sealed(root, payload, wishes));
  writeFiles(paths, request, arrived);
  const result = await apply(root, seeds, judged.manifest, request.acceptOlder);
  if (result.failure === undefined) writePushed(paths, finished(paths, unfinished));
  return result;
}

/** Seals seeds that were sent. @throws Failure */
async function sealed(root: string, payload: Payload, wishes: SealWishes): Promise<ActiveSeeds> {
  const counter = await sealMachine(root, payload, wishes);
  return { payload, ...(counter && { counter }) };
}

const actionsOf = (steps: readonly UnitStep[]): Result['units'] => steps.map(({ unit, action }) => ({ unit, action }));

/** @throws Failure `older` if this machine's own store was rolled back: nothing is written over it then */
function refuseOlderStore(paths: Paths, { payload, counter }: OpenedSeeds): void {
  const snapshot = activeSnapshot(paths, payload.scopes);
  refuseRewound(counter, snapshot?.tpmCounter);
  refuseOldSeeds(payload.counter, snapshot?.counter ?? 0);
}

/**
 * Does what `auxcred apply` does. A hook that held its secret back is a failure, and so is what could not be written,
 * though all else is active.
 * @throws Failure
 */
async function apply(
  root: string,
  seeds: ActiveSeeds,
  manifest: Manifest,
  acceptOlder: boolean,
): Promise<Result & { told: Told }> {
  const provisioned = await provisionWith(root, seeds, manifest, {
    occasion: 'command',
    acceptClock: false,
    acceptOlder,
  });
  const told = applyToUnits(root, manifest, provisioned, true);
  const units = told.taken.map(({ unit, action }) => ({ unit, action }));
  if (sayHeld(provisioned) === 0) return { told, units, failure: undefined };
  const { failures, held } = provisioned;
  return {
    told,
    units,
    failure: new Failure(
      failures.length > 0 ? 'system' : 'hook',
      [...failures, ...[...held].map(([name, reason]) => `${name} is unchanged: ${reason}`)].join('; '),
      { hint: 'auxcred push tries again' },
    ),
  };
}

/** Seeds that were sent. */
interface Sent {
  readonly request: Request;
  /** An age file that this machine opens. */
  readonly file: Uint8Array;
  readonly unfinished: boolean;
}

/**
 * The seeds that were sent, as they will be sealed here, which the caller wipes, and the seeds that this machine holds
 * until then.
 * @throws Failure
 */
async function sentSeeds(
  root: string,
  givenDevice: string | undefined,
  { request: { seeds, replace }, file, unfinished }: Sent,
): Promise<Pick<OpenedSeeds, 'payload' | 'srk'> & { own: OwnSeeds }> {
  const paths = pathsUnder(root);
  const openers = openersOf(paths, givenDevice);
  const pins = usablePins(paths);
  const { payload, srk } = await openSeeds(file, {
    ...openers,
    device: givenDevice ?? seeds?.device ?? openers.device ?? pins?.device,
  });
  try {
    const own = await ownSeeds(paths, openers, pins);
    checkSeeds(paths, payload.scopes, own, { replaces: seeds?.replaces ?? new Map(), replace, unfinished });
    const snapshot = activeSnapshot(paths, payload.scopes);
    const isLocked = own.closed?.code === 'until-boot';
    const keeps = seeds?.keepSealing === true && existsSync(paths.seeds);
    const recorded = isLocked && snapshot ? { ...snapshot, srk: undefined } : undefined;
    const stays = keeps ? (recorded ?? ownSealing(own, payload.scopes)) : undefined;
    const sealing = stays
      ? { ...stays.sealing, recovery: recoveryOf(payload, stays, seeds?.keepRecipients) }
      : payload.sealing;
    if (isLocked && sealing.lock !== undefined) refuseUnknownToBroker(pins, payload.scopes);
    const counter = 1 + Math.max(snapshot?.counter ?? 0, stays?.counter ?? 0);
    const device = sealing.withKey === 'host' ? undefined : (openers.device ?? sealing.device);
    return {
      own,
      srk: srk ?? stays?.srk,
      payload: {
        counter,
        scopes: payload.scopes,
        sealing: withPolicy({ ...sealing, device }, boundWhenRunning(wantedPolicy(sealing), root)),
      },
    };
  } catch (error) {
    wipeScopes(payload.scopes);
    throw error;
  }
}

/** The recovery recipients of seeds that keep their sealing. Says which ones the operator did not name. */
function recoveryOf(
  { sealing: { recovery } }: Pick<Payload, 'sealing'>,
  stays: Pick<Payload, 'sealing'>,
  keeps: boolean | undefined,
): readonly string[] {
  const own = stays.sealing.recovery;
  if (recovery.length > 0 || keeps === false || own.length === 0) return recovery;
  say(`the seeds stay open to ${listed(own)} too, which vault.toml does not name`);
  const version = keeps === undefined ? ' of version 0.2 or later' : '';
  say(`hint: recipients = [] in vault.toml, then auxcred push --reseal${version}, shuts them out`);
  return own;
}

/**
 * The broker that locked the seeds goes on with those that it has, and no other can open any before the next boot.
 * @throws Failure `until-boot`
 */
function refuseUnknownToBroker(pins: Pins | undefined, coming: readonly Scope[]): void {
  if (pins && samePins(pins.scopes, pinsOf(coming, undefined).scopes)) return;
  throw new Failure(
    'until-boot',
    'the broker locked its seeds until the next boot, and no broker can open others before that; nothing was changed',
    {
      hint:
        'lock-after-unseal = false for this host in vault.toml, then auxcred push brings them now; to lock them ' +
        'again: true, auxcred push --reseal and a reboot',
    },
  );
}
