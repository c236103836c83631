import { Failure } from '../failure.ts';
import { openPinnedSeeds } from '../seeds/open.ts';
import { wipeScopes } from '../seeds/scope.ts';
import { pathsUnder } from '../system/paths.ts';
import { openersOf } from './openers.ts';

/**
 * Opens this machine's seeds, and wipes them. Nothing can be said of seeds that are locked until the next boot.
 * @throws Failure that says why they do not open
 */
export async function proveOpening(root: string, device: string | undefined): Promise<void> {
  const paths = pathsUnder(root);
  try {
    const { payload } = await openPinnedSeeds(paths, openersOf(paths, device));
    wipeScopes(payload.scopes);
  } catch (error) {
    if (!(error instanceof Failure && error.code === 'until-boot')) throw error;
  }
}
