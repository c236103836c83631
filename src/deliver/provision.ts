import type { SecretDeclaration } from '../manifest/declaration.ts';
import { groupId } from '../system/files.ts';
import type { Paths } from '../system/paths.ts';
import { encodeSnapshot, hostScope, installSnapshot, type Release } from '../store/snapshot.ts';
import { scopeName, type Scope } from '../store/scope.ts';

/** The group that may read the store: the broker's. */
export const brokerGroup = 'auxcred';

/** One release for each unit of each declared secret, in a fixed order. */
export function releasesOf(declarations: readonly SecretDeclaration[], scopes: readonly Scope[]): Release[] {
  const scope = scopeName(hostScope(scopes));
  return declarations
    .flatMap(({ name, options, generation, units, credential, delivery }) =>
      units.map((unit): Release => ({ unit, credential, delivery, scope, recipe: { name, options, period: '', generation } })))
    .sort((a, b) => Buffer.compare(Buffer.from(`${a.unit}/${a.credential}`), Buffer.from(`${b.unit}/${b.credential}`)));
}

/**
 * Puts the declared secrets in force for the broker.
 * @returns the releases, and whether anything changed
 */
export function provision(root: string, paths: Paths, declarations: readonly SecretDeclaration[], scopes: readonly Scope[]): { releases: Release[]; changed: boolean } {
  const releases = releasesOf(declarations, scopes);
  return { releases, changed: installSnapshot(paths, encodeSnapshot(releases, hostScope(scopes)), groupId(root, brokerGroup)) };
}
