import { readFileSync } from 'node:fs';
import { Failure } from '../failure.ts';
import { trimSpace } from '../gokey/white-space.ts';
import { findVault } from '../other-vaults/find.ts';
import type { OtherVault } from '../other-vaults/protocol.ts';
import { askSecret } from '../terminal/prompt.ts';
import { readMachineVaults } from '../vault/vault.ts';
import type { Place } from './chosen-folder.ts';

/**
 * The other vault of that name, as configured in the operator's vault.toml or the machine's own.
 * @throws Failure `not-found`
 */
export const otherVault = (name: string, { vault, paths }: Place): OtherVault =>
  findVault(name, vault?.others ?? readMachineVaults(paths.vaults), (file) => masterPassword(name, file), process.env);

/** gokey's master password, trimmed if it comes from a file, as gokey does. @throws Failure `usage` if it is empty */
function masterPassword(name: string, file: string | undefined): Uint8Array {
  const password =
    file === undefined
      ? askSecret(`master password of ${name}`, `password-file = "FILE" in [vault.${name}]`)
      : trimSpace(readFileSync(file));
  if (password.length === 0) throw new Failure('usage', `the master password of ${name} is empty`);
  return password;
}
