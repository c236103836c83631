/** Where what arrived from the operator is checked, sealed, written and put in force. */
import { existsSync } from 'node:fs';
import { refuseOldSeeds } from '../deliver/opening.ts';
import { snapshotInForce } from '../deliver/provision.ts';
import { Failure } from '../failure.ts';
import type { Manifest } from '../manifest/manifest.ts';
import { begun, checkFiles, checkSeeds, finished, writeFiles } from '../push/arrival.ts';
import type { Arrived, Request, Result } from '../push/protocol.ts';
import { readPushed, writePushed } from '../push/pushed.ts';
import { openSeeds, openStore, type OpenStore } from '../store/open.ts';
import type { Payload, Sealing } from '../store/payload.ts';
import { pinsIn } from '../store/pins.ts';
import { wipeScopes } from '../store/scope.ts';
import { refuseRewound } from '../store/tpm-counter.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import { nobody, type Told } from '../deliver/running-units.ts';
import { unitsFailure } from '../deliver/unit-jobs.ts';
import { putInForce } from './apply.ts';
import { meansOf } from './means.ts';
import { sealMachine } from './sealing.ts';
import { oneAtATime, provisionManifest, provisionWith, sayHeld, unitFailures } from './provision.ts';
import { boundWhenRunning, pcrsOf } from './sealing-options.ts';

/** Checks everything, then writes it and puts it in force. @throws Failure, before or after anything was written */
export async function received(root: string, device: string | undefined, request: Request, arrived: Arrived): Promise<Result> {
  const paths = pathsUnder(root);
  let result: Result = { units: [], failure: undefined };
  let told = nobody;
  await oneAtATime(root, 'wait', async () => {
    const opened = arrived.seeds ? undefined : await openStore(paths, meansOf(paths, device));
    const { payload, srk } = opened ?? await sentSeeds(root, device, request, arrived.seeds ?? new Uint8Array(0));
    try {
      if (opened && !request.acceptOlder) refuseOlderStore(paths, opened);
      const before = readPushed(paths);
      const manifest = checkFiles(root, request, arrived, payload.scopes, before);
      const under = begun(before, arrived);
      writePushed(paths, under);
      if (!opened) await sealMachine(root, payload, { acceptOlder: request.acceptOlder, srk });
      writeFiles(paths, request, arrived);
      ({ told, ...result } = await apply(root, device, opened, manifest, request.acceptOlder));
      if (result.failure === undefined) writePushed(paths, finished(under, request));
    } finally {
      wipeScopes(payload.scopes);
    }
    return 0;
  });
  const failures = await unitFailures(told, request.wait);
  return result.failure === undefined && failures.length > 0 ? { ...result, failure: unitsFailure(failures) } : result;
}

/** @throws Failure `older` where this machine's own store was brought back: nothing is written over it then */
function refuseOlderStore(paths: Paths, { payload, counter }: OpenStore): void {
  const snapshot = snapshotInForce(paths, payload.scopes);
  refuseRewound(counter, snapshot?.tpmCounter);
  refuseOldSeeds(payload.counter, snapshot?.counter ?? 0);
}

/**
 * Does what `auxcred apply` does. A hook that held its secret back is a failure, and what could not be laid out too, though all else is in force.
 * @param opened - the seeds, where they are those that were here before
 * @throws Failure
 */
async function apply(root: string, device: string | undefined, opened: OpenStore | undefined, manifest: Manifest, acceptOlder: boolean): Promise<Result & { told: Told }> {
  const flags = { early: false, acceptClock: false, acceptOlder };
  const provisioned = opened ? await provisionWith(root, opened, manifest, flags) : await provisionManifest(root, device, manifest, flags);
  const told = putInForce(root, manifest, provisioned, true);
  const units = told.taken.map(({ unit, action }) => ({ unit, action }));
  if (sayHeld(provisioned) === 0) return { told, units, failure: undefined };
  const { failures, held } = provisioned;
  return { told, units, failure: new Failure(failures.length > 0 ? 'system' : 'hook', [...failures, ...[...held].map(([name, reason]) => `${name} stays what it is: ${reason}`)].join('; '), { hint: 'auxcred push tries again' }) };
}

/** The seeds that were sent, as they are to be sealed here, and the TPM that opened them or this machine's own; the caller wipes them. @throws Failure */
async function sentSeeds(root: string, device: string | undefined, { seeds, replace }: Request, file: Uint8Array): Promise<Pick<OpenStore, 'payload' | 'srk'>> {
  const paths = pathsUnder(root);
  const means = meansOf(paths, device);
  const { payload, srk } = await openSeeds(file, { ...means, device: means.device ?? pinsIn(paths)?.device });
  try {
    if (seeds) checkSeeds(payload.scopes, pinsIn(paths), seeds, replace);
    const own = seeds?.keepSealing === true && existsSync(paths.seeds) ? await ownSeal(root, device) : undefined;
    const { recovery } = payload.sealing;
    const sealing = own ? { ...own.sealing, recovery: recovery.length > 0 ? recovery : own.sealing.recovery } : payload.sealing;
    const counter = 1 + Math.max(snapshotInForce(paths, payload.scopes)?.counter ?? 0, own?.counter ?? 0);
    const sealedHere: Sealing = { ...sealing, ...boundWhenRunning(pcrsOf(sealing), root), device: sealing.withKey === 'host' ? undefined : means.device ?? sealing.device };
    return { payload: { counter, scopes: payload.scopes, sealing: sealedHere }, srk: srk ?? own?.srk };
  } catch (error) {
    wipeScopes(payload.scopes);
    throw error;
  }
}

/** How this machine is sealed now, which seal it is, and the TPM that opened it. @throws Failure where it does not open */
async function ownSeal(root: string, device: string | undefined): Promise<Pick<Payload, 'sealing' | 'counter'> & Pick<OpenStore, 'srk'>> {
  const paths = pathsUnder(root);
  try {
    const { payload: { scopes, sealing, counter }, srk } = await openStore(paths, meansOf(paths, device));
    wipeScopes(scopes);
    return { sealing, counter, srk };
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    throw new Failure(error.code, error.message, { hint: 'with-key = "host" or "tpm2" for this host in vault.toml says what it is sealed to; then auxcred push --reseal', cause: error });
  }
}
