/** The operator's vault that a call is about, a host in it, and its fleet seed. */
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { Identities } from '../age/identities.ts';
import { askSecret } from '../terminal/prompt.ts';
import { hostOf, readVault, type Vault, type VaultHost, vaultFiles, vaultFolder } from '../vault/vault.ts';
import type { Options } from './options.ts';

/** The vault that `--vault=` names, else the operator's usual one. @throws Failure */
export const chosenVault = (options: Options): Vault => readVault(vaultFolder(options.value('vault'), process.env));

/**
 * The vault, and the host in it that `--host=` names.
 * @throws Failure `usage` without the option, `not-found` for an unknown host
 */
export function chosenHost(options: Options): { readonly vault: Vault; readonly host: VaultHost } {
  const vault = chosenVault(options);
  const name = options.value('host');
  if (name === undefined)
    throw options.lacks(
      'a host whose secret is meant',
      `--host=${[...vault.hosts.keys()].join(', --host=') || 'HOST'}`,
    );
  return { vault, host: hostOf(vault, name) };
}

/** Opens the fleet seed for `work` and wipes it afterwards. @throws Failure */
export async function withFleetSeed<T>(
  vault: Vault,
  options: Options,
  work: (fleetSeed: Uint8Array) => T | Promise<T>,
): Promise<T> {
  // Loaded only here, so that commands on a machine need not wait for the age library.
  const { openFleetSeed } = await import('../vault/fleet-seed.ts');
  const fleetSeed = await openFleetSeed(vaultFiles(vault.folder).seed, fleetKeys(vault, options));
  try {
    return await work(fleetSeed);
  } finally {
    fleetSeed.fill(0);
  }
}

/** The identities from the options, else the vault's, else the user's own. */
export function fleetKeys(vault: Vault, options: Options): Identities {
  const named = [
    ...options.list('identity'),
    ...(process.env['AUXCRED_IDENTITY'] === undefined ? [] : [process.env['AUXCRED_IDENTITY']]),
  ];
  const own = [
    join(process.env['XDG_CONFIG_HOME'] ?? join(homedir(), '.config'), 'age/keys.txt'),
    join(homedir(), '.ssh/id_ed25519'),
  ];
  return {
    identities: named.length > 0 ? named : vault.identities.length > 0 ? vault.identities : own,
    passphrase: () =>
      Promise.resolve(
        new TextDecoder().decode(
          askSecret('passphrase of the fleet seed', '--identity=FILE opens a fleet seed that is encrypted to a key'),
        ),
      ),
    hint: '--identity=FILE, AUXCRED_IDENTITY, or identity = ["FILE"] in vault.toml',
  };
}
