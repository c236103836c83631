import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { rolldown } from 'rolldown';

/** The folder, beside the command, of the parts that its verbs load. */
export const partsFolder = 'parts';

/** A program in one CommonJS file; a command has parts too. */
export interface Executable {
  readonly name: string;
  readonly entry: string;
  /**
   * Whether it is started by its path, and so needs a first line that names Node. Each verb of a command loads its own
   * parts of the program; what a boot runs without a verb is one file.
   */
  readonly command?: boolean;
  /** Packages that it must not contain, since they load too slowly for the boot path. */
  readonly without: readonly string[];
}

/** Silences Node 20, which still warns that X25519 is experimental. */
export const nodeOption = '--disable-warning=ExperimentalWarning';

/** The first line of a command, until `install` puts in the target's own Node. */
export const shebang = `#!/usr/bin/env -S node ${nodeOption}`;

/**
 * Writes `NAME.cjs` to a folder, and the parts of a command to {@link partsFolder}, containing everything but Node's own
 * modules. Same sources, same bytes. The name of a part has a hash of its content: a program that runs while another
 * version is installed finds its own part or none.
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
    codeSplitting: command,
    entryFileNames: `${name}.cjs`,
    chunkFileNames: `${partsFolder}/[name]-[hash].cjs`,
    banner: (chunk) => (command && chunk.isEntry ? shebang : ''),
  });
  await build.close();
  const chunks = output.filter((part) => part.type === 'chunk');
  if (chunks.length !== output.length || (!command && chunks.length !== 1))
    throw new Error(`${name} is in ${String(output.length)} parts`);
  const packages = new Set(chunks.flatMap(({ moduleIds }) => moduleIds.flatMap((id) => packageAt(id) ?? [])));
  const heavy = without.filter((unwanted) => packages.has(unwanted));
  if (heavy.length > 0) throw new Error(`${name} holds ${heavy.join(', ')}, which the boot path has no time for`);
  for (const { fileName, code } of chunks) {
    mkdirSync(dirname(join(folder, fileName)), { recursive: true });
    writeFileSync(join(folder, fileName), code);
  }
  return packages;
}

const packageAt = (path: string): string | undefined => /^.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1];
