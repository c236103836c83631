/** The name of a host or a group: one segment, so that its end is clear when a path follows it. */
export const scopeNamePattern = /^[a-z0-9_][a-z0-9._@+-]*$/;

/** The name of a secret: segments joined by `/`, in lower case, so that it means the same on every file system. */
export const namePattern = /^[a-z0-9_][a-z0-9._@+-]*(?:\/[a-z0-9_][a-z0-9._@+-]*)*$/;

/** Everything that identifies one derived secret. Two realms that differ in any field have unrelated secrets. */
export interface Realm {
  /** The kind of secret, or the type of an auxiliary value such as a salt. */
  readonly type: string;
  readonly name: string;
  /** `2026`, `2026-Q4`, `2026-11`, `2026-W47` or `2026-11-23`; empty for a secret that does not rotate. */
  readonly period: string;
  /** Counts from 1. */
  readonly generation: number;
  /** `key=value\n` for each option, defaults filled in, in byte order of the keys. */
  readonly params: string;
}
