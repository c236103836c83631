import { computeHash } from '../derive/hash.ts';
import { type Fixed, type Hashed, ingredients, type Recipe, recipeText, sameRecipe } from '../derive/recipe.ts';
import { type Sources, valueOf } from '../derive/value.ts';
import { Failure, messageOf } from '../failure.ts';
import { FixedFolder } from '../fixed/folder.ts';
import { Shelf } from '../fixed/shelf.ts';
import { fixedValues } from '../fixed/value.ts';
import type { SecretDeclaration } from '../manifest/declaration.ts';
import { largestSecret } from '../manifest/options.ts';
import { groupId } from '../system/files.ts';
import type { Paths } from '../system/paths.ts';
import type { Sealing } from '../store/payload.ts';
import { type History, type HistoryEntry, hostScope, installSnapshot, isInForce, readFixedFile, readSnapshot, type Release, type Snapshot } from '../store/snapshot.ts';
import { type Scope, scopeName, scopeSeedsOf, seedsOf } from '../store/scope.ts';
import { refuseOldSeeds } from './opening.ts';
import { type Plan, planOf, type PlanOptions, type Replacement } from './plan.ts';

/** The group that may read the store: the broker's. */
export const brokerGroup = 'auxcred';

/** Entries of a secret's history that are kept. */
const longestHistory = 64;

/** Tells a service of a secret's old and new value, and throws where that failed. */
export type Hook = (declaration: SecretDeclaration, values: { readonly before: Uint8Array; readonly after: Uint8Array }) => void;

export interface ProvisionOptions extends Omit<PlanOptions, 'held' | 'fixed'> {
  /** That of the seeds.age which was opened. */
  readonly counter: number;
  /** How it is sealed. */
  readonly sealing: Sealing;
  /** What the TPM's counter says, and no snapshot in force has a higher number; undefined without one. The caller raises it where something changed. */
  readonly tpmCounter?: number | undefined;
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
export function provision(root: string, paths: Paths, declarations: readonly SecretDeclaration[], scopes: readonly Scope[], given: ProvisionOptions): Provisioned {
  const shelf = new Shelf(new FixedFolder(paths.fixed), scopeSeedsOf(scopes));
  const options: ProvisionOptions & PlanOptions = { ...given, fixed: shelf.find };
  // What a hook holds back, and what it is told of as the old value, may be in the snapshot alone.
  const fileOf = (recipe: Fixed): Uint8Array | undefined => shelf.bytes(recipe) ?? readFixedFile(paths, recipe);
  const seedOf = seedsOf(scopes);
  const sources: Sources = { seedOf, fixedValue: fixedValues(seedOf, fileOf) };
  const before = snapshotInForce(paths, scopes);
  if (options.acceptOlder !== true) refuseOldSeeds(options.counter, before?.counter ?? 0);
  const hashes = new Hashes(before, sources);
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
    const failure = failureOf(options.hook, replacement, hashes, sources);
    if (failure !== undefined) failed.set(replacement, failure);
  }
  const held = new Map([...postponed, ...failed.keys()].map(({ declaration, before: old }) => [declaration.name, old]));
  const plan = held.size === 0 ? first : planOf(declarations, scopes, before, { ...options, held });
  const next: Snapshot = {
    counter: options.counter,
    sealing: options.sealing,
    releases: plan.releases.map((release) => ({ ...release, recipe: hashes.fill(release.recipe) })),
    history: continued(before?.history, new Map([...plan.secrets].map(([name, recipe]) => [name, hashes.fill(recipe)]))),
  };
  for (const release of next.releases) checkSize(release, sources);
  const host = hostScope(scopes);
  const snapshot = numbered(next, options.tpmCounter, (unchanged) => before?.tpmCounter === options.tpmCounter && isInForce(paths, unchanged, host));
  const nameOf = ({ declaration }: Replacement): string => declaration.name;
  return {
    plan, held: new Map([...failed].map(([replacement, failure]) => [nameOf(replacement), failure])), postponed: postponed.map(nameOf), untold: untold.map(nameOf),
    changed: installSnapshot(paths, snapshot, host, groupId(root, brokerGroup), (recipe) => fileOf(recipe) ?? missing(recipe)),
  };
}

/** The number that the TPM's counter says, where that is in force already, or the next one. */
function numbered(snapshot: Snapshot, tpmCounter: number | undefined, isInForceAs: (snapshot: Snapshot) => boolean): Snapshot {
  if (tpmCounter === undefined) return snapshot;
  const unchanged = { ...snapshot, tpmCounter };
  return isInForceAs(unchanged) ? unchanged : { ...snapshot, tpmCounter: tpmCounter + 1 };
}

/** Whether every seed that a recipe needs is held here, in the epoch that it names. */
const isAtHand = (recipe: Recipe, scopes: readonly Scope[]): boolean => ingredients(recipe).every(({ scope, epoch }) => scopes.some((one) => scopeName(one) === scope && one.epoch === epoch));

function missing({ scope, path }: Fixed): never {
  throw new Failure('not-found', `the file of ${scope}/${path} is gone`, { hint: 'run auxcred provision' });
}

/** How long a text with fixed secrets in it becomes is known only now; the rest was judged with the manifest. */
function checkSize({ unit, credential, recipe }: Release, sources: Sources): void {
  if (recipe.form !== 'template' || ingredients(recipe).every(({ form }) => form === 'derived')) return;
  const value = valueOf(recipe, sources);
  const { length } = value;
  value.fill(0);
  if (length > largestSecret) throw new Failure('invalid-manifest', `${credential} of ${unit} has ${String(length)} bytes, and ${String(largestSecret)} are the most that can be delivered`, { hint: 'split it' });
}

function failureOf(hook: Hook, { declaration, before, after }: Replacement, hashes: Hashes, sources: Sources): string | undefined {
  const values: Uint8Array[] = [];
  try {
    const [old = new Uint8Array(0), now = new Uint8Array(0)] = [before, hashes.fill(after)].map((recipe) => {
      const value = valueOf(recipe, sources);
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
  readonly #sources: Sources;

  constructor(snapshot: Snapshot | undefined, sources: Sources) {
    this.#sources = sources;
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
    const sealed = this.#known.get(key) ?? computeHash(this.#sources, recipe);
    this.#known.set(key, sealed);
    return { ...recipe, sealed };
  }
}

const keyOf = (recipe: Hashed): string => recipeText(recipe);

/** The history with what is in force now at its end. */
function continued(history: History | undefined, secrets: ReadonlyMap<string, Recipe>): History {
  const since = `${new Date().toISOString().slice(0, 19)}Z`;
  const next = new Map<string, readonly HistoryEntry[]>(history);
  for (const [name, recipe] of secrets) {
    const entries = next.get(name) ?? [];
    const last = entries.at(-1);
    if (!last || !sameRecipe(last.recipe, recipe)) next.set(name, [...entries, { since, recipe }].slice(-longestHistory));
    // The same value from another file: what is in force names the file that is there.
    else next.set(name, [...entries.slice(0, -1), { since: last.since, recipe }]);
  }
  return next;
}
