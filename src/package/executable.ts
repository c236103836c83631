import { mkdirSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { type OutputChunk, rolldown } from 'rolldown';
import { partsFolder } from './part.ts';

/** A program in one CommonJS file; a command has parts too. */
export interface Executable {
  readonly name: string;
  readonly entry: string;
  /**
   * Whether it is started by its path, and so needs a first line that names Node. Each verb of a command loads its own
   * parts of the program (`loader.ts`); what a boot runs without a verb is one file.
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
 * Writes `NAME.cjs` to a folder, containing everything but Node's own modules. Same sources, same bytes. A command's file
 * only loads its parts, from {@link partsFolder}. The name of a part has a hash of its content: a program that runs while
 * another version is installed finds its own part or none.
 * @returns the names of the packages inside
 * @throws Error if a package of `without` is inside, or if a program that is no command takes more than one file
 */
export async function bundle(
  { name, entry, command = false, without }: Executable,
  folder: string,
): Promise<Set<string>> {
  const chunks = await chunksOf(entry, command ? `${partsFolder}/${name}-[hash].cjs` : `${name}.cjs`);
  if (!command && chunks.length !== 1) throw new Error(`${name} is in ${String(chunks.length)} parts`);
  const packages = new Set(chunks.flatMap(({ moduleIds }) => moduleIds.flatMap((id) => packageAt(id) ?? [])));
  const heavy = without.filter((unwanted) => packages.has(unwanted));
  if (heavy.length > 0) throw new Error(`${name} holds ${heavy.join(', ')}, which the boot path has no time for`);
  for (const { fileName, code } of chunks) {
    mkdirSync(dirname(join(folder, fileName)), { recursive: true });
    writeFileSync(join(folder, fileName), code);
  }
  const first = chunks.find((chunk) => chunk.isEntry);
  if (command && first) writeFileSync(join(folder, `${name}.cjs`), await loaderOf(basename(first.fileName)));
  return packages;
}

/** The file that loads the parts of a command, the first one by its name. */
async function loaderOf(firstPart: string): Promise<string> {
  const [loader] = await chunksOf('src/package/loader.ts', 'loader.cjs', { firstPart: JSON.stringify(firstPart) });
  return `${shebang}\n${loader?.code ?? ''}`;
}

/** Bundles an entry into one file, or into several if the name of the first lies in {@link partsFolder}. */
async function chunksOf(
  entry: string,
  entryFileNames: string,
  define: Readonly<Record<string, string>> = {},
): Promise<readonly OutputChunk[]> {
  const build = await rolldown({
    input: entry,
    platform: 'node',
    external: [/^node:/],
    treeshake: { moduleSideEffects: false },
    transform: { define },
    logLevel: 'warn',
  });
  const { output } = await build.generate({
    format: 'cjs',
    minify: true,
    codeSplitting: dirname(entryFileNames) === partsFolder,
    entryFileNames,
    chunkFileNames: `${partsFolder}/[name]-[hash].cjs`,
  });
  await build.close();
  return output.filter((part) => part.type === 'chunk');
}

const packageAt = (path: string): string | undefined => /^.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1];
