/**
 * The vault protocol: how auxcred asks another program for its secrets. docs/vaults.md says how to write a vault in ten
 * lines.
 */

/** What a secret is asked for by. */
export interface VaultRequest {
  /** The secret's name in the vault. */
  readonly name: string;
  /** What else the manifest says, for the vault to make sense of. */
  readonly options: Readonly<Record<string, string>>;
  /** The host that it is for; undefined for none in particular. */
  readonly host: string | undefined;
}

/** A file or folder that a deploy tool has to copy. */
export interface CopyPair {
  readonly source: string;
  readonly destination: string;
}

/** Where secrets come from. Every method throws Failure, which names the vault. */
export interface OtherVault {
  /** The secret's bytes; the caller wipes them. */
  get(request: VaultRequest): Uint8Array;
  /** The names of all secrets. */
  list(): string[];
  /** A text that changes when the secret does, made without opening it; undefined if the vault can't tell. */
  fingerprint(request: VaultRequest): string | undefined;
  /** Brings the vault to a host, or says what has to be copied. */
  copy(host: string, target: string): CopyPair[];
}
