import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { Failure } from '../failure.ts';
import { defaultTimeout, knownVaults, type OtherVaultSettings } from '../vault/settings.ts';
import { CommandVault } from './command-vault.ts';
import { GokeyVault, type MasterPassword } from './gokey-vault.ts';
import type { OtherVault } from './protocol.ts';
import { ProtocolVault } from './protocol-vault.ts';

/**
 * Finds a vault by name: in vault.toml, else as a program `auxcred-vault-NAME` on the PATH, else among those that
 * auxcred knows.
 * @throws Failure `not-found`
 */
export function findVault(
  name: string,
  settings: ReadonlyMap<string, OtherVaultSettings>,
  masterPassword: MasterPassword,
  environment: NodeJS.ProcessEnv,
): OtherVault {
  const program = programOnPath(`auxcred-vault-${name}`, environment);
  const known = Object.hasOwn(knownVaults, name) ? knownVaults[name] : undefined;
  const chosen =
    settings.get(name) ??
    (program === undefined
      ? known?.(environment)
      : ({ type: 'program', program, timeout: defaultTimeout, folder: '/' } as const));
  switch (chosen?.type) {
    case 'command':
      return new CommandVault(name, chosen);
    case 'program':
      return new ProtocolVault(name, chosen);
    case 'gokey':
      return new GokeyVault(name, chosen, masterPassword);
    case undefined:
      throw new Failure('not-found', `there is no vault ${name}`, {
        hint:
          `[vault.${name}] in vault.toml with get = ["COMMAND", "{name}"], or a program auxcred-vault-${name}; ` +
          `${Object.keys(knownVaults).join(', ')} need no settings`,
      });
  }
}

/** The file that a shell would run by this name; undefined if there is none. */
export function programOnPath(program: string, environment: NodeJS.ProcessEnv): string | undefined {
  return (environment['PATH'] ?? '')
    .split(delimiter)
    .filter((folder) => folder.startsWith('/'))
    .map((folder) => join(folder, program))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}
