/**
 * The vault protocol, by which auxcred asks other programs for secrets. docs/vaults.md shows how to write a vault in
 * ten lines.
 */

/** The request for one secret. */
export interface VaultRequest {
  /** The secret's name in the vault. */
  readonly name: string;
  /** The options in the manifest, which only the vault interprets. */
  readonly options: Readonly<Record<string, string>>;
  /** The host that the secret is for; undefined if there is none. */
  readonly host: string | undefined;
}

/** A file or folder for a deploy tool to copy. */
export interface CopyPair {
  readonly source: string;
  readonly destination: string;
}

/** A source of secrets. Every method may throw a Failure that names the vault. */
export interface OtherVault {
  /** Gets a secret. The caller wipes it. */
  get(request: VaultRequest): Uint8Array;
  /** The names of all secrets. */
  list(): string[];
  /** A text that changes with the secret, made without opening it; undefined if the vault has none. */
  fingerprint(request: VaultRequest): string | undefined;
  /** Copies the vault's files to a host, or returns what to copy. */
  copy(host: string, target: string): CopyPair[];
}
