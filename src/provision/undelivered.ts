/** Secrets that units read without the broker, but that are missing there. */
import type { Payload } from '../seeds/payload.ts';
import { hostScope } from '../seeds/scope.ts';
import { activeSources, releaseKey } from '../snapshot/snapshot.ts';
import type { Paths } from '../system/paths.ts';
import { systemIsRunning } from '../system/systemctl.ts';
import { activeSnapshot } from './active-snapshot.ts';
import { staleCredentials } from './credential-store.ts';
import { staleFiles } from './file-folder.ts';

/** What units read without the broker: encrypted credentials, and files. */
export type DirectDelivery = 'credentials' | 'credentials and files';

/**
 * The active releases, by {@link releaseKey}, whose credential or file is missing, altered, or no longer decrypts. The
 * next run writes them again, whatever else it changes.
 * @param delivery - which of them to look at
 * @throws Failure `malformed` if there is no seed of this host
 */
export async function undelivered(
  root: string,
  paths: Paths,
  { scopes, sealing }: Pick<Payload, 'scopes' | 'sealing'>,
  delivery: DirectDelivery,
): Promise<ReadonlySet<string>> {
  const releases = activeSnapshot(paths, scopes)?.releases ?? [];
  const looksAtFiles = delivery === 'credentials and files' && systemIsRunning(root);
  const files = looksAtFiles ? staleFiles(paths, releases, activeSources(paths, scopes)) : [];
  return new Set(
    [...(await staleCredentials(root, paths, releases, sealing, hostScope(scopes))), ...files].map(releaseKey),
  );
}
