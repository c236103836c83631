/** The name of a host or a group: one segment, so that a path below it can't be mistaken for another one's. */
export const scopeNamePattern = /^[a-z0-9_][a-z0-9._@+-]*$/;

/** The name of a secret: segments joined by `/`, lower-case, so that it means the same on every file system. */
export const namePattern = /^[a-z0-9_][a-z0-9._@+-]*(?:\/[a-z0-9_][a-z0-9._@+-]*)*$/;

/** Everything that names one derived secret. Two realms that differ anywhere share no key. */
export interface Realm {
  /** The kind of secret, or an auxiliary value's own type. */
  readonly type: string;
  readonly name: string;
  /** `2026`, `2026-Q4`, `2026-11`, `2026-W47`, `2026-11-23`, or empty for a secret that does not rotate. */
  readonly period: string;
  /** Counts from 1. */
  readonly generation: number;
  /** `key=value\n` for every option, defaults filled in, in byte order of the keys. */
  readonly params: string;
}
