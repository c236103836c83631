import type { KindOptions } from '../derive/kind.ts';

/** How a secret reaches its unit. */
export const deliveries = ['socket', 'stage'] as const;
export type Delivery = (typeof deliveries)[number];

/** One `[secret.NAME]` of the manifest, checked, defaults filled in. */
export interface SecretDeclaration {
  readonly name: string;
  readonly options: KindOptions;
  /** Counts from 1; a higher one is another secret. */
  readonly generation: number;
  /** Services, or templates for all their instances. */
  readonly units: readonly string[];
  /** The credential's id, under which the unit reads it. */
  readonly credential: string;
  readonly delivery: Delivery;
  readonly file: string;
}

/** What is wrong with a manifest, where, and the way out. */
export interface Problem {
  readonly severity: 'error' | 'warning';
  readonly file: string;
  /** Counts from 1. */
  readonly line: number | undefined;
  /** `secret.db-password.length`. */
  readonly key: string | undefined;
  readonly message: string;
  readonly hint: string | undefined;
}
