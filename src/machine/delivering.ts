/** Writes what units read without the broker: encrypted credentials and files. */
import { existsSync } from 'node:fs';
import { releaseRecord } from '../broker/journal-record.ts';
import { Failure } from '../failure.ts';
import { anyUnit } from '../manifest/declaration.ts';
import type { Manifest } from '../manifest/manifest.ts';
import { activeSnapshot } from '../provision/active-snapshot.ts';
import { fillCredentialStore } from '../provision/credential-store.ts';
import { writeFiles } from '../provision/file-folder.ts';
import type { ReleaseChange } from '../provision/plan.ts';
import type { DirectDelivery } from '../provision/undelivered.ts';
import type { Payload } from '../seeds/payload.ts';
import { hostScope } from '../seeds/scope.ts';
import { activeSources, type Release, releaseKey } from '../snapshot/snapshot.ts';
import { journal } from '../system/journal.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import { systemdVersion, systemIsRunning } from '../system/systemctl.ts';
import { warn } from '../terminal/say.ts';

/** Whether anything has to be, or still is, where units read it without the broker. */
export const deliversDirectly = (paths: Paths, { declarations }: Manifest): boolean =>
  declarations.some(({ delivery }) => delivery === 'credstore' || delivery === 'file') ||
  [paths.credstoreRecord, paths.fileLinks, paths.files].some((path) => existsSync(path));

/**
 * Writes what has changed or is missing. What can't be written does not stop the rest, and the next run tries again.
 * @param missing - what `undelivered` found before
 * @returns the releases that were written, and why others were not
 */
export async function deliverDirectly(
  root: string,
  { scopes, sealing }: Payload,
  missing: ReadonlySet<string>,
  delivery: DirectDelivery,
): Promise<{ made: Release[]; failures: string[] }> {
  const paths = pathsUnder(root);
  const releases = activeSnapshot(paths, scopes)?.releases ?? [];
  const sources = activeSources(paths, scopes);
  const made: Release[] = [];
  const failures: string[] = [];
  const attempt = async (work: () => Promise<void> | void): Promise<void> => {
    try {
      await work();
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      failures.push(`${error.message}${error.hint === undefined ? '' : ` (${error.hint})`}`);
    }
  };
  await attempt(async () => {
    const filling = { releases, undelivered: missing, sources, sealing, host: hostScope(scopes) };
    made.push(...(await fillCredentialStore(root, paths, filling)));
  });
  if (delivery === 'credentials' || !systemIsRunning(root)) return { made, failures };
  await attempt(() => {
    const { written, failed } = writeFiles(paths, releases, sources, 'all');
    for (const release of written) journal(releaseRecord(release, release));
    made.push(...written);
    failures.push(
      ...new Set([...failed].map(([{ credential }, reason]) => `the file ${credential} was not written: ${reason}`)),
    );
  });
  return { made, failures };
}

/**
 * The changes for units whose secrets were all written. Any other unit is left alone until the next run has written
 * them.
 */
export function deliveredOf(
  changes: readonly ReleaseChange[],
  undeliveredNow: ReadonlySet<string>,
): readonly ReleaseChange[] {
  const lacking = new Set(changes.filter((change) => undeliveredNow.has(releaseKey(change))).map(({ unit }) => unit));
  return changes.filter(({ unit }) => !lacking.has(unit));
}

/** The first systemd with ImportCredential= (systemd.exec(5)). */
const importingVersion = 254;

/** Warns of secrets that were written for any unit that imports them, if no unit can. */
export function warnUnimportable(root: string, made: readonly Release[]): void {
  const isImported = made.some(({ unit, delivery }) => unit === anyUnit && delivery === 'credstore');
  if (!isImported || !systemIsRunning(root) || systemdVersion() >= importingVersion) return;
  warn(
    "this systemd can't import credentials (254 is the first that can), so secrets without units reach nobody",
    'units = ["web.service"]',
  );
}
