/** Secrets that units read without the broker, but that are missing there. */
import type { Payload } from '../seeds/payload.ts';
import { hostScope } from '../seeds/scope.ts';
import { activeSources, releaseKey } from '../snapshot/snapshot.ts';
import type { Paths } from '../system/paths.ts';
import { systemIsRunning } from '../system/systemctl.ts';
import { staleCredentials } from './credential-store.ts';
import { staleFiles } from './file-folder.ts';
import { activeSnapshot } from './preparing.ts';

/**
 * The active releases, by {@link releaseKey}, whose credential or file is missing, altered, or no longer decrypts. The
 * next run writes them again, whatever else it changes.
 * @param leavesFiles - whether to leave out files, which have units of their own at boot and in a switch
 * @throws Failure `malformed` if there is no seed of this host
 */
export async function undelivered(
  root: string,
  paths: Paths,
  { scopes, sealing }: Pick<Payload, 'scopes' | 'sealing'>,
  leavesFiles: boolean,
): Promise<ReadonlySet<string>> {
  const releases = activeSnapshot(paths, scopes)?.releases ?? [];
  const files = leavesFiles || !systemIsRunning(root) ? [] : staleFiles(paths, releases, activeSources(paths, scopes));
  return new Set(
    [...(await staleCredentials(root, paths, releases, sealing, hostScope(scopes))), ...files].map(releaseKey),
  );
}
