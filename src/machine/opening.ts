import { Failure } from '../failure.ts';
import { openingPatience, openPinnedSeeds } from '../seeds/open.ts';
import { wipeScopes } from '../seeds/scope.ts';
import { pathsUnder } from '../system/paths.ts';
import { within } from '../system/time-limit.ts';
import { openersOf } from './openers.ts';

/**
 * Opens this machine's seeds, and wipes them. Nothing can be said of seeds that are locked until the next boot.
 * @param patience - milliseconds that it may take
 * @throws Failure that says why they do not open; `timeout` if the TPM does not answer, whose thread then blocks an
 * ordinary exit
 */
export const proveOpening = async (
  root: string,
  device: string | undefined,
  patience = openingPatience,
): Promise<void> =>
  await within(patience, opened(root, device), () => {
    throw new Failure('timeout', `the seeds could not be opened within ${String(patience / 1000)} s`, {
      hint: 'is its TPM answering? auxcred doctor there says more',
    });
  });

async function opened(root: string, device: string | undefined): Promise<void> {
  const paths = pathsUnder(root);
  try {
    const { payload } = await openPinnedSeeds(paths, openersOf(paths, device));
    wipeScopes(payload.scopes);
  } catch (error) {
    if (!(error instanceof Failure && error.code === 'until-boot')) throw error;
  }
}
