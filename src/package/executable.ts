import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { rolldown } from 'rolldown';

/** A program in one CommonJS file. */
export interface Executable {
  readonly name: string;
  readonly entry: string;
  /** Whether it is started by its path, and so needs a first line that names Node. */
  readonly command?: boolean;
  /** Packages that it must not contain, since they load too slowly for the boot path. */
  readonly without: readonly string[];
}

/** Silences Node 20, which still warns that X25519 is experimental. */
export const nodeOption = '--disable-warning=ExperimentalWarning';

/** The first line of a command, until `install` puts in the target's own Node. */
export const shebang = `#!/usr/bin/env -S node ${nodeOption}`;

/**
 * Writes `NAME.cjs` to a folder, containing everything but Node's own modules. Same sources, same bytes.
 * @returns the names of the packages inside
 * @throws Error if a package of `without` is inside, or if it takes more than one file
 */
export async function bundle(
  { name, entry, command = false, without }: Executable,
  folder: string,
): Promise<Set<string>> {
  const build = await rolldown({
    input: entry,
    platform: 'node',
    external: [/^node:/],
    treeshake: { moduleSideEffects: false },
    logLevel: 'warn',
  });
  const { output } = await build.generate({
    format: 'cjs',
    minify: true,
    codeSplitting: false,
    banner: command ? shebang : '',
  });
  await build.close();
  const [chunk] = output;
  if (output.length !== 1) throw new Error(`${name} is in ${String(output.length)} parts`);
  const packages = new Set(chunk.moduleIds.flatMap((id) => packageAt(id) ?? []));
  const heavy = without.filter((unwanted) => packages.has(unwanted));
  if (heavy.length > 0) throw new Error(`${name} holds ${heavy.join(', ')}, which the boot path has no time for`);
  writeFileSync(join(folder, `${name}.cjs`), chunk.code);
  return packages;
}

const packageAt = (path: string): string | undefined => /^.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1];
