import { provision } from '../deliver/provision.ts';
import { Failure } from '../failure.ts';
import { type Manifest, readManifest } from '../manifest/manifest.ts';
import { devicePatience, openStore } from '../store/open.ts';
import type { Release } from '../store/snapshot.ts';
import { wipeScopes } from '../store/scope.ts';
import { pathsUnder } from '../system/paths.ts';
import { stopRunning, systemIsRunning } from '../system/systemctl.ts';
import { problemText } from './check.ts';
import { meansOf } from './means.ts';
import { Options } from './options.ts';
import { print, say } from './say.ts';

/** `auxcred provision`: puts the manifest's secrets in force for the broker, without touching the units' drop-ins. */
export async function provisionCommand(argv: readonly string[]): Promise<number> {
  const options = new Options('provision', argv, { values: ['root', 'tpm2-device'] });
  options.exactly();
  const root = options.value('root') ?? '/';
  const { releases, changed } = await provisionManifest(root, options.value('tpm2-device'), usableManifest(root));
  say(changed ? `${String(releases.length)} credentials are in force` : 'nothing to do: the manifest is in force already');
  return 0;
}

/** The manifest, all of it valid. @throws Failure `invalid-manifest` after printing every problem. */
export function usableManifest(root: string): Manifest {
  const manifest = readManifest(root);
  for (const problem of manifest.problems) print(problemText(problem));
  if (manifest.problems.some(({ severity }) => severity === 'error')) {
    throw new Failure('invalid-manifest', 'the manifest has errors, so nothing was changed', { hint: 'mend the lines above; auxcred check looks again' });
  }
  return manifest;
}

/** Opens the seeds, installs the snapshot and ends a running broker, whose successor reads it. @throws Failure */
export async function provisionManifest(root: string, device: string | undefined, manifest: Manifest): Promise<{ releases: Release[]; changed: boolean }> {
  const paths = pathsUnder(root);
  const { payload } = await openStore(paths, { ...meansOf(paths, device), patience: devicePatience });
  try {
    const result = provision(root, paths, manifest.declarations, payload.scopes);
    if (result.changed && systemIsRunning(root)) stopRunning('auxcred.service');
    return result;
  } finally {
    wipeScopes(payload.scopes);
  }
}
