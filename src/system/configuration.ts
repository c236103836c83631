/**
 * `/etc/auxcred/configuration.json`, written by the module of a system whose configuration renders what `apply` and
 * `seal` write elsewhere: the manifest, the units' drop-ins, the broker's drop-in, enabled units, and, if it says so,
 * the pins. auxcred never writes these there.
 */

import { readFileSync } from 'node:fs';
import { systemCode } from '../failure.ts';
import { Json } from './json.ts';
import type { Paths } from './paths.ts';

/** The kinds of systems whose configuration can render auxcred's files. */
export const renderingSystems = ['nixos'] as const;

/** The content of configuration.json. */
export interface Configuration {
  readonly system: (typeof renderingSystems)[number];
  /** The command that activates a changed configuration, such as `nixos-rebuild switch`. */
  readonly switch: string;
  /** Whether scopes.json comes from the configuration too. */
  readonly pins: boolean;
  /** Folders in which hooks find programs, before those of other systems, as in PATH; undefined if it names none. */
  readonly hookPath: string | undefined;
}

/** The options of the module, as hints name them. */
export const moduleOptions = {
  pins: 'auxcred.seal.pins',
  withKey: 'auxcred.seal.withKey',
  alsoWithKey: 'auxcred.seal.alsoWithKey',
  device: 'auxcred.seal.tpm2Device',
  sshHostKey: 'auxcred.seal.sshHostKey',
} as const;

/** Parses the file. @throws Failure `malformed` */
export function parseConfiguration(bytes: Uint8Array, file: string): Configuration {
  const json = Json.parse(bytes, file, "the system's configuration writes it: switch to a configuration again");
  json.version(1);
  const command = json.at('switch').text();
  if (!/^[\x20-\x7e]+$/.test(command)) throw json.at('switch').unexpected('a command');
  return {
    system: json.at('system').oneOf(renderingSystems),
    switch: command,
    pins: json.at('pins').flag(),
    hookPath: json.at('hookPath').optional(folders),
  };
}

function folders(item: Json): string {
  const path = item.text();
  if (!/^\/[^:\0]*(?::\/[^:\0]*)*$/.test(path)) throw item.unexpected('absolute paths with colons in between');
  return path;
}

/** The configuration of a system; undefined if auxcred itself writes there. @throws Failure `malformed` */
export function configurationOf({ configuration }: Pick<Paths, 'configuration'>): Configuration | undefined {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(configuration);
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw error;
  }
  return parseConfiguration(bytes, configuration);
}
