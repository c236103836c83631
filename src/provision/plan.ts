/** Compares what the manifest asks for with what is active. Changes nothing. */
import { parsePeriod } from '../derive/period.ts';
import { type FixedLookup, type Recipe, sameRecipe } from '../derive/recipe.ts';
import { Failure } from '../failure.ts';
import {
  anyUnit,
  credentialsOf,
  type Delivery,
  type Part,
  type Placement,
  receiversOf,
  type SecretDeclaration,
  type UnitAction,
} from '../manifest/declaration.ts';
import type { Digests } from '../manifest/declared.ts';
import { dependenciesOf } from '../manifest/dependencies.ts';
import { Recipes, type Standpoint } from '../manifest/recipes.ts';
import { hostScope, type Scope, scopeName } from '../seeds/scope.ts';
import { acceptOlder } from '../seeds/tpm-counter.ts';
import { type FingerprintLabel, type History, type Release, releaseKey, type Snapshot } from '../snapshot/snapshot.ts';
import { changedFields, difference, type Field } from './recipe-difference.ts';

/** A unit's credential that will change. */
export interface ReleaseChange {
  readonly unit: string;
  readonly credential: string;
  /** `new`, `removed`, or what changes: `period 2026-10 -> 2026-11`. */
  readonly why: string;
  /** Whether the unit gets the same bytes, only made or delivered differently. */
  readonly sameValue: boolean;
  /** What the unit has to do to see the change; `none` for the same bytes in the same place. */
  readonly action: UnitAction;
  /** Whether it is a file, for which a reload is enough on every systemd. */
  readonly file?: true;
  /** Whether the configuration declares the secret differently, so that its switch restarts the unit. */
  readonly declared?: true;
}

/** An active secret that will be replaced. */
export interface Replacement {
  readonly declaration: SecretDeclaration;
  readonly before: Recipe;
  readonly after: Recipe;
}

/** What activating a manifest would change, and what is active afterwards. */
export interface Plan {
  readonly releases: readonly Release[];
  /** The recipe of each secret that a unit gets or that is part of another one. */
  readonly secrets: ReadonlyMap<string, Recipe>;
  readonly changes: readonly ReleaseChange[];
  /** The fingerprint of each active release, by {@link releaseKey}; those of new releases are not computed yet. */
  readonly fingerprints: ReadonlyMap<string, string>;
  readonly replaced: readonly Replacement[];
}

/** What {@link planOf} compares with, beside the manifest, the seeds and what is active. */
export interface PlanInputs {
  /** The time that determines the periods. */
  readonly at: Date;
  /** Whether a past period may become active again. */
  readonly acceptEarlier: boolean;
  /** Whether a fixed secret's file may be older than the active one. */
  readonly acceptOlder?: boolean;
  /** Reads the file of a fixed secret. */
  readonly fixed: FixedLookup;
  /** Computes a release's fingerprint. Called only if its recipe changed, or the recorded one has another label. */
  readonly fingerprint: (release: Release, label: FingerprintLabel) => string;
  /** What the configuration declares, if one renders the manifest. */
  readonly declared?: Digests | undefined;
  /** Secrets that stay unchanged. */
  readonly held?: ReadonlyMap<string, Recipe>;
  /** Active releases, by {@link releaseKey}, that are missing or altered where units read them. */
  readonly undelivered?: ReadonlySet<string>;
}

/** The present state of a machine with these scopes. */
export const standpointOf = (scopes: readonly Scope[], at: Date, fixed: FixedLookup): Standpoint => ({
  host: scopeName(hostScope(scopes)),
  epochs: new Map(scopes.map((scope) => [scopeName(scope), scope.epoch])),
  at,
  fixed,
});

/** A secret's active recipe; undefined if there is none. */
export const activeRecipe = (history: History | undefined, name: string): Recipe | undefined =>
  history?.get(name)?.at(-1)?.recipe;

/**
 * Plans the activation of these declarations.
 * @param before - what is active; undefined if nothing is
 * @throws Failure `not-found` if a scope's seed or a fixed secret is missing, `clock` if the clock is before a recorded
 * period, `older` for a file that is older than the active one
 */
export function planOf(
  declarations: readonly SecretDeclaration[],
  scopes: readonly Scope[],
  before: Snapshot | undefined,
  options: PlanInputs,
): Plan {
  const recipes = new Recipes(declarations, standpointOf(scopes, options.at, options.fixed), options.held);
  const secrets = recipesOf(neededNames(declarations), recipes);
  if (!options.acceptEarlier) refuseEarlier(secrets, before?.history, options.at, heldByManifest(declarations));
  if (options.acceptOlder !== true) refuseOlder(secrets, before?.history);
  const comparison = new Comparison(before, options);
  const releases = declarations.flatMap((declaration) =>
    receiversOf(declaration).flatMap((unit) =>
      credentialsOf(declaration).map(({ id, part }) => {
        const recipe = recipes.of(declaration.name, part);
        const release = releaseOf(declaration, unit, id, { recipe, ...declaredFor(declaration, options.declared) });
        comparison.add(declaration, part, release);
        return release;
      }),
    ),
  );
  const changes = [...comparison.changes, ...comparison.removed()];
  const replaced = replacementsIn(declarations, before?.history, secrets, comparison.kept);
  return {
    releases: sorted(releases),
    secrets,
    changes: sorted(changes),
    fingerprints: comparison.fingerprints,
    replaced,
  };
}

/** Secrets whose period the manifest fixes, whatever the clock says. */
const heldByManifest = (declarations: readonly SecretDeclaration[]): ReadonlySet<string> =>
  new Set(
    declarations
      .filter(({ content }) => content.form === 'derived' && content.period !== undefined)
      .map(({ name }) => name),
  );

const declaredFor = ({ name }: SecretDeclaration, digests: Digests | undefined): Pick<Release, 'declared'> => {
  const digest = digests?.get(name);
  return digest === undefined ? {} : { declared: { secret: name, digest } };
};

const releaseOf = (
  declaration: SecretDeclaration,
  unit: string,
  credential: string,
  made: Pick<Release, 'recipe' | 'declared'>,
): Release => ({
  unit,
  credential,
  delivery: declaration.delivery,
  ...made,
  ...placementOf(declaration, credential),
});

/** Secrets whose value differs from the active one. */
const replacementsIn = (
  declarations: readonly SecretDeclaration[],
  history: History | undefined,
  secrets: ReadonlyMap<string, Recipe>,
  kept: ReadonlySet<string>,
): Replacement[] =>
  declarations.flatMap((declaration) => {
    const [before, after] = [activeRecipe(history, declaration.name), secrets.get(declaration.name)];
    const isReplaced = before && after && !sameRecipe(before, after) && !kept.has(declaration.name);
    return isReplaced ? [{ declaration, before, after }] : [];
  });

/** Compares releases, one by one, with those of the previous snapshot. */
class Comparison {
  readonly changes: ReleaseChange[] = [];
  readonly fingerprints = new Map<string, string>();
  /** Secrets whose value is unchanged in some unit. */
  readonly kept = new Set<string>();
  readonly #before: Snapshot | undefined;
  readonly #options: PlanInputs;
  /** Old releases that were not matched yet. */
  readonly #old: Map<string, Release>;

  constructor(before: Snapshot | undefined, options: PlanInputs) {
    this.#before = before;
    this.#options = options;
    this.#old = new Map(before?.releases.map((release) => [releaseKey(release), release]));
  }

  add(declaration: SecretDeclaration, part: Part, release: Release): void {
    const { unit, credential } = release;
    const key = releaseKey(release);
    const action = unit === anyUnit ? 'none' : declaration.change;
    const was = this.#old.get(key);
    this.#old.delete(key);
    const isDeclared = release.declared !== undefined && release.declared.digest !== was?.declared?.digest;
    const change = { unit, credential, ...fileMark(release), ...(isDeclared ? { declared: true as const } : {}) };
    if (!was) {
      this.changes.push({ ...change, why: 'new', sameValue: false, action });
      return;
    }
    const sameValue = this.#isSameValue(was, release, key);
    if (sameValue && part === 'secret' && !sameRecipe(was.recipe, release.recipe)) this.kept.add(declaration.name);
    const isUndelivered = this.#options.undelivered?.has(key) === true;
    const difference = releaseDifference(was, release, { sameValue, isUndelivered });
    if (!difference) return;
    this.changes.push({ ...change, why: difference.why, sameValue, action: difference.isSeen ? action : 'none' });
  }

  /** The old releases that were not matched are removed ones. */
  removed(): ReleaseChange[] {
    return [...this.#old.values()].map(({ unit, credential }) => ({
      unit,
      credential,
      why: 'removed',
      sameValue: false,
      action: 'none',
    }));
  }

  /** Records the release's fingerprint; for an unchanged recipe the recorded one is reused. */
  #isSameValue(was: Release, release: Release, key: string): boolean {
    const recorded = this.#before?.fingerprints.get(key);
    const label = this.#before?.fingerprintLabel ?? 'release';
    const isSame = sameRecipe(was.recipe, release.recipe);
    const isKnown = isSame && recorded !== undefined && label === 'release';
    const fingerprint = isKnown ? recorded : this.#options.fingerprint(release, 'release');
    this.fingerprints.set(key, fingerprint);
    if (isSame) return true;
    return (label === 'release' ? fingerprint : this.#options.fingerprint(release, label)) === recorded;
  }
}

/** Why a release is written again although its recipe is the same. */
export const rewritten = 'rewritten, since it was missing or altered';

/** How a release changes, and whether its unit has to do something to see that; undefined if it does not change. */
function releaseDifference(
  was: Release,
  release: Release,
  { sameValue, isUndelivered }: { readonly sameValue: boolean; readonly isUndelivered: boolean },
): { why: string; isSeen: boolean } | undefined {
  const isSame = sameRecipe(was.recipe, release.recipe);
  const isMoved = was.delivery !== release.delivery;
  const reasons = [
    ...(isSame ? [] : [difference(was.recipe, release.recipe), ...(sameValue ? ['same value'] : [])]),
    ...(isMoved
      ? [`now delivered ${deliveryText[release.delivery]}`]
      : placementDifference(was.placement, release.placement)),
  ];
  if (reasons.length > 0) return { why: reasons.join(', '), isSeen: !sameValue || isMoved || isUndelivered };
  // Its readers may have missed a change that was interrupted.
  return isUndelivered ? { why: rewritten, isSeen: true } : undefined;
}

const deliveryText: Readonly<Record<Delivery, string>> = {
  socket: 'by the broker',
  stage: 'through /run/credstore',
  credstore: 'from the credential store',
  file: 'as a file',
};

/** What changes about a secret that was a file and stays one. */
function placementDifference(before: Placement | undefined, after: Placement | undefined): string[] {
  if (!before || !after) return [];
  const fieldsOf = ({ owner, group, mode, link, neededFor }: Placement): Field[] => [
    ['owner', owner],
    ['group', group],
    ['mode', mode.toString(8).padStart(4, '0')],
    ['link', link ?? ''],
    ['needed-for', neededFor],
  ];
  return changedFields(fieldsOf(before), fieldsOf(after));
}

/** A key pair's public half and the previous value are stored next to the secret, and so are the links to them. */
function placementOf({ credential, placement }: SecretDeclaration, id: string): Pick<Release, 'placement'> {
  if (!placement) return {};
  return {
    placement: {
      ...placement,
      link: placement.link === undefined ? undefined : `${placement.link}${id.slice(credential.length)}`,
    },
  };
}

const fileMark = ({ placement }: Release): Pick<ReleaseChange, 'file'> => (placement ? { file: true } : {});

function sorted<T extends { readonly unit: string; readonly credential: string }>(items: readonly T[]): T[] {
  return items
    .map((item) => ({ item, key: Buffer.from(releaseKey(item)) }))
    .sort((a, b) => Buffer.compare(a.key, b.key))
    .map(({ item }) => item);
}

/** The secrets that units get, and those they are made of. */
function neededNames(declarations: readonly SecretDeclaration[]): Set<string> {
  const byName = new Map(declarations.map((declaration) => [declaration.name, declaration]));
  const needed = new Set<string>();
  const need = (name: string): void => {
    const declaration = byName.get(name);
    if (!declaration || needed.has(name)) return;
    needed.add(name);
    for (const dependency of dependenciesOf(declaration.content, (other) => byName.has(other))) need(dependency.name);
  };
  for (const declaration of declarations) if (receiversOf(declaration).length > 0) need(declaration.name);
  return needed;
}

/** The recipe of each secret. @throws Failure that names all missing ones, not only the first */
function recipesOf(names: ReadonlySet<string>, recipes: Recipes): Map<string, Recipe> {
  const missing: Failure[] = [];
  const known = new Map<string, Recipe>();
  for (const name of names) {
    try {
      known.set(name, recipes.of(name));
    } catch (error) {
      if (!(error instanceof Failure) || error.code !== 'not-found') throw error;
      if (missing.every(({ message }) => message !== error.message)) missing.push(error);
    }
  }
  const [first] = missing;
  if (!first) return known;
  throw missing.length === 1
    ? first
    : new Failure(
        'not-found',
        missing.map(({ message }) => message).join('; '),
        first.hint === undefined ? {} : { hint: first.hint },
      );
}

/** Refuses an old file with an old value, which somebody may have restored. */
function refuseOlder(secrets: ReadonlyMap<string, Recipe>, history: History | undefined): void {
  for (const [name, recipe] of secrets) {
    const was = activeRecipe(history, name);
    if (
      recipe.form !== 'fixed' ||
      was?.form !== 'fixed' ||
      recipe.scope !== was.scope ||
      recipe.path !== was.path ||
      recipe.epoch !== was.epoch ||
      recipe.sequence >= was.sequence
    )
      continue;
    throw new Failure(
      'older',
      `the file of ${recipe.scope}/${recipe.path} is older than the active one (${timeOf(recipe.sequence)}, ` +
        `${timeOf(was.sequence)}), so nothing was changed`,
      { hint: `copy the newer one here; if the old value is intended, ${acceptOlder}` },
    );
  }
}

const timeOf = (sequence: number): string => `${new Date(sequence).toISOString().slice(0, 19)}Z`;

/** Refuses a period before the recorded one, unless the manifest names it: the clock is wrong, or was. */
function refuseEarlier(
  secrets: ReadonlyMap<string, Recipe>,
  history: History | undefined,
  at: Date,
  heldByManifest: ReadonlySet<string>,
): void {
  for (const [name, recipe] of secrets) {
    if (heldByManifest.has(name)) continue;
    const was = activeRecipe(history, name);
    if (recipe.form !== 'derived' || was?.form !== 'derived' || recipe.period === was.period) continue;
    const now = parsePeriod(recipe.period);
    const recorded = parsePeriod(was.period);
    if (!now || !recorded || now.end > recorded.start) continue;
    throw new Failure(
      'clock',
      `the clock says ${at.toISOString().slice(0, 16)}Z, but ${name} is already in its period ${recorded.name}, ` +
        'so nothing was changed',
      {
        hint: 'set the clock; if it is now right and was wrong before, auxcred provision --accept-clock',
      },
    );
  }
}
