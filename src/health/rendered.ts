import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { readRendering } from '../drop-ins/rendering.ts';
import { dropInFile, type Paths } from '../system/paths.ts';
import type { ReadableFiles } from './readable-files.ts';

const generators = [
  '/usr/lib/systemd/system-generators',
  '/usr/local/lib/systemd/system-generators',
  '/etc/systemd/system-generators',
];

/** Which of the drop-ins that were applied last systemd has. */
export interface Rendered {
  /** Whether the generator that hands them to systemd is installed. */
  readonly hasGenerator: boolean;
  /** Units whose drop-in systemd lacks, or has in another form. */
  readonly outdated: readonly string[];
}

/** Compares what `auxcred apply` left for the generator with what the generator gave systemd. */
export const renderedOn = (readable: ReadableFiles, paths: Paths): Rendered => ({
  hasGenerator: generators.some((folder) => existsSync(join(folder, 'auxcred-generator'))),
  outdated: [...readRendering(paths)]
    .filter(([unit, dropIn]) => readable.text(dropInFile(paths.generated, unit)) !== dropIn)
    .map(([unit]) => unit),
});
