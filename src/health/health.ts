/** Everything that `status` and `doctor` look at, looked at once. */
import { existsSync } from 'node:fs';
import { keyId } from '../derive/tree.ts';
import { type Override, overridesOn } from '../drop-ins/overrides.ts';
import { Failure } from '../failure.ts';
import { readManifest } from '../manifest/manifest.ts';
import { aliasesAmong } from '../provision/machine-problems.ts';
import { undelivered } from '../provision/undelivered.ts';
import { type Means, openStore } from '../seeds/open.ts';
import type { KeySource, Sealing } from '../seeds/payload.ts';
import { scopeName, wipeScopes } from '../seeds/scope.ts';
import { guardMemory } from '../system/memory-guard.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import { systemIsRunning } from '../system/systemctl.ts';
import { type BrokerState, brokerState } from './broker-state.ts';
import { type StrayLink, strayLinks } from './file-links.ts';
import { type Declared, declaredOn, type InForce, inForceWith } from './in-force.ts';
import { isEncryptedSwap, isOnEncryptedDisk, type Platform, platform, swapsOnDisk } from './platform.ts';
import { Sight } from './readable-files.ts';
import { type Rendered, renderedOn } from './rendered.ts';
import { type SealedSeeds, sealedSeeds } from './sealed-seeds.ts';
import { type StoreFiles, storeFiles } from './store-files.ts';
import { type TpmState, tpmState } from './tpm-state.ts';
import { type UnitState, unitStates } from './unit-state.ts';

/** Milliseconds that opening the seeds, or asking the TPM, may take: as long as the broker waits. */
const patience = 20_000;

export interface OpenedScope {
  readonly scope: string;
  readonly epoch: number;
  readonly keyId: string;
}

/** The result of an attempt to open the seeds. */
export type Opening =
  | {
      readonly state: 'opened';
      readonly openedBy: string;
      readonly milliseconds: number;
      readonly scopes: readonly OpenedScope[];
      readonly sealing: Sealing;
      readonly inForce: InForce;
    }
  | { readonly state: 'failed'; readonly milliseconds: number; readonly failure: Failure }
  /** Nothing to open, no right to, or it was not asked for. */
  | { readonly state: 'untried' };

export interface Health {
  readonly root: string;
  readonly paths: Paths;
  /** Whether systemd manages this very system. */
  readonly isRunning: boolean;
  readonly now: Date;
  readonly seeds: SealedSeeds;
  readonly opening: Opening;
  /** As the opened payload says, else as far as the file shows it. */
  readonly withKey: KeySource | undefined;
  /** Recipients that open the seeds without this machine, known in the same way. */
  readonly recovery: number;
  readonly isUnbound: boolean;
  /** Whether the seeds came from an operator's vault, which has them still. */
  readonly isFromVault: boolean;
  /** The machine's name among the scopes, as the pins say; undefined if they can't be read. */
  readonly host: string | undefined;
  readonly declared: Declared;
  readonly files: StoreFiles;
  readonly platform: Platform;
  readonly tpm: TpmState | undefined;
  /** Files that change the effect of units' drop-ins. */
  readonly overrides: readonly Override[];
  /** Declared units that are aliases, and the units that they stand for. */
  readonly aliases: ReadonlyMap<string, string>;
  readonly strayLinks: readonly StrayLink[];
  /** Undefined if systemd does not run here. */
  readonly system:
    | {
        readonly broker: BrokerState;
        readonly units: readonly UnitState[];
        readonly rendered: Rendered;
        readonly swaps: readonly string[];
        readonly onEncryptedDisk: boolean | undefined;
      }
    | undefined;
  /** Paths that this user can't read. */
  readonly hidden: readonly string[];
  /** Whether a TPM still has not answered: its thread would hold up an ordinary exit. */
  readonly hangs: boolean;
}

/** Looks at everything. Missing and broken parts are results, not errors. */
export async function lookAt(
  root: string,
  means: (paths: Paths) => Means,
  { open }: { readonly open: boolean },
): Promise<Health> {
  const paths = pathsUnder(root);
  const sight = new Sight();
  const isRunning = systemIsRunning(root);
  const now = new Date();
  const seeds = sealedSeeds(sight, paths);
  const declared = declaredOn(sight, root, paths, readManifest(root), now);
  const runsOn = platform();
  const opening =
    open && !runsOn.koffi && seeds.state !== 'hidden' && seeds.state !== 'missing' && seeds.pins !== 'hidden'
      ? await opened(root, means(paths), declared, now)
      : ({ state: 'untried' } as const);
  const device = means(paths).device ?? (typeof seeds.pins === 'string' ? undefined : seeds.pins.device);
  const hung = opening.state === 'failed' && opening.failure.code === 'timeout';
  // Whether lost seeds can be sealed to the TPM again depends on it too.
  const asked = isRunning || seeds.object !== undefined || (seeds.lost !== undefined && hadTpm(seeds));
  const tpm = !open || hung || !asked ? undefined : await within(tpmState(device, seeds.object));
  const units = [...new Set(declared.manifest.declarations.flatMap((declaration) => declaration.units))].sort();
  return {
    root,
    paths,
    isRunning,
    now,
    seeds,
    opening,
    declared,
    withKey: opening.state === 'opened' ? opening.sealing.withKey : seeds.withKey,
    recovery: opening.state === 'opened' ? opening.sealing.recovery.length : seeds.recovery,
    isUnbound: existsSync(paths.unbound),
    // Seeds that are shared with other machines were not made here.
    isFromVault: existsSync(paths.pushed) || scopesOf(seeds).some((scope) => scope.startsWith('group/')),
    host: scopesOf(seeds)
      .find((scope) => scope.startsWith('host/'))
      ?.slice('host/'.length),
    files: storeFiles(sight, root, paths),
    platform: runsOn,
    tpm: tpm instanceof Failure ? undefined : tpm,
    overrides: overridesOn(paths, (path) => sight.text(path)),
    aliases: aliasesAmong(root, new Set(units)),
    strayLinks: strayLinks(sight, paths, declared.manifest.declarations),
    system: isRunning
      ? {
          broker: brokerState(),
          units: unitStates(units),
          rendered: renderedOn(sight, paths),
          swaps: existsSync('/run/systemd/container')
            ? []
            : swapsOnDisk(sight.text('/proc/swaps') ?? '', (swap) => isEncryptedSwap(sight, swap)),
          onEncryptedDisk: existsSync(paths.seeds) ? isOnEncryptedDisk(sight, paths.seeds) : undefined,
        }
      : undefined,
    hidden: sight.hidden,
    hangs: hung || tpm instanceof Failure,
  };
}

/** Whether the pins belong to seeds that were sealed to a TPM. */
export const hadTpm = ({ pins }: SealedSeeds): boolean =>
  typeof pins !== 'string' && (pins.counter !== undefined || pins.device !== undefined);

const scopesOf = ({ pins }: SealedSeeds): string[] => (typeof pins === 'string' ? [] : [...pins.scopes.keys()]);

async function opened(root: string, means: Means, { manifest }: Declared, now: Date): Promise<Opening> {
  guardMemory();
  const paths = pathsUnder(root);
  const start = performance.now();
  const since = (): number => Math.round(performance.now() - start);
  const store = await within(openStore(paths, means).catch((error: unknown) => asFailure(error)));
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
        keyId: Buffer.from(keyId(scope.seed)).toString('hex'),
      })),
      inForce: inForceWith(paths, manifest, store, {
        now,
        undelivered: await undelivered(root, paths, payload, false),
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

/** The result of `work`, or a failure if it takes too long. */
async function within<T>(work: Promise<T>): Promise<T | Failure> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Failure>((resolve) => {
    timer = setTimeout(() => {
      resolve(new Failure('timeout', `the TPM does not answer within ${String(patience / 1000)} s`));
    }, patience);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
