/** Compares what is active with what the manifest asks for now. */
import { periodAt } from '../derive/period.ts';
import { changesOf, renderingSums, sumsPath, type UnitChange } from '../drop-ins/rendered-folder.ts';
import { readRendering, renderingVersion, renderUnits } from '../drop-ins/rendering.ts';
import { Failure } from '../failure.ts';
import { FixedFolder } from '../fixed/folder.ts';
import { nameText } from '../fixed/name.ts';
import { anyUnit, rotates } from '../manifest/declaration.ts';
import type { Manifest } from '../manifest/manifest.ts';
import { unreadProblems } from '../manifest/unread.ts';
import { refusalsOn } from '../provision/machine-problems.ts';
import { type MissingHook, missingHooks } from '../provision/missing-hooks.ts';
import { pendingSteps } from '../provision/pending.ts';
import { activeRecipe, type ReleaseChange } from '../provision/plan.ts';
import { type DryRun, dryRun } from '../provision/provision.ts';
import type { OpenedSeeds } from '../seeds/open.ts';
import { hostScope, type Scope, scopeName, scopeSeedsOf } from '../seeds/scope.ts';
import { refuseOldSeeds, refuseRewound } from '../seeds/tpm-counter.ts';
import { readSnapshot, type Snapshot } from '../snapshot/snapshot.ts';
import { configurationOf } from '../system/configuration.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import type { ReadableFiles } from './readable-files.ts';

/** A secret whose active value is not the one that it should have by now. */
export interface Stale {
  readonly secret: string;
  /** How it would change: `period 2026-10 -> 2026-11`. */
  readonly why: string;
  /** Whether a hook has to run first. */
  readonly hook: boolean;
}

/** The manifest and the drop-ins, which can be judged without a seed. */
export interface Declared {
  readonly manifest: Manifest;
  readonly errors: number;
  /** Why this machine refuses a manifest that has no errors by itself. */
  readonly refusals: readonly string[];
  /**
   * `never` and `changed`: `apply` would write something; `upgraded`: an older auxcred applied it, and the generator
   * renders it again at each boot; `invalid`: `apply` would refuse; `rendered`: by the system's configuration.
   */
  readonly state: 'applied' | 'rendered' | 'changed' | 'upgraded' | 'never' | 'invalid';
  readonly dropIns: readonly UnitChange[];
  readonly missingHooks: readonly MissingHook[];
  /** Paths in the manifest's folders that are not read for their names. */
  readonly unread: readonly string[];
  /** The next time at which a secret changes; undefined if none rotates. */
  readonly next: { readonly at: Date; readonly secrets: readonly string[] } | undefined;
}

/** What can be judged only with the seeds. */
export interface ActiveSecrets {
  readonly snapshot: 'none' | 'foreign' | 'sound';
  readonly since: string | undefined;
  readonly credentials: number;
  readonly units: number;
  readonly changes: readonly ReleaseChange[];
  readonly stale: readonly Stale[];
  /** Units that have yet to be restarted or reloaded for what is active. */
  readonly pending: readonly string[];
  /** Why the manifest can't be activated. */
  readonly refused: Failure | undefined;
  /** Why the broker refuses the store: it is older than what the TPM has seen. */
  readonly older: Failure | undefined;
  /** Whether the TPM lacks the pinned counter, which only `reseal` makes. */
  readonly isCounterLost: boolean;
  /** Fixed files that do not open under their names. */
  readonly fixed: readonly { readonly name: string; readonly failure: Failure }[];
  /** Files in the fixed folder that do not belong there. */
  readonly strangers: readonly string[];
}

/** Compares the manifest with what was applied. Opens no seed. */
export function declaredOn(
  readable: ReadableFiles,
  root: string,
  paths: Paths,
  manifest: Manifest,
  now: Date,
): Declared {
  const applied = readable.text(sumsPath(paths));
  const rotating = manifest.declarations.flatMap(({ name, content }) =>
    content.form === 'derived' && content.rotate !== undefined && rotates(content)
      ? [{ name, end: periodAt(content.rotate, now).end }]
      : [],
  );
  const next = rotating.reduce<Date | undefined>(
    (first, { end }) => (first === undefined || end < first ? end : first),
    undefined,
  );
  const errors = manifest.problems.filter(({ severity }) => severity === 'error').length;
  const refusals = [...new Set(refusalsOn(root, manifest.declarations).map(({ message }) => message))];
  const rendering = renderUnits(manifest.declarations);
  const isRendered = configurationOf(paths) !== undefined;
  const dropIns = isRendered ? [] : changesOf(readRendering(paths), rendering);
  const isSame =
    dropIns.length === 0 &&
    (applied === undefined ? manifest.files.length === 0 : applied === renderingSums(manifest.files, rendering));
  const isUpgraded = applied !== undefined && !applied.startsWith(`${renderingVersion}\n`);
  const difference = applied === undefined ? 'never' : isUpgraded ? 'upgraded' : 'changed';
  const valid = isRendered ? 'rendered' : isSame ? 'applied' : difference;
  return {
    manifest,
    errors,
    refusals,
    dropIns,
    missingHooks: missingHooks(root, manifest.declarations),
    unread: unreadProblems(pathsUnder('/').manifestFolders, root).map(({ file }) => file),
    state: errors > 0 || refusals.length > 0 ? 'invalid' : valid,
    next: next && {
      at: next,
      secrets: rotating.filter(({ end }) => end.getTime() === next.getTime()).map(({ name }) => name),
    },
  };
}

/** Reads the snapshot with the seeds, and compares it with what the manifest would activate at `now`. */
export function activeWith(
  paths: Paths,
  manifest: Manifest,
  { payload: { scopes, counter }, counter: tpmCounter }: OpenedSeeds,
  { now, undelivered }: { readonly now: Date; readonly undelivered: ReadonlySet<string> },
): ActiveSecrets {
  const snapshot = soundSnapshot(paths, scopes);
  const known = snapshot === 'foreign' ? undefined : snapshot;
  const folder = new FixedFolder(paths.fixed);
  const seedOf = scopeSeedsOf(scopes);
  // Replaced seeds are reported by `older`; this is about the rest.
  const plan = attempt(() =>
    dryRun(paths, manifest.declarations, scopes, {
      at: now,
      undelivered,
      counter: Math.max(counter, known?.counter ?? 0),
      acceptEarlier: false,
      acceptOlder: false,
    }),
  );
  const future = plan instanceof Failure ? undefined : plan;
  const { names, strangers } = folder.list();
  const held = new Set(scopes.map(scopeName));
  return {
    snapshot: snapshot === 'foreign' ? 'foreign' : snapshot ? 'sound' : 'none',
    since:
      known &&
      [...known.history.values()]
        .map((entries) => entries.at(-1)?.until ?? entries.at(-1)?.since ?? '')
        .sort()
        .at(-1),
    credentials: known?.releases.length ?? 0,
    units: new Set(known?.releases.map(({ unit }) => unit).filter((unit) => unit !== anyUnit)).size,
    changes: future?.changes ?? [],
    stale: future ? staleIn(future, known) : [],
    pending: pendingSteps(paths, hostScope(scopes)).map(({ unit }) => unit),
    refused: plan instanceof Failure ? plan : undefined,
    isCounterLost: tpmCounter !== undefined && tpmCounter.value === undefined,
    older: failureOf(() => {
      refuseRewound(tpmCounter, known?.tpmCounter);
      refuseOldSeeds(counter, known?.counter ?? 0);
    }),
    fixed: names
      .filter(({ scope }) => held.has(scope))
      .flatMap((name) => {
        const failure = failureOf(() => {
          folder.open(name, seedOf).value.fill(0);
        });
        return failure ? [{ name: nameText(name), failure }] : [];
      }),
    strangers,
  };
}

/** Secrets that differ from the active ones, and what changed. */
const staleIn = ({ replaced, changes }: DryRun, active: Snapshot | undefined): ActiveSecrets['stale'] =>
  replaced
    .filter(({ declaration }) => activeRecipe(active?.history, declaration.name) !== undefined)
    .map(({ declaration: { name, hook, credential, units } }) => ({
      secret: name,
      hook: hook.length > 0,
      why: changes.find((change) => change.credential === credential && units.includes(change.unit))?.why ?? 'changed',
    }));

/** Undefined if nothing was ever activated. */
function soundSnapshot(paths: Paths, scopes: readonly Scope[]): Snapshot | 'foreign' | undefined {
  try {
    return readSnapshot(paths, hostScope(scopes));
  } catch (error) {
    if (error instanceof Failure && error.code === 'malformed') return 'foreign';
    throw error;
  }
}

/** The result of `work`, or the failure that it throws. */
function attempt<T>(work: () => T): T | Failure {
  try {
    return work();
  } catch (error) {
    if (error instanceof Failure) return error;
    throw error;
  }
}

const failureOf = (work: () => void): Failure | undefined =>
  attempt((): undefined => {
    work();
  });
