/** Finds the secrets of a manifest that this machine could not deliver now. Changes nothing. */
import { ingredients, type Recipe } from '../derive/recipe.ts';
import { recipeValue } from '../derive/value.ts';
import { Failure } from '../failure.ts';
import type { SecretDeclaration } from '../manifest/declaration.ts';
import { dependenciesOf } from '../manifest/dependencies.ts';
import type { Manifest } from '../manifest/manifest.ts';
import { activeSnapshot } from '../provision/active-snapshot.ts';
import { withCheckedPlan } from '../provision/checked-plan.ts';
import { refuseForeignCredentials } from '../provision/credential-store.ts';
import { hashesIn } from '../provision/hashes.ts';
import { openPinnedSeeds } from '../seeds/open.ts';
import type { Sealing } from '../seeds/payload.ts';
import { hostScope, wipeScopes } from '../seeds/scope.ts';
import { refuseRewound } from '../seeds/tpm-counter.ts';
import { moduleOptions } from '../system/configuration.ts';
import { textIfPresent } from '../system/files.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import { openersOf } from './openers.ts';

/** A secret that can't be served, and why. */
export interface Unservable {
  readonly secret: string;
  readonly failure: Failure;
}

/**
 * The broker of a configuration gets only the keys that the configuration names.
 * @throws Failure `refused` if it could not open these seeds
 */
function refuseKeyless({ withKey }: Sealing, keys: readonly string[]): void {
  if (keys.length === 0 || keys.includes(withKey)) return;
  throw new Failure(
    'refused',
    `the seed is sealed with --with-key=${withKey}, but the broker would have access only to ${keys.join(', ')}`,
    {
      hint:
        `${moduleOptions.alsoWithKey} = [ "${withKey}" ] until the seed is resealed: ` +
        `auxcred reseal --with-key=${keys[0] ?? ''}`,
    },
  );
}

/**
 * Opens the seeds, unless nothing is declared, finds the fixed files and computes every value.
 * @param keys - what the broker can open seeds with, as --with-key= names it; empty if that is as it is now
 * @throws Failure if the seeds do not open, or nothing at all can be activated
 */
export async function unservableOf(
  root: string,
  device: string | undefined,
  { declarations, files }: Pick<Manifest, 'declarations' | 'files'>,
  keys: readonly string[],
): Promise<Unservable[]> {
  // Enabled before it is sealed: there is nothing to serve yet.
  if (declarations.length === 0) return [];
  const paths = pathsUnder(root);
  const opened = await openPinnedSeeds(paths, openersOf(paths, device)).catch((error: unknown) => {
    // The broker has the seeds, and goes on with what is declared already.
    if (error instanceof Failure && error.code === 'until-boot' && isPresent(paths, files)) return undefined;
    throw error;
  });
  if (opened === undefined) return [];
  const { payload, counter } = opened;
  const { scopes } = payload;
  try {
    refuseKeyless(payload.sealing, keys);
    refuseRewound(counter, activeSnapshot(paths, scopes)?.tpmCounter);
    const options = { at: new Date(), counter: payload.counter, acceptEarlier: false };
    const judge = (some: readonly SecretDeclaration[]): Failure | undefined =>
      attempt(() => {
        refuseForeignCredentials(paths, some, hostScope(scopes));
        withCheckedPlan(paths, some, scopes, options, ({ plan, sources }) => {
          for (const { recipe } of plan.releases) if (isQuick(recipe)) recipeValue(recipe, sources).fill(0);
        });
      });
    return unservableWith(declarations, judge);
  } finally {
    wipeScopes(scopes);
  }
}

/** Whether this is what the configuration declares already. */
const isPresent = ({ configured }: Paths, files: Manifest['files']): boolean => {
  const [file, ...more] = files;
  return more.length === 0 && file !== undefined && file.text === textIfPresent(configured);
};

/** Whether the value needs no password hash, which is slow and can't fail where its phrase can be had. */
const isQuick = (recipe: Recipe): boolean => hashesIn(recipe).length === 0 && ingredients(recipe).length > 0;

/** Judges all at once, which is the ordinary case, and each by itself only if that fails. @throws Failure */
function unservableWith(
  declarations: readonly SecretDeclaration[],
  judge: (some: readonly SecretDeclaration[]) => Failure | undefined,
): Unservable[] {
  const whole = judge(declarations);
  if (!whole) return [];
  const byName = new Map(declarations.map((declaration) => [declaration.name, declaration]));
  const found = declarations.flatMap((declaration) => {
    const failure = judge(withParts(declaration, byName));
    return failure ? [{ secret: declaration.name, failure }] : [];
  });
  if (found.length === 0) throw whole;
  return found;
}

/** A declaration and all that it is made of, which then reach no unit by themselves. */
function withParts(
  declaration: SecretDeclaration,
  byName: ReadonlyMap<string, SecretDeclaration>,
): readonly SecretDeclaration[] {
  const found = new Map([[declaration.name, declaration]]);
  for (const { content } of found.values())
    for (const { name } of dependenciesOf(content, (other) => byName.has(other))) {
      const part = byName.get(name);
      if (part && !found.has(name)) found.set(name, { ...part, units: [], delivery: 'socket', placement: undefined });
    }
  return [...found.values()];
}

function attempt(work: () => void): Failure | undefined {
  try {
    work();
    return undefined;
  } catch (error) {
    if (error instanceof Failure) return error;
    throw error;
  }
}
