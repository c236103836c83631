/** Keeps changes of the vault. Only verbs that make some load git. */
import { warn } from '../terminal/say.ts';
import { commitVault, sweepVault } from '../vault/git.ts';
import type { Vault } from '../vault/vault.ts';
import type { Place } from './chosen-folder.ts';

/**
 * Finishes a change of the fixed folder: sweeps it, and commits it with the named files if the vault keeps its history
 * in git.
 */
export function commit({ folder, vault }: Place, message: string, ...files: readonly string[]): void {
  folder.sweep();
  if (vault) keep(vault, message, 'fixed', ...files);
}

/** Sweeps the vault, and commits the named files and folders if it keeps its history in git. */
export function keep(vault: Vault, message: string, ...files: readonly string[]): void {
  const changed = sweepVault(vault.folder);
  if (!vault.git) return;
  const problem = commitVault(vault.folder, message, [...files, ...changed]);
  if (problem) warn(`the change was made, but ${problem.text}`, problem.hint);
}
