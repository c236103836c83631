import { type Fixed, ingredients, type Recipe } from '../derive/recipe.ts';
import { recipeValue, type Sources } from '../derive/value.ts';
import { Failure, messageOf } from '../failure.ts';
import type { FixedFolder } from '../fixed/folder.ts';
import { credentialsOf, receiversOf, type SecretDeclaration } from '../manifest/declaration.ts';
import type { Sealing } from '../seeds/payload.ts';
import { hostScope, type Scope, scopeName } from '../seeds/scope.ts';
import { installSnapshot, isActiveSnapshot, type Snapshot } from '../snapshot/snapshot.ts';
import { groupId } from '../system/files.ts';
import type { Paths } from '../system/paths.ts';
import { type CheckedPlan, type Circumstances, withCheckedPlan } from './checked-plan.ts';
import { refuseForeignCredentials } from './credential-store.ts';
import type { Hashes } from './hashes.ts';
import { continued } from './history.ts';
import type { Plan, ReleaseChange, Replacement } from './plan.ts';
import { inputsOf, isSettled, settledOf } from './unchanged.ts';

/** The group that may read the store: the broker's. */
export const brokerGroup = 'auxcred';

/** Tells a service a secret's old and new value, and throws if that failed. */
export type Hook = (
  declaration: SecretDeclaration,
  values: { readonly before: Uint8Array; readonly after: Uint8Array },
) => void;

/** What {@link provision} activates a manifest with. */
export interface ProvisionOptions extends Circumstances {
  /** How the seeds are sealed. */
  readonly sealing: Sealing;
  /** Called with the changes for units, right before they become active. */
  readonly beforehand?: ((changes: readonly ReleaseChange[]) => void) | undefined;
  /**
   * The value of the TPM's counter, which no active snapshot exceeds; undefined without one. The caller raises it if
   * something changed.
   */
  readonly tpmCounter?: number | undefined;
}

/** Secrets with a hook that would change, by what happens to them. */
interface Hooked {
  /** Those whose hook runs. */
  readonly told: readonly Replacement[];
  /** Those that wait until hooks can run. */
  readonly postponed: readonly Replacement[];
  /** Those whose hook can't be given the old value, because its seed is gone. */
  readonly untold: readonly Replacement[];
}

/** What a provision would do now: the plan, and what happens to the secrets with a hook. */
export interface DryRun extends Plan {
  readonly hooked: Hooked;
}

/** What {@link provision} did. */
export interface Provisioned {
  /** The number of active credentials. */
  readonly credentials: number;
  readonly changes: readonly ReleaseChange[];
  readonly changed: boolean;
  /** Secrets that stay unchanged because their hook failed, and why. */
  readonly held: ReadonlyMap<string, string>;
  /** Secrets that stay unchanged until their hook can run. */
  readonly postponed: readonly string[];
  /** Secrets that changed although their hook could not be given the old value, because its seed is gone. */
  readonly untold: readonly string[];
}

/**
 * Works out what `provision` would do now. Changes nothing.
 * @param hooks - whether hooks can run; if not, secrets with a hook stay unchanged
 * @throws Failure for anything that would make `provision` fail
 */
export function dryRun(
  paths: Paths,
  declarations: readonly SecretDeclaration[],
  scopes: readonly Scope[],
  options: Circumstances,
  hooks: 'run' | 'later' = 'run',
): DryRun {
  refuseForeignCredentials(paths, declarations, hostScope(scopes));
  return withCheckedPlan(paths, declarations, scopes, options, ({ plan: first, planWith }) => {
    const hooked = hookedIn(first, scopes, hooks === 'run');
    const plan = hooked.postponed.length === 0 ? first : planWith(heldBy(hooked.postponed));
    return { ...plan, hooked };
  });
}

function hookedIn({ replaced }: Plan, scopes: readonly Scope[], canRun: boolean): Hooked {
  const hooked = replaced.filter(({ declaration }) => declaration.hook.length > 0);
  const known = hooked.filter(({ before }) => isAvailable(before, scopes));
  return {
    told: canRun ? known : [],
    postponed: canRun ? [] : known,
    untold: hooked.filter((one) => !known.includes(one)),
  };
}

/** The recipes that these secrets keep. */
const heldBy = (replacements: readonly Replacement[]): Map<string, Recipe> =>
  new Map(replacements.map(({ declaration, before }) => [declaration.name, before]));

/**
 * Works out what `provision` would do on a machine where nothing is active yet. Changes nothing.
 * @param folder - its fixed folder, or the vault's
 * @throws Failure for anything that would make `provision` fail
 */
export function planForNewMachine(
  declarations: readonly SecretDeclaration[],
  scopes: readonly Scope[],
  folder: FixedFolder,
  options: Pick<Circumstances, 'at' | 'acceptEarlier'>,
): Plan {
  return withCheckedPlan(undefined, declarations, scopes, { ...options, counter: 0, folder }, ({ plan }) => plan);
}

/**
 * Activates the declared secrets for the broker. Everything is checked first, then hooks run; a secret whose hook fails
 * stays unchanged, and the others go on. If killed at any point, it leaves the old snapshot or the new one, and the
 * next run repeats hooks whose change is not active yet.
 * @param hook - runs a hook; `later` leaves secrets that have one unchanged
 * @throws Failure, and then nothing has changed
 */
export function provision(
  root: string,
  paths: Paths,
  declarations: readonly SecretDeclaration[],
  scopes: readonly Scope[],
  options: ProvisionOptions & { readonly hook: Hook | 'later' },
): Provisioned {
  const inputsAt = (tpmCounter: number | undefined): string =>
    inputsOf(declarations, scopes, { counter: options.counter, tpmCounter, declared: options.declared });
  const isDelivered = (options.undelivered?.size ?? 0) === 0;
  if (isDelivered && isSettled(paths, scopes, inputsAt(options.tpmCounter), options.at))
    return unchanged(countCredentials(declarations));
  return withCheckedPlan(paths, declarations, scopes, options, (checked) => {
    const { plan: first, before, fileOf, planWith } = checked;
    // Computed before the first hook: what can't be computed won't become active, so no service may learn of it.
    const whole = snapshotOf(checked, first, options);
    const { told, postponed, untold } = hookedIn(first, scopes, options.hook !== 'later');
    const failed = failedHooks(checked, told, options.hook);
    const held = heldBy([...postponed, ...failed.keys()]);
    const isWhole = held.size === 0;
    const plan = isWhole ? first : planWith(held);
    const isActive = (candidate: Snapshot): boolean => isActiveSnapshot(paths, before, candidate);
    const snapshot = numbered(isWhole ? whole : snapshotOf(checked, plan, options), options.tpmCounter, isActive);
    const settled = isWhole ? settledOf(snapshot, declarations, inputsAt(snapshot.tpmCounter), options.at) : undefined;
    options.beforehand?.(plan.changes);
    const fixedFile = (recipe: Fixed): Uint8Array => fileOf(recipe) ?? missing(recipe);
    const group = groupId(root, brokerGroup);
    return {
      credentials: plan.releases.length,
      changes: plan.changes,
      held: new Map([...failed].map(([replacement, failure]) => [nameOf(replacement), failure])),
      postponed: postponed.map(nameOf),
      untold: untold.map(nameOf),
      changed: installSnapshot(paths, { before, snapshot, settled, host: hostScope(scopes), group, fileOf: fixedFile }),
    };
  });
}

const nameOf = ({ declaration }: Replacement): string => declaration.name;

/** The result of a run with nothing to do. */
const unchanged = (credentials: number): Provisioned => ({
  credentials,
  changes: [],
  changed: false,
  held: new Map(),
  postponed: [],
  untold: [],
});

/** The snapshot that activates `plan`, with its hashes computed. */
function snapshotOf({ before, hashes, fingerprintsOf }: CheckedPlan, plan: Plan, options: ProvisionOptions): Snapshot {
  const secrets = new Map([...plan.secrets].map(([name, recipe]) => [name, hashes.fill(recipe)]));
  return {
    counter: options.counter,
    sealing: options.sealing,
    releases: plan.releases.map((release) => ({ ...release, recipe: hashes.fill(release.recipe) })),
    history: continued(before?.history, secrets),
    fingerprints: fingerprintsOf(plan),
    fingerprintLabel: 'release',
  };
}

/** Runs the hooks of these secrets. @returns those that failed, and why */
function failedHooks(
  { sources, hashes }: CheckedPlan,
  told: readonly Replacement[],
  hook: Hook | 'later',
): Map<Replacement, string> {
  const failed = new Map<Replacement, string>();
  if (hook === 'later') return failed;
  for (const replacement of told) {
    const failure = failureOf(hook, replacement, hashes, sources);
    if (failure !== undefined) failed.set(replacement, failure);
  }
  return failed;
}

/** The snapshot with the TPM counter's value if it is active under that number already, else with the next one. */
function numbered(
  snapshot: Snapshot,
  tpmCounter: number | undefined,
  isActive: (snapshot: Snapshot) => boolean,
): Snapshot {
  if (tpmCounter === undefined) return snapshot;
  const present = { ...snapshot, tpmCounter };
  return isActive(present) ? present : { ...snapshot, tpmCounter: tpmCounter + 1 };
}

const countCredentials = (declarations: readonly SecretDeclaration[]): number =>
  declarations.reduce(
    (sum, declaration) => sum + receiversOf(declaration).length * credentialsOf(declaration).length,
    0,
  );

/** Whether this machine has every seed that a recipe needs, in the epoch that it names. */
const isAvailable = (recipe: Recipe, scopes: readonly Scope[]): boolean =>
  ingredients(recipe).every(({ scope, epoch }) =>
    scopes.some((one) => scopeName(one) === scope && one.epoch === epoch),
  );

function missing({ scope, path }: Fixed): never {
  throw new Failure('not-found', `the file of ${scope}/${path} is gone`, { hint: 'run auxcred provision' });
}

/** Runs the hook of one secret. @returns why it failed; undefined if it did not */
function failureOf(
  hook: Hook,
  { declaration, before, after }: Replacement,
  hashes: Hashes,
  sources: Sources,
): string | undefined {
  const values: Uint8Array[] = [];
  try {
    const computed = (recipe: Recipe): Uint8Array => {
      const value = recipeValue(recipe, sources);
      values.push(value);
      return value;
    };
    hook(declaration, { before: computed(before), after: computed(hashes.fill(after)) });
    return undefined;
  } catch (error) {
    return messageOf(error);
  } finally {
    for (const value of values) value.fill(0);
  }
}
