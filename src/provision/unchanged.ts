/** Detects that nothing changed, from a digest of the active snapshot's inputs: most runs have nothing to do. */

import { createHash } from 'node:crypto';
import { hex } from '../bytes.ts';
import { periodAt } from '../derive/period.ts';
import { ingredients } from '../derive/recipe.ts';
import { keyId } from '../derive/tree.ts';
import { Failure } from '../failure.ts';
import { digestOf } from '../fixed/file.ts';
import { FixedFolder } from '../fixed/folder.ts';
import { nameText, splitName } from '../fixed/name.ts';
import { rotates, type SecretDeclaration } from '../manifest/declaration.ts';
import type { Digests } from '../manifest/declared.ts';
import { hostScope, type Scope, scopeName } from '../seeds/scope.ts';
import { readSettled, type Settled, type Snapshot } from '../snapshot/snapshot.ts';
import type { Paths } from '../system/paths.ts';
import { version } from '../version.ts';

/** The inputs of a snapshot other than fixed files and the clock: SHA-256 in hexadecimal. */
export const inputsOf = (
  declarations: readonly SecretDeclaration[],
  scopes: readonly Scope[],
  {
    counter,
    tpmCounter,
    declared,
  }: {
    readonly counter: number;
    readonly tpmCounter: number | undefined;
    readonly declared?: Digests | undefined;
  },
): string =>
  createHash('sha256')
    .update(
      JSON.stringify({
        version,
        counter,
        tpmCounter,
        scopes: scopes.map((scope) => [scopeName(scope), scope.epoch, hex(keyId(scope.seed))]),
        declarations,
        declared: declared && [...declared],
      }),
    )
    .digest('hex');

/** Whether the active snapshot has the same inputs, so that nothing would change. */
export function isSettled(paths: Paths, scopes: readonly Scope[], inputs: string, at: Date): boolean {
  try {
    const settled = readSettled(paths, hostScope(scopes));
    const folder = new FixedFolder(paths.fixed);
    return (
      settled?.inputs === inputs &&
      settled.from <= at.getTime() &&
      at.getTime() < settled.until &&
      Object.entries(settled.fixed).every(([text, digest]) => {
        const name = splitName(text);
        const bytes = name && folder.read(name);
        return bytes !== undefined && digestOf(bytes) === digest;
      })
    );
  } catch (error) {
    // Written by another version.
    if (error instanceof Failure && error.code === 'malformed') return false;
    throw error;
  }
}

/** The inputs of a snapshot that is worked out at this time. */
export function settledOf(
  { releases }: Snapshot,
  declarations: readonly SecretDeclaration[],
  inputs: string,
  at: Date,
): Settled {
  const fixed = releases.flatMap(({ recipe }) => ingredients(recipe)).filter((source) => source.form === 'fixed');
  const periods = declarations.flatMap(({ content }) =>
    content.form === 'derived' && content.rotate !== undefined && rotates(content)
      ? [periodAt(content.rotate, at)]
      : [],
  );
  return {
    inputs,
    fixed: Object.fromEntries(fixed.map((source) => [nameText(source), source.file])),
    from: Math.max(0, ...periods.map(({ start }) => start.getTime())),
    until: Math.min(Number.MAX_SAFE_INTEGER, ...periods.map(({ end }) => end.getTime())),
  };
}
