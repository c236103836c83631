import { Failure } from '../failure.ts';
import { hostScope, type Scope } from '../seeds/scope.ts';
import { readSnapshot, type Snapshot } from '../snapshot/snapshot.ts';
import type { Paths } from '../system/paths.ts';

/**
 * The active snapshot; undefined before the first provision, and if this machine's seed does not authenticate it: then
 * everything is new.
 */
export function activeSnapshot(paths: Paths, scopes: readonly Scope[]): Snapshot | undefined {
  try {
    return readSnapshot(paths, hostScope(scopes));
  } catch (error) {
    if (error instanceof Failure && error.code === 'malformed') return undefined;
    throw error;
  }
}
