import { refusalRecord, releaseRecord } from '../broker/journal-record.ts';
import { openServedSecrets } from '../broker/served-secrets.ts';
import { Options } from '../cli/options.ts';
import { exitStatus, Failure } from '../failure.ts';
import { openersOf } from '../machine/openers.ts';
import { writeFiles } from '../provision/file-folder.ts';
import { devicePatience } from '../seeds/open.ts';
import { wipeScopes } from '../seeds/scope.ts';
import { journal } from '../system/journal.ts';
import { pathsUnder } from '../system/paths.ts';

/**
 * `auxcred files` writes the secrets that are delivered as files, from the active snapshot; with `--needed-for=users`
 * only those that are needed before users are created. Called by units at boot. It opens the seeds itself, since the
 * broker's user may not exist yet.
 */
export async function files(argv: readonly string[]): Promise<number> {
  const options = new Options('files', argv);
  options.exactly();
  const need = options.value('needed-for') ?? 'all';
  if (need !== 'all' && need !== 'users')
    throw new Failure('usage', `--needed-for=${need} is not known`, { hint: '--needed-for=users' });
  const paths = pathsUnder('/');
  const { releases, sources, scopes, isOutdated } = await openServedSecrets(paths, {
    ...openersOf(paths, undefined),
    patience: devicePatience,
  });
  try {
    const current = releases.filter((release) => !isOutdated(release));
    const { written, failed } = writeFiles(paths, current, sources, need);
    for (const release of written) journal(releaseRecord(release, release));
    for (const [release, reason] of failed) journal(refusalRecord(release, reason));
    for (const release of releases)
      if (release.placement && isOutdated(release))
        journal(refusalRecord(release, 'the configuration has changed it, and that was not provisioned'));
    return failed.size === 0 ? 0 : exitStatus.system;
  } finally {
    wipeScopes(scopes);
  }
}
