import type { ScopeKind } from '../derive/tree.ts';

/** A scope whose seed this machine holds. */
export interface Scope {
  readonly kind: ScopeKind;
  readonly name: string;
  /** Counts from 1. */
  readonly epoch: number;
  /** 32 bytes. */
  readonly seed: Uint8Array;
}

/** `host/web1`, `group/db`. */
export const scopeName = (scope: Pick<Scope, 'kind' | 'name'>): string => `${scope.kind}/${scope.name}`;

/** Overwrites every seed. */
export function wipeScopes(scopes: readonly Scope[]): void {
  for (const scope of scopes) scope.seed.fill(0);
}
