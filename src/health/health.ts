/** Everything that `status` and `doctor` examine, collected once. */

import { existsSync } from 'node:fs';
import { hex } from '../bytes.ts';
import { keyId } from '../derive/tree.ts';
import { dropInFor, lackingFor } from '../drop-ins/broker-access.ts';
import { type LackingUnit, lackingUnits } from '../drop-ins/loaded-lines.ts';
import { type Override, overridesOn } from '../drop-ins/overrides.ts';
import { Failure } from '../failure.ts';
import { readManifest } from '../manifest/manifest.ts';
import { aliasesAmong } from '../provision/machine-problems.ts';
import { undelivered } from '../provision/undelivered.ts';
import { type BranchLabels, readLabels } from '../seeds/branch-labels.ts';
import { closedAlternatives, type Openers, openingPatience, openPinnedSeeds } from '../seeds/open.ts';
import type { KeySource, Sealing } from '../seeds/payload.ts';
import { policyText } from '../seeds/policies.ts';
import { scopeName, wipeScopes } from '../seeds/scope.ts';
import { type Configuration, configurationOf } from '../system/configuration.ts';
import { guardMemory } from '../system/memory-guard.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import { systemIsRunning } from '../system/systemctl.ts';
import { within } from '../system/time-limit.ts';
import { type WaysOut, waysOutWith } from '../system/ways-out.ts';
import { type ActiveSecrets, activeWith, type Declared, declaredOn } from './active.ts';
import { type BootLogs, bootLogs } from './boot-changes.ts';
import { type BrokerState, brokerState } from './broker-state.ts';
import { type StrayLink, strayLinks } from './file-links.ts';
import { nothingBound, type SealedNextBoot, sealedNextBoot } from './next-boot.ts';
import { isEncryptedSwap, isOnEncryptedDisk, type Platform, platform, swapsOnDisk } from './platform.ts';
import { ReadableFiles } from './readable-files.ts';
import { type Rendered, renderedOn } from './rendered.ts';
import { type SealedSeeds, sealedSeeds } from './sealed-seeds.ts';
import { type StoreFiles, storeFiles } from './store-files.ts';
import { type TpmState, tpmState } from './tpm-state.ts';
import { type UnitState, unitStates } from './unit-state.ts';
import { readUnprepared, type Unprepared } from './unprepared.ts';
import { lasting, volatileOf } from './volatile.ts';

/** A scope whose seed opened. */
export interface OpenedScope {
  readonly scope: string;
  readonly epoch: number;
  readonly keyId: string;
}

/** The outcome of an attempt to open the seeds. */
export type OpeningAttempt =
  | {
      readonly state: 'opened';
      readonly openedBy: string;
      readonly milliseconds: number;
      readonly scopes: readonly OpenedScope[];
      readonly sealing: Sealing;
      readonly active: ActiveSecrets;
    }
  | { readonly state: 'failed'; readonly milliseconds: number; readonly failure: Failure }
  /** There is nothing to open, this user may not, or it was not asked for. */
  | { readonly state: 'untried' };

/** All facts that the checks judge. */
export interface Health {
  readonly root: string;
  readonly paths: Paths;
  /** Undefined if auxcred itself writes the drop-ins here. */
  readonly configuration: Configuration | undefined;
  /** What to do on this kind of system. */
  readonly ways: WaysOut;
  /** Whether systemd manages this system. */
  readonly isRunning: boolean;
  readonly now: Date;
  readonly seeds: SealedSeeds;
  readonly opening: OpeningAttempt;
  /** From the opened payload, else as far as the file shows it. */
  readonly withKey: KeySource | undefined;
  /** The number of recipients that open the seeds without this machine, from the same source. */
  readonly recovery: number;
  readonly isUnbound: boolean;
  /** Whether the seeds came from an operator's vault, which can derive them again. */
  readonly isFromVault: boolean;
  /** The name in this machine's host scope, according to the pins; undefined if they can't be read. */
  readonly host: string | undefined;
  readonly declared: Declared;
  readonly files: StoreFiles;
  readonly platform: Platform;
  readonly tpm: TpmState | undefined;
  /** The policies under which the TPM does not open the seed now; empty if they are literal, or were not tried. */
  readonly closed: readonly { readonly text: string; readonly failure: Failure }[];
  /** What this boot and that of the seal measured, if PCRs differ. */
  readonly boots: BootLogs;
  /** The next boot, as far as it is known. */
  readonly nextBoot: SealedNextBoot;
  /** What the literal branches of the seed are for. */
  readonly labels: BranchLabels;
  /** Why the seed could not be prepared for the kernels that are installed; undefined if it could. */
  readonly unprepared: Unprepared | undefined;
  /** Files that override the units' drop-ins. */
  readonly overrides: readonly Override[];
  /** Units that the configuration does not give what its manifest needs. */
  readonly lacking: readonly LackingUnit[];
  /** Declared units that are aliases, and the units that they stand for. */
  readonly aliases: ReadonlyMap<string, string>;
  readonly strayLinks: readonly StrayLink[];
  /** Lines that auxcred.service needs to open the seeds, and no unit file has; empty if that is not known. */
  readonly brokerLacks: readonly string[];
  /** Undefined if systemd does not run here. */
  readonly system:
    | {
        readonly broker: BrokerState;
        readonly units: readonly UnitState[];
        readonly rendered: Rendered;
        /** What has to last, but is only in memory. */
        readonly volatile: readonly string[];
        readonly swaps: readonly string[];
        readonly onEncryptedDisk: boolean | undefined;
      }
    | undefined;
  /** Paths that this user may not see. */
  readonly hidden: readonly string[];
  /** Whether a TPM still has not answered: its thread would hold up an ordinary exit. */
  readonly hangs: boolean;
}

/** Examines everything. Missing and broken parts are results, not errors. */
export async function lookAt(
  root: string,
  openers: (paths: Paths) => Openers,
  { open }: { readonly open: boolean },
): Promise<Health> {
  const paths = pathsUnder(root);
  const readable = new ReadableFiles();
  const isRunning = systemIsRunning(root);
  const configuration = configurationOf(paths);
  const now = new Date();
  const seeds = sealedSeeds(readable, paths);
  const declared = declaredOn(readable, root, paths, readManifest(root), now);
  const runsOn = platform();
  const opening =
    open && !runsOn.koffi && seeds.state !== 'hidden' && seeds.state !== 'missing' && seeds.pins !== 'hidden'
      ? await attemptToOpen(root, openers(paths), declared, now)
      : ({ state: 'untried' } as const);
  const device = openers(paths).device ?? (typeof seeds.pins === 'string' ? undefined : seeds.pins.device);
  const hung = opening.state === 'failed' && opening.failure.code === 'timeout';
  // For lost seeds too: whether they can be sealed to the TPM again.
  const asked = isRunning || seeds.object !== undefined || (seeds.lost !== undefined && hadTpm(seeds));
  const answer = !open || hung || !asked ? undefined : await unlessHung(tpmState(device, seeds.object));
  const hangs = hung || answer instanceof Failure;
  const tpm = answer instanceof Failure ? undefined : answer;
  const withKey = opening.state === 'opened' ? opening.sealing.withKey : seeds.withKey;
  const units = [...new Set(declared.manifest.declarations.flatMap((declaration) => declaration.units))].sort();
  return {
    root,
    paths,
    configuration,
    ways: waysOutWith(configuration),
    isRunning,
    now,
    seeds,
    opening,
    declared,
    withKey,
    recovery: opening.state === 'opened' ? opening.sealing.recovery.length : seeds.recovery,
    isUnbound: existsSync(paths.unbound),
    // Seeds that are shared with other machines were not created here.
    isFromVault: existsSync(paths.pushed) || scopesOf(seeds).some((scope) => scope.startsWith('group/')),
    host: scopesOf(seeds)
      .find((scope) => scope.startsWith('host/'))
      ?.slice('host/'.length),
    files: storeFiles(readable, root, paths),
    platform: runsOn,
    tpm,
    closed:
      opening.state === 'untried' || hangs || !tpm || tpm.failure
        ? []
        : await closedPolicies(readable, paths, { ...openers(paths), device }, seeds),
    ...bootFacts(readable, paths, {
      differs: tpm !== undefined && tpm.differences.length > 0,
      sealed: isRunning && opening.state === 'opened' ? seeds.object : undefined,
    }),
    overrides: overridesOn(paths, (path) => readable.text(path)),
    lacking: configuration === undefined ? [] : lackingUnits(paths, declared.manifest, (path) => readable.text(path)),
    aliases: aliasesAmong(root, new Set(units)),
    strayLinks: strayLinks(readable, paths, declared.manifest.declarations),
    // A configuration's switch refuses to lack the seed's key.
    brokerLacks: configuration === undefined ? brokerLacks(root, opening, seeds) : [],
    system: isRunning
      ? runningSystem(readable, paths, units, withKey !== 'tpm2' && seeds.hostKey !== undefined)
      : undefined,
    hidden: readable.hidden,
    hangs,
  };
}

const brokerLacks = (root: string, opening: OpeningAttempt, { hostKey }: SealedSeeds): string[] =>
  opening.state === 'opened'
    ? lackingFor(pathsUnder(root), opening.sealing, dropInFor(root, opening.sealing, hostKey !== undefined))
    : [];

/**
 * What is known of this boot, of that of the seal and of the next one. A user who may not read the logs still learns
 * which PCR differs.
 */
const bootFacts = (
  readable: ReadableFiles,
  paths: Paths,
  { differs, sealed }: { readonly differs: boolean; readonly sealed: SealedSeeds['object'] },
): Pick<Health, 'boots' | 'nextBoot' | 'labels' | 'unprepared'> => ({
  boots: differs ? bootLogs(readable, paths) : { sealed: undefined, now: undefined },
  nextBoot: sealed ? sealedNextBoot(readable, paths, sealed) : nothingBound,
  labels: readLabels(paths, (file) => readable.read(file)),
  unprepared: readUnprepared(readable, paths),
});

/** Tries every policy, if one of them depends on more than the PCRs, which are compared anyway. */
async function closedPolicies(
  readable: ReadableFiles,
  { seeds: path }: Paths,
  openers: Openers,
  { policies }: SealedSeeds,
): Promise<Health['closed']> {
  const file = readable.read(path);
  if (!file || policies.every(({ authority }) => authority === undefined)) return [];
  const closed = await unlessHung(closedAlternatives(file, openers).catch((error: unknown) => asFailure(error)));
  return closed instanceof Failure ? [] : closed.map(({ policy, failure }) => ({ text: policyText(policy), failure }));
}

/** What only a running system has. */
const runningSystem = (
  readable: ReadableFiles,
  paths: Paths,
  units: readonly string[],
  needsHostKey: boolean,
): NonNullable<Health['system']> => ({
  broker: brokerState(),
  units: unitStates(units),
  rendered: renderedOn(readable, paths),
  volatile: volatileOf(lasting(paths, needsHostKey)),
  swaps: existsSync('/run/systemd/container')
    ? []
    : swapsOnDisk(readable.text('/proc/swaps') ?? '', (swap) => isEncryptedSwap(readable, swap)),
  onEncryptedDisk: existsSync(paths.seeds) ? isOnEncryptedDisk(readable, paths.seeds) : undefined,
});

/** Whether the pins are of seeds that were sealed to a TPM. */
export const hadTpm = ({ pins }: SealedSeeds): boolean =>
  typeof pins !== 'string' && (pins.counter !== undefined || pins.device !== undefined);

const scopesOf = ({ pins }: SealedSeeds): string[] => (typeof pins === 'string' ? [] : [...pins.scopes.keys()]);

async function attemptToOpen(
  root: string,
  openers: Openers,
  { manifest }: Declared,
  now: Date,
): Promise<OpeningAttempt> {
  guardMemory();
  const paths = pathsUnder(root);
  const start = performance.now();
  const since = (): number => Math.round(performance.now() - start);
  const store = await unlessHung(openPinnedSeeds(paths, openers).catch((error: unknown) => asFailure(error)));
  if (store instanceof Failure) return { state: 'failed', milliseconds: since(), failure: store };
  const milliseconds = since();
  const { payload, openedBy } = store;
  try {
    return {
      state: 'opened',
      openedBy,
      milliseconds,
      sealing: payload.sealing,
      scopes: payload.scopes.map((scope) => ({
        scope: scopeName(scope),
        epoch: scope.epoch,
        keyId: hex(keyId(scope.seed)),
      })),
      active: activeWith(paths, manifest, store, {
        now,
        undelivered: await undelivered(root, paths, payload, 'credentials and files'),
      }),
    };
  } finally {
    wipeScopes(payload.scopes);
  }
}

function asFailure(error: unknown): Failure {
  if (error instanceof Failure) return error;
  if (error instanceof Error && 'syscall' in error) return new Failure('system', error.message, { cause: error });
  throw error;
}

/** The result of `work` with the TPM, or a failure if it takes longer than the broker would wait. */
const unlessHung = async <T>(work: Promise<T>): Promise<T | Failure> =>
  await within(
    openingPatience,
    work,
    () => new Failure('timeout', `the TPM does not answer within ${String(openingPatience / 1000)} s`),
  );
