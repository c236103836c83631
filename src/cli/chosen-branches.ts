/** The literal branches that the options of `reseal` ask for. */
import { Failure } from '../failure.ts';
import { defaultBoot, installedBoots, installedDigests } from '../health/boot-entries.ts';
import { bootedNow, nextBoot, nextBoots, type WantedNextBoot } from '../health/next-boot.ts';
import { type BranchWish, type ChosenBranches, chooseBranches } from '../machine/branches.ts';
import type { SealWishes } from '../machine/sealing.ts';
import { type LogFiles, type MeasuredLog, neededLog, readLog } from '../measured/measured-log.ts';
import { predictBoot } from '../measured/prediction.ts';
import { type BranchLabels, branchId, readLabels, writeLabels } from '../seeds/branch-labels.ts';
import type { Paths } from '../system/paths.ts';
import { say, warn } from '../terminal/say.ts';
import { mostBranches, type PcrValues, sameValues, type TpmPolicy } from '../tpm2/policy.ts';
import { type ChosenPrediction, chosenPrediction } from './chosen-prediction.ts';
import type { Options } from './options.ts';

/** Which literal branches a reseal adds. All but `this-boot` also keep those that the seed has. */
export interface BranchMode extends Partial<ChosenPrediction> {
  readonly kind: 'this-boot' | 'add-branch' | 'predict' | 'installed';
}

/** Reads the mode. @throws Failure `usage` for options that exclude each other */
export function branchMode(options: Options): BranchMode {
  const given = [
    ...(options.flag('add-branch') ? ['add-branch' as const] : []),
    ...(options.value('predict') === undefined ? [] : ['predict' as const]),
    ...(options.flag('installed') ? ['installed' as const] : []),
  ];
  const [kind = 'this-boot', other] = given;
  if (other !== undefined)
    throw new Failure('usage', `--${kind} and --${other} exclude each other`, {
      hint: '--predict and --installed also keep the branches that the seed has',
    });
  return { kind, ...chosenPrediction(options) };
}

/**
 * The branches to seal to, and what they are for.
 * @param policy - of the seeds as they are; undefined if it is not known
 * @throws Failure `usage` if no PCR is bound, `not-found` without a log of this boot or without such an entry
 */
export function chosenBranches(
  paths: Paths,
  mode: BranchMode,
  pcrs: readonly number[],
  policy: TpmPolicy | undefined,
): Required<Pick<SealWishes, 'branches' | 'beforehand'>> & { readonly sayBranches: () => void } {
  if (mode.kind !== 'this-boot' && pcrs.length === 0)
    throw new Failure('usage', 'branches are values of literal PCRs, and none is bound', {
      hint: '--tpm2-pcrs=4+7',
    });
  if (mode.kind !== 'this-boot' && !policy) warn('it is not known which branches the seed had, so none is kept');
  const log = mode.kind === 'this-boot' || mode.kind === 'add-branch' ? readableLog(paths) : neededLogOf(paths);
  const installed = installedDigests(paths);
  let labels: BranchLabels = new Map();
  let kept: ChosenBranches['kept'] = [];
  return {
    branches: (current) => {
      const chosen = chooseBranches({
        current: { values: current, ...(log && bootedNow(paths, log)) },
        wanted: log === undefined ? [] : wishesFor(log, bootsOf(paths, log, mode, sayLeftOut), pcrs, current),
        known: mode.kind === 'this-boot' ? [] : (policy?.branches ?? []),
        labels: readLabels(paths),
        installed,
        prunes: mode.kind === 'installed',
        now: Date.now(),
      });
      for (const { entry, isInstalled } of chosen.dropped) sayDropped(entry, isInstalled);
      ({ labels, kept } = chosen);
      return chosen.branches;
    },
    beforehand: () => {
      writeLabels(paths, labels);
    },
    sayBranches: () => {
      if (mode.kind !== 'this-boot') sayKept(kept);
    },
  };
}

/** `1 branch`, `2 branches`. */
export const branchesText = (count: number): string => (count === 1 ? '1 branch' : `${String(count)} branches`);

function sayKept(kept: ChosenBranches['kept']): void {
  const nameOf = ({ entry, isCurrent }: ChosenBranches['kept'][number]): string => {
    if (!isCurrent) return entry ?? 'a boot without a name';
    return entry === undefined ? 'this boot' : `this boot (${entry})`;
  };
  const added = kept.filter(({ isNew }) => isNew);
  if (added.length > 0) say(`added ${branchesText(added.length)}: ${added.map(nameOf).join(', ')}`);
  else say('no branch was added: the seed has them already');
  say(`the seed has ${branchesText(kept.length)} now: ${kept.map(nameOf).join(', ')}`);
}

const sayLeftOut = (id: string, { message, hint }: Failure): void => {
  warn(`${id} is left out: ${message}`, hint);
};

function sayDropped(entry: string | undefined, isInstalled: boolean): void {
  const what = entry === undefined ? 'the oldest branch' : `the branch of ${entry}`;
  if (isInstalled) warn(`${what} is dropped: the seed has ${String(mostBranches)} others, the most that a TPM takes`);
  else say(`${what} is dropped`);
}

/** The log of this boot, if there is one that can be read. Without it, branches have no names. */
function readableLog(paths: Paths): MeasuredLog | undefined {
  try {
    return readLog(logFiles(paths));
  } catch (error) {
    if (error instanceof Failure) return undefined;
    throw error;
  }
}

/** The log of this boot. @throws Failure `not-found` if there is none, `malformed` if it is damaged */
const neededLogOf = (paths: Paths): MeasuredLog =>
  neededLog(
    logFiles(paths),
    'without one the next boot is not known: auxcred reseal --no-tpm2-pcrs, and bind again after the reboot',
  );

const logFiles = ({ firmwareLog, userspaceLog }: Paths): LogFiles => ({
  firmware: firmwareLog,
  userspace: userspaceLog,
});

/**
 * The boots to predict, the most important first, one at a time since their images are large.
 * @param failed - is told of entries whose files are gone or damaged
 */
function* bootsOf(
  paths: Paths,
  log: MeasuredLog,
  { kind, named, commandLine }: BranchMode,
  failed: (id: string, failure: Failure) => void,
): Generator<WantedNextBoot> {
  if (kind === 'predict') yield nextBoot(paths, log, { named, commandLine, readsMachine: true });
  if (kind !== 'installed') return;
  const first = defaultBoot(paths);
  const others = installedBoots(paths).filter(({ file }) => file !== first?.file);
  let last: Failure | undefined;
  let isAny = false;
  const all = first ? [first, ...others] : others;
  for (const next of nextBoots(paths, log, all, ({ id }, failure) => {
    last = failure;
    failed(id, failure);
  })) {
    isAny = true;
    yield next;
  }
  if (isAny) return;
  if (last) throw last;
  // Without a menu only what booted now can boot next.
  yield nextBoot(paths, log, { named: undefined, readsMachine: true });
}

/** The branches of these boots, at most as many as a TPM takes; boots with the same values share one. */
function wishesFor(
  log: MeasuredLog,
  boots: Iterable<WantedNextBoot>,
  pcrs: readonly number[],
  current: PcrValues | undefined,
): BranchWish[] {
  const wishes: BranchWish[] = [];
  for (const next of boots) {
    if (wishes.length === mostBranches) break;
    const prediction = predictBoot(log, next, current ? { current } : {});
    const unsure: string[] = [];
    const values = new Map(
      pcrs.map((pcr): [number, Uint8Array] => {
        const predicted = prediction.pcrs.get(pcr);
        const value = predicted?.values.at(-1)?.value;
        if (!predicted || !value) throw new Failure('usage', `PCR ${String(pcr)} can't be predicted`);
        if (!predicted.isSure) unsure.push(`PCR ${String(pcr)} of ${next.boot.id} is not sure: ${predicted.why}`);
        return [pcr, value];
      }),
    );
    if (wishes.some((wish) => sameValues(wish.values, values))) continue;
    if (current) for (const text of unsure) warn(text);
    wishes.push({
      values,
      entry: next.boot.id,
      image: Buffer.from(next.started.image.digest('sha256')).toString('hex'),
      isSure: unsure.length === 0,
    });
  }
  return wishes;
}

/**
 * Whether the seed opens already with everything that is installed, and with nothing else that is known to be gone.
 * @returns the number of branches; undefined if the seed has to be sealed again
 * @throws Failure as {@link chosenBranches}
 */
export function isPrepared(paths: Paths, { branches }: TpmPolicy): number | undefined {
  const log = neededLogOf(paths);
  const pcrs = [...(branches[0]?.keys() ?? [])];
  const wanted = wishesFor(
    log,
    bootsOf(paths, log, { kind: 'installed' }, () => undefined),
    pcrs,
    undefined,
  );
  const labels = readLabels(paths);
  const known = new Set(branches.map(branchId));
  const installed = installedDigests(paths);
  const isStale = (values: PcrValues): boolean => {
    const label = labels.get(branchId(values));
    return label !== undefined && !installed.has(label.image) && !isOfThisBoot(paths, log, label.image);
  };
  const isComplete = wanted.every(({ values }) => known.has(branchId(values))) && !branches.some(isStale);
  return isComplete ? branches.length : undefined;
}

const isOfThisBoot = (paths: Paths, log: MeasuredLog, image: string): boolean => bootedNow(paths, log)?.image === image;
