/**
 * After a switch whose secrets could not be provisioned: the broker refuses what the configuration has changed since,
 * and this removes what units would read without the broker.
 */
import { rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { Failure } from '../failure.ts';
import { isOutdated, presentDigests } from '../manifest/declared.ts';
import { storedName } from '../provision/credential-store.ts';
import { type Release, readReleases, unverifiedReleases } from '../snapshot/snapshot.ts';
import type { Paths } from '../system/paths.ts';

/**
 * Removes files and stored credentials whose declaration is another one by now. Units that need them do not start until
 * `provision` has written them again. The snapshot is read without its MAC, since the seeds may not open: all that it
 * decides is what is removed.
 * @returns the names of all withheld credentials, the broker's included
 */
export function withhold(paths: Paths): string[] {
  const present = presentDigests(paths)();
  const outdated = recorded(paths).filter(({ declared }) => isOutdated(declared, present));
  for (const release of outdated) {
    const path = placeOf(paths, release);
    if (path !== undefined) rmSync(path, { force: true });
  }
  return [...new Set(outdated.map(({ credential }) => credential))].sort();
}

function recorded(paths: Paths): readonly Release[] {
  const bytes = readReleases(paths);
  if (!bytes) return [];
  try {
    return unverifiedReleases(bytes);
  } catch (error) {
    // The broker refuses all of it.
    if (error instanceof Failure && error.code === 'malformed') return [];
    throw error;
  }
}

/** Where units read a release without the broker. */
function placeOf(paths: Paths, { unit, credential, delivery }: Release): string | undefined {
  if (delivery !== 'file' && delivery !== 'credstore') return undefined;
  const name = delivery === 'file' ? credential : storedName(unit, credential);
  return basename(name) === name ? join(delivery === 'file' ? paths.files : paths.credstore, name) : undefined;
}
