/** Secrets that units read without the broker, and that are not where they read them. */
import type { Sources } from '../derive/value.ts';
import { fixedValues } from '../fixed/value.ts';
import type { Payload } from '../seeds/payload.ts';
import { hostScope, seedsOf } from '../seeds/scope.ts';
import { readFixedFile, releaseKey } from '../snapshot/snapshot.ts';
import type { Paths } from '../system/paths.ts';
import { systemIsRunning } from '../system/systemctl.ts';
import { staleCredentials } from './credential-store.ts';
import { staleFiles } from './file-folder.ts';
import { activeSnapshot } from './preparing.ts';

/**
 * The releases in force, by {@link releaseKey}, whose credential or file is missing, was altered, or does not decrypt any more: what the next run writes
 * again, whatever else it changes.
 * @param early - whether files, which have units of their own at boot, are left out
 * @throws Failure `malformed` where there is no seed of this host
 */
export async function undelivered(
  root: string,
  paths: Paths,
  { scopes, sealing }: Pick<Payload, 'scopes' | 'sealing'>,
  early: boolean,
): Promise<ReadonlySet<string>> {
  const releases = activeSnapshot(paths, scopes)?.releases ?? [];
  const seedOf = seedsOf(scopes);
  const sources: Sources = { seedOf, fixedValue: fixedValues(seedOf, (recipe) => readFixedFile(paths, recipe)) };
  const files = early || !systemIsRunning(root) ? [] : staleFiles(paths, releases, sources);
  return new Set(
    [...(await staleCredentials(root, paths, releases, sealing, hostScope(scopes))), ...files].map(releaseKey),
  );
}
