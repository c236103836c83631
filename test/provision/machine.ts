/** A machine's root folder, the seeds of a host and its group, and what becomes active from a manifest. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach } from 'node:test';
import { recipeValue } from '../../src/derive/value.ts';
import { FixedFolder } from '../../src/fixed/folder.ts';
import { fixedValues } from '../../src/fixed/value.ts';
import type { SecretDeclaration } from '../../src/manifest/declaration.ts';
import { manifestOf } from '../../src/manifest/manifest.ts';
import { activeSnapshot } from '../../src/provision/active-snapshot.ts';
import { runHook } from '../../src/provision/hook.ts';
import type { Hook } from '../../src/provision/provision.ts';
import { dryRun, type Provisioned, provision } from '../../src/provision/provision.ts';
import type { UnitStep } from '../../src/provision/running-units.ts';
import { type Scope, scopeSeedsOf, seedsOf } from '../../src/seeds/scope.ts';
import { readFixedFile } from '../../src/snapshot/snapshot.ts';
import { pathsUnder } from '../../src/system/paths.ts';

export let root = '';
export const paths = () => pathsUnder(root);

/** Creates an empty root folder before each test, and removes it after it. */
export function useRoot(): void {
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'provision-'));
  });
  afterEach(() => {
    rmSync(root, { recursive: true });
  });
}

export const scope = (kind: Scope['kind'], name: string, byte: number, epoch = 1): Scope => ({
  kind,
  name,
  epoch,
  seed: new Uint8Array(32).fill(byte),
});
export const scopes: readonly Scope[] = [scope('host', 'web1', 1), scope('group', 'db', 2)];
export const nextEpoch: readonly Scope[] = [scope('host', 'web1', 1), scope('group', 'db', 3, 2)];
export const november = new Date('2026-11-23T12:00:00Z');
export const december = new Date('2026-12-01T00:00:00Z');

export function declared(text: string): readonly SecretDeclaration[] {
  const { declarations, problems } = manifestOf([{ path: '/etc/auxcred/secrets.d/x.toml', text }]);
  assert.deepEqual(
    problems.filter(({ severity }) => severity === 'error'),
    [],
  );
  return declarations;
}

/** How a run differs from one in November, with the first seeds. */
export interface Given {
  readonly at?: Date;
  readonly with?: readonly Scope[];
  readonly hook?: Hook | 'later';
  readonly acceptEarlier?: boolean;
  readonly acceptOlder?: boolean;
  readonly counter?: number;
}
export const options = ({ at = november, acceptEarlier = false, acceptOlder = false, counter = 1 }: Given) => ({
  at,
  counter,
  sealing: { withKey: 'host', recovery: [], pcrs: [], pcrsAtFirstBoot: [], device: undefined } as const,
  acceptEarlier,
  acceptOlder,
});
export const put = (text: string, given: Given = {}): Provisioned =>
  provision(root, paths(), declared(text), given.with ?? scopes, { ...options(given), hook: given.hook ?? runHook });
export const plan = (text: string, given: Given = {}) =>
  dryRun(paths(), declared(text), given.with ?? scopes, options(given));
export const write = (name: string, value: string, these = scopes): void => {
  const [, at = '', path = ''] = /^([^/]+\/[^/]+)\/(.+)$/.exec(name) ?? [];
  new FixedFolder(paths().fixed).write({ scope: at, path }, Buffer.from(value), {
    seedOf: scopeSeedsOf(these),
    former: () => undefined,
  });
};

/** What a unit gets, from the snapshot alone. */
export function activeValue(unit: string, credential: string, these = scopes): string {
  const release = activeSnapshot(paths(), these)?.releases.find(
    (one) => one.unit === unit && one.credential === credential,
  );
  assert.ok(release, `${unit}/${credential}`);
  const seedOf = seedsOf(these);
  return new TextDecoder().decode(
    recipeValue(release.recipe, {
      seedOf,
      fixedValue: fixedValues(seedOf, (recipe) => readFixedFile(paths(), recipe)),
    }),
  );
}
export const fingerprints = (these = scopes): ReadonlyMap<string, string> =>
  activeSnapshot(paths(), these)?.fingerprints ?? new Map();
export const touched = (steps: readonly UnitStep[]): string[] =>
  steps.filter(({ action }) => action !== 'none').map(({ unit }) => unit);
