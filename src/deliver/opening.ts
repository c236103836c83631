import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Failure } from '../failure.ts';
import { devicePatience, hostKeyCredentials, type HostKeys, openStore } from '../store/open.ts';
import { hostScope, parseReleases, readReleases, type Release } from '../store/snapshot.ts';
import type { Scope } from '../store/scope.ts';
import type { Paths } from '../system/paths.ts';

/**
 * Opens the seeds with what the service was given (the host key as a credential, the TPM device in AUXCRED_TCTI) and reads
 * the snapshot. The caller wipes the scopes.
 * @throws Failure
 */
export async function openReleases(paths: Paths, environment: NodeJS.ProcessEnv): Promise<{ releases: Release[]; scopes: readonly Scope[] }> {
  const credentials = environment['CREDENTIALS_DIRECTORY'];
  const keyAt = (name: string): string | undefined => {
    const path = credentials === undefined ? undefined : join(credentials, name);
    return path !== undefined && existsSync(path) ? path : undefined;
  };
  const keys: HostKeys = { ssh: keyAt(hostKeyCredentials.ssh), age: keyAt(hostKeyCredentials.age) };
  const { payload } = await openStore(paths, { keys, device: environment['AUXCRED_TCTI'], patience: devicePatience });
  return { releases: releasesIn(paths, payload.scopes), scopes: payload.scopes };
}

function releasesIn(paths: Paths, scopes: readonly Scope[]): Release[] {
  const snapshot = readReleases(paths);
  if (!snapshot) throw new Failure('not-found', 'nothing is provisioned on this machine yet', { hint: 'run auxcred apply' });
  return parseReleases(snapshot, hostScope(scopes));
}
