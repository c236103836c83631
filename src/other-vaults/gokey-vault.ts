import { Failure } from '../failure.ts';
import { type GokeyType, gokey, gokeyTypes } from '../gokey/gokey.ts';
import { readIfPresent } from '../system/files.ts';
import type { GokeySettings } from '../vault/settings.ts';
import type { CopyPair, OtherVault, VaultRequest } from './protocol.ts';

/** Gets the master password, from a file or by asking. The caller wipes it. */
export type MasterPassword = (file: string | undefined) => Uint8Array;

/**
 * Derives gokey's secrets, byte for byte as the program does. The name is the realm; `type` and `length` are options.
 */
export class GokeyVault implements OtherVault {
  readonly #name: string;
  readonly #settings: GokeySettings;
  readonly #masterPassword: MasterPassword;
  #known: Uint8Array | undefined;

  constructor(name: string, settings: GokeySettings, masterPassword: MasterPassword) {
    this.#name = name;
    this.#settings = settings;
    this.#masterPassword = masterPassword;
  }

  get({ name: realm, options }: VaultRequest): Uint8Array {
    const unknown = Object.keys(options).find((key) => key !== 'type' && key !== 'length');
    if (unknown !== undefined) throw this.#fail(`has no option ${unknown}`, 'type and length, as gokey -t and -l');
    const type = this.#type(options['type'] ?? 'pass');
    const length = options['length'];
    if (length !== undefined && !/^[1-9]\d{0,5}$/.test(length))
      throw this.#fail(`has no secrets of length ${length}`, 'options = { length = "16" }');
    const seed = this.#seed();
    // Asked for once for all secrets.
    this.#known ??= this.#masterPassword(this.#settings.passwordFile);
    try {
      // A vault without a seed file means that the master password is enough.
      return gokey({
        masterPassword: this.#known,
        realm,
        type,
        allowUnsafe: true,
        ...(seed ? { seed } : {}),
        ...(length === undefined ? {} : { length: Number(length) }),
      });
    } finally {
      seed?.fill(0);
    }
  }

  list(): string[] {
    throw this.#fail(
      "can't list its secrets",
      'gokey derives any name: give auxcred import names after the destination',
    );
  }

  /** None: it would take the master password, with which the value is as cheap. */
  fingerprint(): string | undefined {
    return undefined;
  }

  copy(): CopyPair[] {
    return [];
  }

  #type(text: string): GokeyType {
    const type = gokeyTypes.find((candidate) => candidate === text);
    if (type) return type;
    if (/^rsa/.test(text))
      throw this.#fail(
        `makes no ${text} keys itself`,
        'get = ["gokey", "-P", "FILE", "-s", "SEED", "-r", "{name}", "-t", "rsa4096"] in a vault of its own',
      );
    throw this.#fail(`has no type ${text}`, `one of ${gokeyTypes.join(', ')}`);
  }

  #seed(): Uint8Array | undefined {
    const { seed: file, skip } = this.#settings;
    if (file === undefined) return undefined;
    const bytes = readIfPresent(file, 'read');
    if (!bytes) throw this.#fail(`has no seed file at ${file}`, 'seed = "FILE", as gokey -t seed made it');
    const seed = bytes.slice(skip);
    bytes.fill(0);
    return seed;
  }

  #fail(what: string, hint: string): Failure {
    return new Failure('vault', `the vault ${this.#name} ${what}`, { hint });
  }
}
