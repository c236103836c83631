import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface Finished {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command without the variables that make Node print or load more. */
export function run(command: string, ...args: readonly string[]): Finished {
  const { NODE_EXTRA_CA_CERTS: _certificates, NODE_OPTIONS: _options, ...env } = process.env;
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8', env, maxBuffer: 64 << 20 });
  if (error) throw error;
  return { status, stdout, stderr };
}

/** A program of src/package, as compiled beside this test. */
export const program = (name: string): string =>
  fileURLToPath(new URL(`../../src/package/${name}.js`, import.meta.url));

/** @throws Error with its output if it fails */
export function succeed(command: string, ...args: readonly string[]): string {
  const { status, stdout, stderr } = run(command, ...args);
  if (status !== 0) throw new Error(`${[command, ...args].join(' ')} ended with ${String(status)}\n${stdout}${stderr}`);
  return stdout;
}

/** A temporary folder, gone at the end of the block or by its `remove`. */
export function scratch(): Disposable & { readonly path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), 'auxcred-package-'));
  const remove = (): void => {
    rmSync(path, { recursive: true, force: true });
  };
  return { path, remove, [Symbol.dispose]: remove };
}

/** Every file and link below a folder. */
export function filesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .sort();
}

/** The content of a folder: path to mode and content. */
export const contentOf = (folder: string): Record<string, string> =>
  Object.fromEntries(
    filesIn(folder).map((path) => [
      path,
      `${(statSync(join(folder, path)).mode & 0o7777).toString(8)} ${readFileSync(join(folder, path)).toString('base64')}`,
    ]),
  );
