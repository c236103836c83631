/**
 * Whose secrets a call means: those of a machine (this one, or the system at `--root=`) or those of a host or group in
 * the operator's vault. One computer may be both, so it depends on what is asked for:
 *
 * | given                | a manifest | the fixed folder         | a secret without a scope                        |
 * |----------------------|------------|--------------------------|-------------------------------------------------|
 * | `--root`             | machine    | machine                  | machine                                         |
 * | `--host`             | vault      | vault if there is one    | vault                                           |
 * | `--vault`            | vault      | vault                    | vault                                           |
 * | `--group`            | machine    | vault if there is one    | vault if there is one                           |
 * | none of them         | machine    | vault if there is one    | machine if it has a seed, else the vault if any |
 */
import { existsSync } from 'node:fs';
import { pinsPlace } from '../seeds/pins.ts';
import { pathsUnder } from '../system/paths.ts';
import { vaultFiles, vaultFolder } from '../vault/vault.ts';
import type { Options } from './options.ts';

export type Side = 'machine' | 'vault';

const isGiven = (options: Options, name: 'root' | 'host' | 'group' | 'vault'): boolean =>
  options.value(name) !== undefined;

/** Whose manifest is meant. */
export const manifestSide = (options: Options): Side =>
  isGiven(options, 'host') || isGiven(options, 'vault') ? 'vault' : 'machine';

/** Whose fixed folder is meant. */
export function folderSide(options: Options): Side {
  if (isGiven(options, 'root')) return 'machine';
  if (isGiven(options, 'vault')) return 'vault';
  return existsSync(vaultFiles(vaultFolder(undefined, process.env)).settings) ? 'vault' : 'machine';
}

/** Whose secret a name without a scope is; undefined if this machine has no seed and there is no vault. */
export function secretSide(options: Options): Side | undefined {
  if (isGiven(options, 'host')) return 'vault';
  if (isGiven(options, 'root')) return 'machine';
  if (isGiven(options, 'vault')) return 'vault';
  if (!isGiven(options, 'group') && existsSync(pinsPlace(pathsUnder('/')).file)) return 'machine';
  return folderSide(options) === 'vault' ? 'vault' : undefined;
}
