/** How a machine knows that it lost its seeds, and how they come back. */
import { existsSync } from 'node:fs';
import type { Paths } from '../system/paths.ts';
import { establishedPins } from './pins.ts';

/** Whether seeds were ever sealed here, as far as the pins and the snapshot tell: the broker can't see more. */
export function hadSeeds(paths: Paths): boolean {
  return establishedPins(paths) !== undefined || existsSync(paths.snapshot);
}

/** How the seeds come back if seeds.age is gone. */
export const restoreHint = ({ store, seeds }: Pick<Paths, 'store' | 'seeds'>): string =>
  `mount ${store} if its file system is not mounted, or restore ${seeds} from a backup; else auxcred reseal --seed-file=- with the 24 words, auxcred reseal --scopes=- with what auxcred scopes prints, or auxcred push from the vault`;
