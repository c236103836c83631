import type { ScopeKind } from '../derive/tree.ts';
import type { SeedOf } from '../derive/value.ts';
import { Failure } from '../failure.ts';
import type { ScopeSeed } from '../fixed/folder.ts';

/** A scope whose seed this machine holds. */
export interface Scope {
  readonly kind: ScopeKind;
  readonly name: string;
  /** Counts from 1. */
  readonly epoch: number;
  /** 32 bytes. */
  readonly seed: Uint8Array;
}

/** The name of a scope: `host/web1`, `group/db`. */
export const scopeName = (scope: Pick<Scope, 'kind' | 'name'>): string => `${scope.kind}/${scope.name}`;

/** Makes a lookup of these seeds by scope and epoch, which throws Failure `not-found`. */
export function seedsOf(scopes: readonly Scope[]): SeedOf {
  const seeds = new Map(scopes.map((scope) => [scopeName(scope), scope]));
  return (name, epoch) => {
    const scope = seeds.get(name);
    if (scope?.epoch !== epoch)
      throw new Failure(
        'not-found',
        `this machine holds no seed for ${name}${scope ? ` in epoch ${String(epoch)}` : ''}`,
        { hint: 'run auxcred provision' },
      );
    return scope.seed;
  };
}

/** Makes a lookup of seed and epoch by the scope's name, which throws Failure `not-found`. */
export function scopeSeedsOf(scopes: readonly Scope[]): ScopeSeed {
  const byName = new Map(scopes.map((scope) => [scopeName(scope), scope]));
  return (name) => {
    const scope = byName.get(name);
    if (!scope)
      throw new Failure('not-found', `there is no seed for ${name} here`, {
        hint: `scopes here are ${[...byName.keys()].join(', ')}`,
      });
    return scope;
  };
}

/** Overwrites every seed. */
export function wipeScopes(scopes: readonly Scope[]): void {
  for (const scope of scopes) scope.seed.fill(0);
}

/** The machine's own scope, whose seed authenticates the snapshot. @throws Failure `malformed` if there is none */
export function hostScope(scopes: readonly Scope[]): Scope {
  const host = scopes.find((scope) => scope.kind === 'host');
  if (!host) throw new Failure('malformed', 'seeds.age holds no seed of this host', { hint: 'run auxcred seal' });
  return host;
}
