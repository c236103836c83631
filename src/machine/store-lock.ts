/** Lets only one auxcred at a time change the store. */
import { dirname } from 'node:path';
import { FixedFolder } from '../fixed/folder.ts';
import { brokerGroup } from '../provision/provision.ts';
import { removeStrayGenerations } from '../snapshot/snapshot.ts';
import { configurationOf } from '../system/configuration.ts';
import { ensureFolder, groupId, removeLeftovers } from '../system/files.ts';
import { refuseForeign } from '../system/held-folder.ts';
import { withLock } from '../system/lock.ts';
import { pathsUnder } from '../system/paths.ts';
import { say } from '../terminal/say.ts';

/**
 * Runs a change of the store, from reading the manifest to the last drop-in, under a lock: a manifest that was read
 * before another one was activated would undo it.
 * @throws Failure `refused` if somebody else could redirect its folders
 * @returns the exit status of `work`; 0 if another auxcred is running and `whenHeld` is to leave
 */
export async function oneAtATime(
  root: string,
  whenHeld: 'wait' | 'leave',
  work: () => Promise<number>,
): Promise<number> {
  const paths = pathsUnder(root);
  // Where the configuration renders the others, they are not written.
  const written =
    configurationOf(paths) === undefined
      ? [paths.rendered, paths.pins, paths.brokerDropIn].map((path) => dirname(path))
      : [];
  const folders = [paths.store, paths.credstore, ...written];
  refuseForeign(root, folders);
  ensureFolder(paths.store, { mode: 0o750, group: groupId(root, brokerGroup) });
  const status = await withLock(
    paths.lock,
    () => {
      say(`another auxcred is running${whenHeld === 'wait' ? ', waiting for it' : ' and activates the manifest'}`);
      return whenHeld;
    },
    async () => {
      // Left behind by a killed run.
      for (const folder of folders) removeLeftovers(folder);
      new FixedFolder(paths.fixed).sweep();
      removeStrayGenerations(paths);
      return await work();
    },
  );
  return status ?? 0;
}
