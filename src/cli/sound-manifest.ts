import { Failure } from '../failure.ts';
import type { Manifest } from '../manifest/manifest.ts';
import { problemText } from '../manifest/problem-text.ts';
import { say } from '../terminal/say.ts';

/**
 * The manifest, if it has no errors.
 * @param check - the command that also prints its warnings
 * @throws Failure `invalid-manifest` after printing every error
 */
export function sound(manifest: Manifest, check = 'auxcred check'): Manifest {
  const errors = manifest.problems.filter(({ severity }) => severity === 'error');
  for (const { hint, ...problem } of errors) {
    say(problemText({ ...problem, hint: undefined }));
    if (hint !== undefined) say(`hint: ${hint}`);
  }
  if (errors.length > 0)
    throw new Failure('invalid-manifest', 'the manifest has errors', { hint: `${check} also prints its warnings` });
  return manifest;
}
