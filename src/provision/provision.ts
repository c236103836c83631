import { refuseOldSeeds } from '../broker/opening.ts';
import { checkHashable, computeHash } from '../derive/hash.ts';
import { type Fixed, type Hashed, ingredients, type Recipe, recipeText, sameRecipe } from '../derive/recipe.ts';
import { checkQuotable, recipeValue, type Sources } from '../derive/value.ts';
import { Failure, messageOf } from '../failure.ts';
import { Shelf } from '../fixed/fixed-files.ts';
import { FixedFolder } from '../fixed/folder.ts';
import { fixedValues } from '../fixed/value.ts';
import { credentialsOf, receiversOf, type SecretDeclaration } from '../manifest/declaration.ts';
import { largestSecret } from '../manifest/options.ts';
import type { Sealing } from '../seeds/payload.ts';
import { type Scope, scopeName, scopeSeedsOf, seedsOf } from '../seeds/scope.ts';
import {
  type FingerprintLabel,
  type History,
  type HistoryEntry,
  hostScope,
  installSnapshot,
  isInForce,
  type Release,
  readFixedFile,
  readSnapshot,
  releaseKey,
  type Snapshot,
} from '../snapshot/snapshot.ts';
import { groupId } from '../system/files.ts';
import type { Paths } from '../system/paths.ts';
import { refuseForeignCredentials } from './credential-store.ts';
import { withFingerprint } from './fingerprint.ts';
import { type Plan, type PlanOptions, planOf, type ReleaseChange, type Replacement } from './plan.ts';
import { inputsOf, isSettled, settledOf } from './unchanged.ts';

/** The group that may read the store: the broker's. */
export const brokerGroup = 'auxcred';

/** Entries of a secret's history that are kept. */
const longestHistory = 64;

/** Tells a service of a secret's old and new value, and throws where that failed. */
export type Hook = (
  declaration: SecretDeclaration,
  values: { readonly before: Uint8Array; readonly after: Uint8Array },
) => void;

export interface PlannedOptions extends Pick<PlanOptions, 'at' | 'acceptEarlier' | 'acceptOlder' | 'undelivered'> {
  /** That of the seeds.age which was opened. */
  readonly counter: number;
  /** The fixed folder as it will be, where that is not the one that is there. */
  readonly folder?: FixedFolder;
}

export interface ProvisionOptions extends PlannedOptions {
  /** How it is sealed. */
  readonly sealing: Sealing;
  /** Called with what changes for units, right before it is put in force. */
  readonly beforehand?: ((changes: readonly ReleaseChange[]) => void) | undefined;
  /** What the TPM's counter says, and no snapshot in force has a higher number; undefined without one. The caller raises it where something changed. */
  readonly tpmCounter?: number | undefined;
}

/** Secrets with a hook that would be replaced, by what becomes of them. */
interface Hooked {
  /** Whose hook runs. */
  readonly told: readonly Replacement[];
  /** That wait until hooks can run. */
  readonly postponed: readonly Replacement[];
  /** Whose hook can't be told the old value: the seed that it came from is gone. */
  readonly untold: readonly Replacement[];
}

/** What `provision` would do. */
export interface Planned extends Plan {
  readonly hooked: Hooked;
}

export interface Provisioned {
  /** How many credentials are in force. */
  readonly credentials: number;
  readonly changes: readonly ReleaseChange[];
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

/** What putting the manifest in force would do, with all that could stand in its way looked at. Changes nothing. */
interface Prepared {
  readonly plan: Plan;
  readonly before: Snapshot | undefined;
  readonly sources: Sources;
  readonly hashes: Hashes;
  /** The file of a fixed secret, of the fixed folder or of what is in force. */
  fileOf(recipe: Fixed): Uint8Array | undefined;
  /** The plan where these secrets stay what they are. */
  planWith(held: ReadonlyMap<string, Recipe>): Plan;
  /** Of every release of a plan. */
  fingerprintsOf(plan: Plan): Map<string, string>;
}

/** @param paths - undefined for a machine that is elsewhere, and of which nothing is known but its manifest and fixed folder */
function withPrepared<T>(
  paths: Paths | undefined,
  declarations: readonly SecretDeclaration[],
  scopes: readonly Scope[],
  given: PlannedOptions,
  work: (prepared: Prepared) => T,
): T {
  const before = paths && snapshotInForce(paths, scopes);
  if (given.acceptOlder !== true) refuseOldSeeds(given.counter, before?.counter ?? 0);
  const fixedInForce = before?.releases
    .flatMap(({ recipe }) => ingredients(recipe))
    .filter((source) => source.form === 'fixed');
  const shelf = new Shelf(given.folder ?? new FixedFolder(paths?.fixed ?? ''), scopeSeedsOf(scopes), fixedInForce);
  // What a hook holds back, and what it is told of as the old value, may be in the snapshot alone.
  const fileOf = (recipe: Fixed): Uint8Array | undefined =>
    shelf.bytes(recipe) ?? (paths && readFixedFile(paths, recipe));
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
      planOf(declarations, scopes, before, { ...given, fixed: shelf.find, fingerprint: fingerprintOf, held });
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
 * What `provision` would do now. Changes nothing.
 * @param hooks - whether hooks can run; secrets whose hook can't stay what they are
 * @throws Failure for all that would keep it from doing so
 */
export function planned(
  paths: Paths,
  declarations: readonly SecretDeclaration[],
  scopes: readonly Scope[],
  options: PlannedOptions,
  hooks: 'run' | 'later' = 'run',
): Planned {
  refuseForeignCredentials(paths, declarations, hostScope(scopes));
  return withPrepared(paths, declarations, scopes, options, ({ plan: first, planWith }) => {
    const hooked = hookedIn(first, scopes, hooks === 'run');
    const plan = hooked.postponed.length === 0 ? first : planWith(heldBy(hooked.postponed));
    return { ...plan, hooked };
  });
}

function hookedIn({ replaced }: Plan, scopes: readonly Scope[], canRun: boolean): Hooked {
  const hooked = replaced.filter(({ declaration }) => declaration.hook.length > 0);
  const known = hooked.filter(({ before }) => isAtHand(before, scopes));
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
 * What `provision` would do on a machine where nothing is active yet. Changes nothing.
 * @param folder - its fixed folder, or the vault's
 * @throws Failure for all that would keep it from doing so
 */
export function plannedAfresh(
  declarations: readonly SecretDeclaration[],
  scopes: readonly Scope[],
  folder: FixedFolder,
  options: Pick<PlannedOptions, 'at' | 'acceptEarlier'>,
): Plan {
  return withPrepared(undefined, declarations, scopes, { ...options, counter: 0, folder }, ({ plan }) => plan);
}

/**
 * Puts the declared secrets in force for the broker. Everything is checked first, then hooks run; a secret whose hook fails stays what it is, and the others go on.
 * Killed at any point it leaves the old snapshot or the new one, and the next run runs a hook again whose change is not in force yet.
 * @param hook - runs a hook; `later` leaves secrets that have one as they are
 * @throws Failure and leaves everything as it is
 */
export function provision(
  root: string,
  paths: Paths,
  declarations: readonly SecretDeclaration[],
  scopes: readonly Scope[],
  options: ProvisionOptions & { readonly hook: Hook | 'later' },
): Provisioned {
  const inputsAt = (tpmCounter: number | undefined): string =>
    inputsOf(declarations, scopes, options.counter, tpmCounter);
  const isDelivered = (options.undelivered?.size ?? 0) === 0;
  if (isDelivered && isSettled(paths, scopes, inputsAt(options.tpmCounter), options.at))
    return {
      credentials: countCredentials(declarations),
      changes: [],
      changed: false,
      held: new Map(),
      postponed: [],
      untold: [],
    };
  return withPrepared(
    paths,
    declarations,
    scopes,
    options,
    ({ plan: first, before, sources, hashes, fileOf, planWith, fingerprintsOf }) => {
      const snapshotOf = (plan: Plan): Snapshot => ({
        counter: options.counter,
        sealing: options.sealing,
        releases: plan.releases.map((release) => ({ ...release, recipe: hashes.fill(release.recipe) })),
        history: continued(
          before?.history,
          new Map([...plan.secrets].map(([name, recipe]) => [name, hashes.fill(recipe)])),
        ),
        fingerprints: fingerprintsOf(plan),
        fingerprintLabel: 'release',
      });
      // Computed before the first hook: what can't be computed is not put in force, so no service is to learn of it.
      const whole = snapshotOf(first);
      const { hook } = options;
      const { told, postponed, untold } = hookedIn(first, scopes, hook !== 'later');
      const failed = new Map(
        hook === 'later'
          ? []
          : told.flatMap((replacement): [Replacement, string][] => {
              const failure = failureOf(hook, replacement, hashes, sources);
              return failure === undefined ? [] : [[replacement, failure]];
            }),
      );
      const held = heldBy([...postponed, ...failed.keys()]);
      const plan = held.size === 0 ? first : planWith(held);
      const snapshot = numbered(held.size === 0 ? whole : snapshotOf(plan), options.tpmCounter, (unchanged) =>
        isInForce(paths, before, unchanged),
      );
      const nameOf = ({ declaration }: Replacement): string => declaration.name;
      options.beforehand?.(plan.changes);
      return {
        credentials: plan.releases.length,
        changes: plan.changes,
        held: new Map([...failed].map(([replacement, failure]) => [nameOf(replacement), failure])),
        postponed: postponed.map(nameOf),
        untold: untold.map(nameOf),
        changed: installSnapshot(
          paths,
          before,
          snapshot,
          held.size === 0 ? settledOf(snapshot, declarations, inputsAt(snapshot.tpmCounter), options.at) : undefined,
          hostScope(scopes),
          groupId(root, brokerGroup),
          (recipe) => fileOf(recipe) ?? missing(recipe),
        ),
      };
    },
  );
}

/** The number that the TPM's counter says, where that is in force already, or the next one. */
function numbered(
  snapshot: Snapshot,
  tpmCounter: number | undefined,
  isInForceAs: (snapshot: Snapshot) => boolean,
): Snapshot {
  if (tpmCounter === undefined) return snapshot;
  const unchanged = { ...snapshot, tpmCounter };
  return isInForceAs(unchanged) ? unchanged : { ...snapshot, tpmCounter: tpmCounter + 1 };
}

const countCredentials = (declarations: readonly SecretDeclaration[]): number =>
  declarations.reduce(
    (sum, declaration) => sum + receiversOf(declaration).length * credentialsOf(declaration).length,
    0,
  );

/** Whether every seed that a recipe needs is held here, in the epoch that it names. */
const isAtHand = (recipe: Recipe, scopes: readonly Scope[]): boolean =>
  ingredients(recipe).every(({ scope, epoch }) =>
    scopes.some((one) => scopeName(one) === scope && one.epoch === epoch),
  );

function missing({ scope, path }: Fixed): never {
  throw new Failure('not-found', `the file of ${scope}/${path} is gone`, { hint: 'run auxcred provision' });
}

/** A value that goes in force, which the caller wipes. How long a text with fixed secrets in it becomes is known only now; the rest was judged with the manifest. */
function checkedValue({ unit, credential, recipe }: Release, hashes: Hashes, sources: Sources): Uint8Array {
  const value = recipeValue(hashes.fill(recipe), sources);
  if (value.length <= largestSecret) return value;
  value.fill(0);
  throw new Failure(
    'invalid-manifest',
    `${credential} of ${unit} has ${String(value.length)} bytes, and ${String(largestSecret)} are the most that can be delivered`,
    { hint: 'split it' },
  );
}

/** What the manifest alone can't tell of a release: its hashes are of what can be hashed, it is not too long, and what it quotes is text. */
function checkNew(release: Release, hashes: Hashes, sources: Sources): void {
  for (const hashed of hashesIn(release.recipe)) checkHashable(sources, hashed);
  if (release.recipe.form !== 'template') return;
  checkQuotable(release.recipe, sources);
  if (ingredients(release.recipe).every(({ form }) => form === 'derived')) return;
  checkedValue(release, hashes, sources).fill(0);
}

function failureOf(
  hook: Hook,
  { declaration, before, after }: Replacement,
  hashes: Hashes,
  sources: Sources,
): string | undefined {
  const values: Uint8Array[] = [];
  try {
    const [old = new Uint8Array(0), now = new Uint8Array(0)] = [before, hashes.fill(after)].map((recipe) => {
      const value = recipeValue(recipe, sources);
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
    for (const hashed of hashesIn(recipe)) this.#known.set(keyOf(hashed), hashed.sealed);
  }

  /** The recipe with every hash in it computed. */
  fill(recipe: Recipe): Recipe {
    if (recipe.form === 'template')
      return {
        ...recipe,
        pieces: recipe.pieces.map((piece) =>
          typeof piece === 'string' ? piece : { ...piece, of: this.fill(piece.of) },
        ),
      };
    if (recipe.form !== 'crypt') return recipe;
    const key = keyOf(recipe);
    const sealed = this.#known.get(key) ?? computeHash(this.#sources, recipe);
    this.#known.set(key, sealed);
    return { ...recipe, sealed };
  }
}

function hashesIn(recipe: Recipe): Hashed[] {
  if (recipe.form === 'template')
    return recipe.pieces.flatMap((piece) => (typeof piece === 'string' ? [] : hashesIn(piece.of)));
  return recipe.form === 'crypt' ? [recipe] : [];
}

const keyOf = (recipe: Hashed): string => recipeText(recipe);

/** The history with the secrets that are active now at its end, and the time at which others were removed. */
function continued(history: History | undefined, secrets: ReadonlyMap<string, Recipe>): History {
  const since = `${new Date().toISOString().slice(0, 19)}Z`;
  const next = new Map<string, readonly HistoryEntry[]>(history);
  for (const [name, recipe] of secrets) {
    const entries = next.get(name) ?? [];
    const last = entries.at(-1);
    if (!last || last.until !== undefined || !sameRecipe(last.recipe, recipe))
      next.set(name, [...entries, { since, recipe }].slice(-longestHistory));
    // The same value from another file: what is in force names the file that is there.
    else next.set(name, [...entries.slice(0, -1), { since: last.since, recipe }]);
  }
  for (const [name, entries] of history ?? []) {
    const last = entries.at(-1);
    if (last && last.until === undefined && !secrets.has(name))
      next.set(name, [...entries.slice(0, -1), { ...last, until: since }]);
  }
  return next;
}
