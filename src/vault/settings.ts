/** Reads `[vault.NAME]` of vault.toml: the settings of other vaults. */
import { homedir } from 'node:os';
import { resolve } from 'node:path';
import { scopeNamePattern } from '../derive/realm.ts';
import { Failure } from '../failure.ts';
import type { Json } from '../system/json.ts';

/** A command and its arguments, with `{name}` and the like in them. */
export type Command = readonly string[];

/** A vault that is read by commands, one for each verb. */
export interface CommandSettings {
  readonly type: 'command';
  readonly get: Command;
  readonly list: Command | undefined;
  readonly fingerprint: Command | undefined;
  readonly copy: Command | undefined;
  /** The file of a secret, with `{name}` in it. Allows list and fingerprint without opening anything. */
  readonly file: string | undefined;
  /** Whether one newline at the end of what `get` prints is not part of the secret. */
  readonly trim: boolean;
  /** Seconds. */
  readonly timeout: number;
  /** The working folder of the commands. */
  readonly folder: string;
}

/** A program that speaks the vault protocol. */
export interface ProgramSettings {
  readonly type: 'program';
  readonly program: string;
  /** Seconds. */
  readonly timeout: number;
  readonly folder: string;
}

/** gokey's own secrets, computed here. */
export interface GokeySettings {
  readonly type: 'gokey';
  /** A file that `gokey -t seed` made; undefined to derive from the master password alone. */
  readonly seed: string | undefined;
  /** Bytes to skip at the beginning of the seed file. */
  readonly skip: number;
  /** A file with the master password; undefined to ask for it. */
  readonly passwordFile: string | undefined;
}

/** The settings of another vault. */
export type OtherVaultSettings = CommandSettings | ProgramSettings | GokeySettings;

/** Expands `~/` at the beginning of a path. */
export const fromHome = (path: string): string => path.replace(/^~(?=\/)/, homedir());

/** Seconds. */
export const defaultTimeout = 60;

/** Reads the settings of other vaults. @throws Failure `malformed` */
export function readOtherVaults(top: Json, file: string, folder: string): ReadonlyMap<string, OtherVaultSettings> {
  return new Map(
    (top.at('vault').optional((item) => item.entries()) ?? []).map(([name, entry]) => {
      if (!scopeNamePattern.test(name))
        throw new Failure('malformed', `${file}: ${JSON.stringify(name)} is not the name of a vault`, {
          hint: 'lower-case letters, digits and . _ @ + -',
        });
      return [name, readOtherVault(entry, folder)];
    }),
  );
}

function readOtherVault(entry: Json, folder: string): OtherVaultSettings {
  const keys = entry.entries().map(([key]) => key);
  const allow = (...allowed: readonly string[]): void => {
    for (const key of keys)
      if (!allowed.includes(key)) throw entry.at(key).unexpected(`a key there: it has ${allowed.join(', ')}`);
  };
  const timeout = entry.at('timeout').optional((item) => item.whole(1, 3600)) ?? defaultTimeout;
  if (entry.at('type').optional((item) => item.oneOf(['gokey'])) === 'gokey') {
    allow('type', 'seed', 'skip', 'password-file');
    return {
      type: 'gokey',
      skip: entry.at('skip').optional((item) => item.whole(0, 1 << 30)) ?? 0,
      seed: pathOf(entry, 'seed', folder),
      passwordFile: pathOf(entry, 'password-file', folder),
    };
  }
  if (keys.includes('program')) {
    allow('program', 'timeout');
    return { type: 'program', program: pathOf(entry, 'program', folder) ?? '', timeout, folder };
  }
  allow('get', 'cmd', 'list', 'fingerprint', 'copy', 'file', 'trim', 'timeout');
  // lollypops' form: words, and the name after them.
  const words = entry.at('cmd').optional((item) =>
    item
      .text()
      .split(' ')
      .filter((word) => word !== ''),
  );
  return {
    type: 'command',
    get: words ? [...words, '{name}'] : commandOf(entry.at('get')),
    list: entry.at('list').optional(commandOf),
    fingerprint: entry.at('fingerprint').optional(commandOf),
    copy: entry.at('copy').optional(commandOf),
    file: entry.at('file').optional((item) => item.text()),
    trim: entry.at('trim').optional((item) => item.flag()) ?? true,
    timeout,
    folder,
  };
}

/** Reads a command. @throws Failure `malformed` */
export function commandOf(item: Json): Command {
  const command = item.list().map((word) => word.text());
  if (command.length === 0 || command[0] === '') throw item.unexpected('a command and its arguments');
  return command;
}

const pathOf = (entry: Json, key: string, folder: string): string | undefined =>
  entry.at(key).optional((item) => resolve(folder, fromHome(item.text())));

/** The vaults that need no settings, by name. */
export const knownVaults: Readonly<Record<string, (environment: NodeJS.ProcessEnv) => OtherVaultSettings>> = {
  pass: (environment) => passLike('pass', environment['PASSWORD_STORE_DIR'] ?? '~/.password-store', '.gpg'),
  gopass: () => ({
    ...passLike('gopass', '', ''),
    get: ['gopass', 'show', '--noparsing', '--', '{name}'],
    list: ['gopass', 'ls', '--flat'],
    file: undefined,
  }),
  passage: (environment) => passLike('passage', environment['PASSAGE_DIR'] ?? '~/.passage/store', '.age'),
};

const passLike = (program: string, store: string, ending: string): CommandSettings => ({
  type: 'command',
  get: [program, 'show', '--', '{name}'],
  list: undefined,
  fingerprint: undefined,
  copy: undefined,
  file: `${store}/{name}${ending}`,
  trim: true,
  timeout: defaultTimeout,
  folder: '/',
});
