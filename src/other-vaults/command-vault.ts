import { createHash } from 'node:crypto';
import { type Dirent, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Failure } from '../failure.ts';
import { readIfPresent } from '../system/files.ts';
import { type Command, type CommandSettings, fromHome } from '../vault/settings.ts';
import { linesOf, nothingGiven, runVault } from './program.ts';
import type { CopyPair, OtherVault, VaultRequest } from './protocol.ts';
import { pairsOf } from './protocol-vault.ts';

/** A vault that is read by the commands in vault.toml. */
export class CommandVault implements OtherVault {
  readonly #name: string;
  readonly #settings: CommandSettings;

  constructor(name: string, settings: CommandSettings) {
    this.#name = name;
    this.#settings = settings;
  }

  get(request: VaultRequest): Uint8Array {
    const value = this.#run(this.#settings.get, request.name, wordsFor(request));
    const length = this.#settings.trim ? lengthWithoutNewline(value) : value.length;
    if (length === 0) throw nothingGiven(this.#name, request.name);
    const trimmed = Uint8Array.from(value.subarray(0, length));
    value.fill(0);
    return trimmed;
  }

  list(): string[] {
    const { list, file, folder } = this.#settings;
    if (list) return linesOf(this.#run(list, '', {}, true));
    const [before = '', after, ...more] = file === undefined ? [] : resolve(folder, fromHome(file)).split('{name}');
    if (after === undefined || more.length > 0)
      throw new Failure('vault', `the vault ${this.#name} can't list its secrets`, {
        hint: `list = ["COMMAND"] or file = "FOLDER/{name}.gpg" in [vault.${this.#name}]`,
      });
    return namesBelow(before)
      .filter((name) => name.endsWith(after))
      .map((name) => name.slice(0, name.length - after.length))
      .sort();
  }

  fingerprint(request: VaultRequest): string | undefined {
    const { fingerprint, file, folder } = this.#settings;
    if (fingerprint) return linesOf(this.#run(fingerprint, request.name, wordsFor(request)))[0];
    if (file === undefined) return undefined;
    const bytes = readIfPresent(resolve(folder, fromHome(filled(file, wordsFor(request)))));
    return bytes && createHash('sha256').update(bytes).update(JSON.stringify(request)).digest('hex');
  }

  copy(host: string, target: string): CopyPair[] {
    const { copy } = this.#settings;
    if (!copy) return [];
    return pairsOf(this.#name, this.#run(copy, `the files of ${host}`, { host, target }));
  }

  #run(command: Command, asked: string, words: Readonly<Record<string, string>>, isList = false): Uint8Array {
    const { folder, timeout } = this.#settings;
    return runVault({
      vault: this.#name,
      asked,
      command: command.map((word) => fromHome(filled(word, words))),
      folder,
      timeout,
      protocol: false,
      isList,
    });
  }
}

/** The length without one `\n` or `\r\n` at the end. */
function lengthWithoutNewline(value: Uint8Array): number {
  if (value.at(-1) !== 0x0a) return value.length;
  return value.length - (value.at(-2) === 0x0d ? 2 : 1);
}

const wordsFor = ({ name, options, host }: VaultRequest): Record<string, string> => ({
  ...Object.fromEntries(Object.entries(options).map(([key, value]) => [`options.${key}`, value])),
  name,
  host: host ?? '',
});

/** Replaces the names in braces by their words. Other names stay, as they may be the command's own. */
const filled = (text: string, words: Readonly<Record<string, string>>): string =>
  text.replaceAll(/\{([a-z][a-z0-9._-]*)\}/g, (whole, name: string) =>
    Object.hasOwn(words, name) ? (words[name] ?? '') : whole,
  );

function namesBelow(folder: string, prefix = ''): string[] {
  let entries: Dirent[];
  try {
    entries = readdirSync(join(folder, prefix), { withFileTypes: true });
  } catch (error) {
    throw new Failure('vault', `${join(folder, prefix)} can't be listed`, {
      hint: 'check that the vault exists',
      cause: error,
    });
  }
  return entries
    .filter((entry) => !entry.name.startsWith('.'))
    .flatMap((entry) =>
      entry.isDirectory() ? namesBelow(folder, `${prefix}${entry.name}/`) : [`${prefix}${entry.name}`],
    );
}
