import { computeHash } from '../derive/hash.ts';
import { type Hashed, ingredients, type Recipe, sameRecipe } from '../derive/recipe.ts';
import { type SeedOf, valueOf } from '../derive/value.ts';
import { Failure, messageOf } from '../failure.ts';
import type { SecretDeclaration } from '../manifest/declaration.ts';
import { groupId } from '../system/files.ts';
import { canonicalJson } from '../system/json.ts';
import type { Paths } from '../system/paths.ts';
import { type History, type HistoryEntry, hostScope, installSnapshot, readSnapshot, type Snapshot } from '../store/snapshot.ts';
import { type Scope, scopeName, seedsOf } from '../store/scope.ts';
import { type Plan, planOf, type PlanOptions, type Replacement } from './plan.ts';

/** The group that may read the store: the broker's. */
export const brokerGroup = 'auxcred';

/** Entries of a secret's history that are kept. */
const longestHistory = 64;

/** Tells a service of a secret's old and new value, and throws where that failed. */
export type Hook = (declaration: SecretDeclaration, values: { readonly before: Uint8Array; readonly after: Uint8Array }) => void;

export interface ProvisionOptions extends Omit<PlanOptions, 'held'> {
  /** Runs a hook; `later` leaves secrets that have one as they are. */
  readonly hook: Hook | 'later';
}

export interface Provisioned {
  readonly plan: Plan;
  readonly changed: boolean;
  /** Secrets that stay what they are because their hook failed, and why. */
  readonly held: ReadonlyMap<string, string>;
  /** Secrets that stay what they are until their hook can run. */
  readonly postponed: readonly string[];
  /** Secrets that changed although their hook could not be told the old value: the seed that it came from is gone. */
  readonly untold: readonly string[];
}

/**
 * What is in force, as far as this machine's own seed made it: after another seed was sealed everything is new.
 * @throws Failure
 */
export function snapshotInForce(paths: Paths, scopes: readonly Scope[]): Snapshot | undefined {
  try {
    return readSnapshot(paths, hostScope(scopes));
  } catch (error) {
    if (error instanceof Failure && error.code === 'malformed') return undefined;
    throw error;
  }
}

/**
 * Puts the declared secrets in force for the broker. Hooks run first; a secret whose hook fails stays what it is, and the others go on.
 * Killed at any point it leaves the old snapshot or the new one, and the next run runs a hook again whose change is not in force yet.
 * @throws Failure and leaves everything as it is
 */
export function provision(root: string, paths: Paths, declarations: readonly SecretDeclaration[], scopes: readonly Scope[], options: ProvisionOptions): Provisioned {
  const seedOf = seedsOf(scopes);
  const before = snapshotInForce(paths, scopes);
  const hashes = new Hashes(before, seedOf);
  const first = planOf(declarations, scopes, before, options);
  const hooked = first.replaced.filter(({ declaration }) => declaration.hook.length > 0);
  const untold = hooked.filter(({ before: old }) => !isAtHand(old, scopes));
  const postponed: Replacement[] = [];
  const failed = new Map<Replacement, string>();
  for (const replacement of hooked.filter((one) => !untold.includes(one))) {
    if (options.hook === 'later') {
      postponed.push(replacement);
      continue;
    }
    const failure = failureOf(options.hook, replacement, hashes, seedOf);
    if (failure !== undefined) failed.set(replacement, failure);
  }
  const held = new Map([...postponed, ...failed.keys()].map(({ declaration, before: old }) => [declaration.name, old]));
  const plan = held.size === 0 ? first : planOf(declarations, scopes, before, { ...options, held });
  const snapshot: Snapshot = {
    releases: plan.releases.map((release) => ({ ...release, recipe: hashes.fill(release.recipe) })),
    history: continued(before?.history, new Map([...plan.secrets].map(([name, recipe]) => [name, hashes.fill(recipe)]))),
  };
  const nameOf = ({ declaration }: Replacement): string => declaration.name;
  return {
    plan, held: new Map([...failed].map(([replacement, failure]) => [nameOf(replacement), failure])), postponed: postponed.map(nameOf), untold: untold.map(nameOf),
    changed: installSnapshot(paths, snapshot, hostScope(scopes), groupId(root, brokerGroup)),
  };
}

/** Whether every seed that a recipe needs is held here, in the epoch that it names. */
const isAtHand = (recipe: Recipe, scopes: readonly Scope[]): boolean => ingredients(recipe).every(({ scope, epoch }) => scopes.some((one) => scopeName(one) === scope && one.epoch === epoch));

function failureOf(hook: Hook, { declaration, before, after }: Replacement, hashes: Hashes, seedOf: SeedOf): string | undefined {
  const values: Uint8Array[] = [];
  try {
    const [old = new Uint8Array(0), now = new Uint8Array(0)] = [before, hashes.fill(after)].map((recipe) => {
      const value = valueOf(recipe, seedOf);
      values.push(value);
      return value;
    });
    hook(declaration, { before: old, after: now });
    return undefined;
  } catch (error) {
    return messageOf(error);
  } finally {
    for (const value of values) value.fill(0);
  }
}

/** Password hashes are slow to compute, so one that is in force is taken from there. */
class Hashes {
  readonly #known = new Map<string, string>();
  readonly #seedOf: SeedOf;

  constructor(snapshot: Snapshot | undefined, seedOf: SeedOf) {
    this.#seedOf = seedOf;
    for (const { recipe } of snapshot?.releases ?? []) this.#learn(recipe);
    for (const entries of snapshot?.history.values() ?? []) for (const { recipe } of entries) this.#learn(recipe);
  }

  #learn(recipe: Recipe): void {
    if (recipe.form === 'crypt') this.#known.set(keyOf(recipe), recipe.sealed);
    if (recipe.form === 'template') for (const piece of recipe.pieces) if (typeof piece !== 'string') this.#learn(piece.of);
  }

  /** The recipe with every hash in it computed. */
  fill(recipe: Recipe): Recipe {
    if (recipe.form === 'template') return { ...recipe, pieces: recipe.pieces.map((piece) => (typeof piece === 'string' ? piece : { ...piece, of: this.fill(piece.of) })) };
    if (recipe.form !== 'crypt') return recipe;
    const key = keyOf(recipe);
    const sealed = this.#known.get(key) ?? computeHash(this.#seedOf(recipe.of.scope, recipe.of.epoch), recipe);
    this.#known.set(key, sealed);
    return { ...recipe, sealed };
  }
}

const keyOf = (recipe: Hashed): string => canonicalJson(recipe, 'sealed');

/** The history with what is in force now at its end. */
function continued(history: History | undefined, secrets: ReadonlyMap<string, Recipe>): History {
  const since = `${new Date().toISOString().slice(0, 19)}Z`;
  const next = new Map<string, readonly HistoryEntry[]>(history);
  for (const [name, recipe] of secrets) {
    const entries = next.get(name) ?? [];
    const last = entries.at(-1);
    if (!last || !sameRecipe(last.recipe, recipe)) next.set(name, [...entries, { since, recipe }].slice(-longestHistory));
  }
  return next;
}
