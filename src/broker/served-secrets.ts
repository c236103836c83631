import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { ingredients } from '../derive/recipe.ts';
import type { Sources } from '../derive/value.ts';
import { Failure } from '../failure.ts';
import { fixedValues } from '../fixed/value.ts';
import { isOutdated, presentDigests } from '../manifest/declared.ts';
import {
  devicePatience,
  type HostKeys,
  hostKeyCredentials,
  missingKey,
  type Openers,
  openPinnedSeeds,
} from '../seeds/open.ts';
import { isBoundLater, type Sealing } from '../seeds/payload.ts';
import { hostScope, type Scope, seedsOf, wipeScopes } from '../seeds/scope.ts';
import { acceptOlder, refuseOldSeeds, refuseRewound } from '../seeds/tpm-counter.ts';
import { parseReleases, type Release, type Releases, readFixedFile, readReleases } from '../snapshot/snapshot.ts';
import { linkTarget } from '../system/files.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import { waysOut } from '../system/ways-out.ts';
import { lockUntilBoot } from '../tpm2/boot-lock.ts';
import { openTpm } from '../tpm2/tpm.ts';

/** What the broker answers from: the active releases, and the seeds to compute their values. */
export interface ServedSecrets {
  readonly releases: readonly Release[];
  readonly sources: Sources;
  readonly scopes: readonly Scope[];
  /** Extends the PCR that locks the seeds until the next boot; undefined if they are sealed without such a lock. */
  readonly lock: (() => Promise<void>) | undefined;
  /** The TPM that opened the seeds; undefined if something else did. */
  readonly tpm: { readonly device: string | undefined } | undefined;
  /** Whether the configuration declares the release's secret differently by now, and that was not provisioned. */
  readonly isOutdated: (release: Release) => boolean;
  /**
   * Reads the releases again, if another snapshot became active since; undefined if none did.
   * @throws Failure if the seeds do not match that snapshot, or it is older
   */
  readonly reread: () => ServedSecrets | undefined;
}

/** How often to read seeds, snapshot and counter until they match. */
const attempts = 3;

/**
 * Opens the seeds and reads the snapshot with its fixed files, so that later answers can't fail. The caller wipes the
 * scopes.
 * @throws Failure
 */
export async function openServedSecrets(paths: Paths, openers: Openers): Promise<ServedSecrets> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await openOnce(paths, openers);
    } catch (error) {
      // The broker takes no lock, so it may pair old seeds with a new snapshot.
      if (!(error instanceof Failure && error.code === 'older') || attempt === attempts) throw error;
    }
  }
}

/** The openers that the service was given: host keys as credentials, and the TPM device in AUXCRED_TCTI. */
export function givenOpeners(environment: NodeJS.ProcessEnv): Openers {
  const credentials = environment['CREDENTIALS_DIRECTORY'];
  const absent: string[] = [];
  const keyAt = (name: string, file: string): string | undefined => {
    const path = credentials === undefined ? undefined : join(credentials, name);
    if (path === undefined || !existsSync(path)) return undefined;
    if (!isPlaceholder(path)) return path;
    absent.push(file);
    return undefined;
  };
  const { sshHostKey, ageHostKey, sealedHostKey } = pathsUnder('/');
  const sealed = keyAt(hostKeyCredentials.sealed, sealedHostKey);
  const keys: HostKeys = {
    ssh: keyAt(hostKeyCredentials.ssh, sshHostKey),
    age: keyAt(hostKeyCredentials.age, ageHostKey),
    sealed: sealed === undefined ? undefined : () => Promise.resolve(new Uint8Array(readFileSync(sealed))),
  };
  return { keys, device: environment['AUXCRED_TCTI'], patience: devicePatience, absent };
}

/** Whether systemd found no file for this credential, and passed on what stands for it. */
const isPlaceholder = (path: string): boolean =>
  statSync(path).size === missingKey.length && readFileSync(path, 'utf8') === missingKey;

async function openOnce(paths: Paths, openers: Openers): Promise<ServedSecrets> {
  const { payload, counter: tpmCounter, srk, device } = await openPinnedSeeds(paths, openers);
  try {
    // Read the link first, so that a later change of it is noticed.
    const link = linkTarget(paths.snapshot);
    const snapshot = releasesIn(paths, payload.scopes);
    refuseRewound(tpmCounter, snapshot.tpmCounter);
    refuseOldSeeds(payload.counter, snapshot.counter);
    const tpm = srk === undefined ? undefined : { device };
    const seeds = { scopes: payload.scopes, tpm, lock: lockOf(payload.sealing, openers) };
    return servedFrom(paths, seeds, snapshot, link);
  } catch (error) {
    wipeScopes(payload.scopes);
    throw error;
  }
}

/** Not before the first boot has bound the seeds: that opens them once more. */
function lockOf(sealing: Sealing, { device = sealing.device }: Openers): ServedSecrets['lock'] {
  const { lock } = sealing;
  if (lock === undefined || isBoundLater(sealing)) return undefined;
  return async () => {
    const tpm = await openTpm(device);
    try {
      await lockUntilBoot(tpm, lock);
    } finally {
      await tpm.close();
    }
  };
}

function servedFrom(
  paths: Paths,
  seeds: Pick<ServedSecrets, 'scopes' | 'tpm' | 'lock'>,
  snapshot: Releases,
  link: string | undefined,
): ServedSecrets {
  const { scopes } = seeds;
  const { releases } = snapshot;
  const reread = (): ServedSecrets | undefined => {
    const now = linkTarget(paths.snapshot);
    if (now === link) return undefined;
    const next = releasesIn(paths, scopes);
    refuseOlderThan(snapshot, next);
    for (const { scope, epoch } of next.releases.flatMap(({ recipe }) => ingredients(recipe)))
      seedsOf(scopes)(scope, epoch);
    return servedFrom(paths, seeds, next, now);
  };
  const digests = presentDigests(paths);
  return {
    releases,
    sources: sourcesOf(paths, releases, scopes),
    ...seeds,
    isOutdated: ({ declared }) => isOutdated(declared, digests()),
    reread,
  };
}

/**
 * Refuses older releases without asking the TPM, which confirmed `known`: the numbers of later ones are the same or
 * higher.
 * @throws Failure `older`
 */
function refuseOlderThan(known: Releases, next: Releases): void {
  if (next.counter >= known.counter && (next.tpmCounter ?? 0) >= (known.tpmCounter ?? 0)) return;
  throw new Failure('older', 'the active snapshot is older than the one before', {
    hint: `put the newer one back; if this one is meant, ${acceptOlder}`,
  });
}

function sourcesOf(paths: Paths, releases: readonly Release[], scopes: readonly Scope[]): Sources {
  const files = new Map(
    releases
      .flatMap(({ recipe }) => ingredients(recipe))
      .filter((source) => source.form === 'fixed')
      .map((source) => [source.file, readFixedFile(paths, source)]),
  );
  const seedOf = seedsOf(scopes);
  return { seedOf, fixedValue: fixedValues(seedOf, ({ file }) => files.get(file)) };
}

function releasesIn(paths: Paths, scopes: readonly Scope[]): Releases {
  const snapshot = readReleases(paths);
  if (!snapshot)
    throw new Failure('not-found', 'nothing is provisioned on this machine yet', { hint: `run ${waysOut().apply}` });
  return parseReleases(snapshot, hostScope(scopes));
}
