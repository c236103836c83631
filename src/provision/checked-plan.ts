/** Works out what activating a manifest would do, and checks everything that could prevent it. */
import { checkHashable } from '../derive/hash.ts';
import { type Fixed, ingredients, type Recipe } from '../derive/recipe.ts';
import { checkQuotable, recipeValue, type Sources } from '../derive/value.ts';
import { Failure } from '../failure.ts';
import { FixedFiles } from '../fixed/fixed-files.ts';
import { FixedFolder } from '../fixed/folder.ts';
import { fixedValues } from '../fixed/value.ts';
import type { SecretDeclaration } from '../manifest/declaration.ts';
import { largestSecret } from '../manifest/options.ts';
import { hostScope, type Scope, scopeSeedsOf, seedsOf } from '../seeds/scope.ts';
import { refuseOldSeeds } from '../seeds/tpm-counter.ts';
import { type FingerprintLabel, type Release, readFixedFile, releaseKey, type Snapshot } from '../snapshot/snapshot.ts';
import type { Paths } from '../system/paths.ts';
import { activeSnapshot } from './active-snapshot.ts';
import { withFingerprint } from './fingerprint.ts';
import { Hashes, hashesIn } from './hashes.ts';
import { type Plan, type PlanInputs, planOf } from './plan.ts';

/** What a caller says about a machine at this moment, beside its manifest and its seeds. */
export interface Circumstances
  extends Pick<PlanInputs, 'at' | 'acceptEarlier' | 'acceptOlder' | 'undelivered' | 'declared'> {
  /** The counter of the seeds.age that was opened. */
  readonly counter: number;
  /** The fixed folder as it will be, if it differs from the present one. */
  readonly folder?: FixedFolder;
}

/** A plan of which everything can become active, and what its parts are computed with. */
export interface CheckedPlan {
  readonly plan: Plan;
  readonly before: Snapshot | undefined;
  readonly sources: Sources;
  readonly hashes: Hashes;
  /** The file of a fixed secret, from the fixed folder or the active snapshot. */
  fileOf(recipe: Fixed): Uint8Array | undefined;
  /** The plan if these secrets stay unchanged. */
  planWith(held: ReadonlyMap<string, Recipe>): Plan;
  /** The fingerprints of all releases of a plan. */
  fingerprintsOf(plan: Plan): Map<string, string>;
}

/**
 * Works out what activating the manifest would do, and checks everything that could prevent it. Changes nothing.
 * @param paths - undefined for a remote machine, of which only the manifest and the fixed folder are known
 * @param work - gets the result, whose keys are wiped afterwards
 * @throws Failure as {@link planOf} does; `older` for old seeds, `invalid-manifest` for a secret that is too long,
 * `malformed` for one that can't be hashed or quoted or whose file is damaged, and whatever `work` throws
 */
export function withCheckedPlan<T>(
  paths: Paths | undefined,
  declarations: readonly SecretDeclaration[],
  scopes: readonly Scope[],
  given: Circumstances,
  work: (checked: CheckedPlan) => T,
): T {
  const before = paths && activeSnapshot(paths, scopes);
  if (given.acceptOlder !== true) refuseOldSeeds(given.counter, before?.counter ?? 0);
  const activeFixed = before?.releases
    .flatMap(({ recipe }) => ingredients(recipe))
    .filter((source) => source.form === 'fixed');
  const fixedFiles = new FixedFiles(
    given.folder ?? new FixedFolder(paths?.fixed ?? ''),
    scopeSeedsOf(scopes),
    activeFixed,
  );
  // What a hook holds back, and the old value that it gets, may exist only in the snapshot.
  const fileOf = (recipe: Fixed): Uint8Array | undefined =>
    fixedFiles.bytes(recipe) ?? (paths && readFixedFile(paths, recipe));
  const seedOf = seedsOf(scopes);
  const sources: Sources = { seedOf, fixedValue: fixedValues(seedOf, fileOf) };
  const hashes = new Hashes(before, sources);
  return withFingerprint(hostScope(scopes).seed, (fingerprint) => {
    const fingerprintOf = (release: Release, label: FingerprintLabel): string => {
      const value = checkedValue(release, hashes, sources);
      try {
        return fingerprint(label, release.unit, release.credential, value);
      } finally {
        value.fill(0);
      }
    };
    const planWith = (held: ReadonlyMap<string, Recipe>): Plan =>
      planOf(declarations, scopes, before, { ...given, fixed: fixedFiles.find, fingerprint: fingerprintOf, held });
    const plan = planWith(new Map());
    const changed = new Set(plan.changes.map(releaseKey));
    for (const release of plan.releases) if (changed.has(releaseKey(release))) checkNew(release, hashes, sources);
    const fingerprintsOf = ({ releases, fingerprints }: Plan): Map<string, string> =>
      new Map(
        releases.map((release) => [
          releaseKey(release),
          fingerprints.get(releaseKey(release)) ?? fingerprintOf(release, 'release'),
        ]),
      );
    return work({ plan, before, sources, hashes, fileOf, planWith, fingerprintsOf });
  });
}

/**
 * A value that becomes active; the caller wipes it. The length of a text with fixed secrets is known only now;
 * everything else was checked with the manifest.
 */
function checkedValue({ unit, credential, recipe }: Release, hashes: Hashes, sources: Sources): Uint8Array {
  const value = recipeValue(hashes.fill(recipe), sources);
  if (value.length <= largestSecret) return value;
  value.fill(0);
  throw new Failure(
    'invalid-manifest',
    `${credential} of ${unit} has ${String(value.length)} bytes, and at most ${String(largestSecret)} can be delivered`,
    { hint: 'split the secret' },
  );
}

/**
 * Checks of a release that need its value: what it hashes can be hashed, it is not too long, and what it quotes is
 * text.
 */
function checkNew(release: Release, hashes: Hashes, sources: Sources): void {
  for (const hashed of hashesIn(release.recipe)) checkHashable(sources, hashed);
  if (release.recipe.form !== 'template') return;
  checkQuotable(release.recipe, sources);
  if (ingredients(release.recipe).every(({ form }) => form === 'derived')) return;
  checkedValue(release, hashes, sources).fill(0);
}
