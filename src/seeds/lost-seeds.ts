/** Detects that a machine lost its seeds, and says how to restore them. */
import { existsSync } from 'node:fs';
import type { Paths } from '../system/paths.ts';
import { establishedPins } from './pins.ts';

/** Whether seeds were sealed here before, judged by the pins and the snapshot, which is all that the broker can see. */
export function hadSeeds(paths: Paths): boolean {
  return establishedPins(paths) !== undefined || existsSync(paths.snapshot);
}

/** The hint for restoring the seeds if seeds.age is gone. */
export const restoreHint = ({ store, seeds }: Pick<Paths, 'store' | 'seeds'>): string =>
  `mount ${store} if its file system is not mounted, or restore ${seeds} from a backup; ` +
  'else auxcred reseal --seed-file=- with the 24 words, auxcred reseal --scopes=- with what auxcred scopes prints, ' +
  'or auxcred push from the vault';
