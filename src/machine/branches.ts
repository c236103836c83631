/** Which literal branches a seed keeps: this boot's, those of what is installed, and as many of the others as fit. */
import { type BranchLabel, type BranchLabels, branchId } from '../seeds/branch-labels.ts';
import { mostBranches, type PcrValues } from '../tpm2/policy.ts';

/** A boot that is to open the seed. */
export interface BranchWish {
  readonly values: PcrValues;
  readonly entry: string;
  /** The digest of its UKI or kernel: SHA-256 in hexadecimal. */
  readonly image: string;
  /** Whether all of the values are sure. */
  readonly isSure: boolean;
}

/** What the branches of a seed are chosen from. */
export interface BranchSources {
  /** This boot; without a name if the log does not say what booted. */
  readonly current: Pick<BranchWish, 'values'> & Partial<BranchWish>;
  /** The boots to come, the most important first. */
  readonly wanted: readonly BranchWish[];
  /** The branches that the seed has. */
  readonly known: readonly PcrValues[];
  readonly labels: BranchLabels;
  /** The digests of the images that are installed. */
  readonly installed: ReadonlySet<string>;
  /** Whether the branches of what is not installed go, even if there is room for them. */
  readonly prunes: boolean;
  /** Milliseconds since 1970. */
  readonly now: number;
}

/** The branches to seal to, and what became of each that was considered. */
export interface ChosenBranches {
  /** At most {@link mostBranches}, this boot's first. */
  readonly branches: readonly PcrValues[];
  readonly labels: BranchLabels;
  /** What each branch is for, in their order: the entry, or undefined if it is not known. */
  readonly kept: readonly {
    readonly entry: string | undefined;
    readonly isCurrent: boolean;
    readonly isNew: boolean;
  }[];
  /** What is dropped: the entries, or undefined for a branch without a label; and whether they are installed. */
  readonly dropped: readonly { readonly entry: string | undefined; readonly isInstalled: boolean }[];
}

interface Candidate {
  readonly id: string;
  readonly values: PcrValues;
  readonly label: BranchLabel | undefined;
  readonly origin: 'current' | 'wanted' | 'known';
  readonly isInstalled: boolean;
}

/**
 * Chooses the branches of a seed. If there are more than fit, those of what is not installed go first, then those that
 * were not wanted, the oldest first. This boot's and the most important one never go.
 */
export function chooseBranches(sources: BranchSources): ChosenBranches {
  const candidates = candidatesFrom(sources);
  const known = new Set(sources.known.map(branchId));
  const goes = ({ origin, label, isInstalled }: Candidate): boolean =>
    sources.prunes && origin === 'known' && label !== undefined && (!isInstalled || isReplaced(label, sources));
  const pruned = candidates.filter(goes);
  const kept = candidates.filter((candidate) => !goes(candidate));
  const dropped = [...pruned];
  while (kept.length > mostBranches) {
    const [victim] = kept
      .filter(({ origin, id }) => origin !== 'current' && id !== idOfFirst(sources))
      .reverse()
      .sort((a, b) => rank(a) - rank(b) || (a.label?.since ?? 0) - (b.label?.since ?? 0));
    if (!victim) break;
    dropped.push(...kept.splice(kept.indexOf(victim), 1));
  }
  return {
    branches: kept.map(({ values }) => values),
    labels: new Map(kept.flatMap(({ id, label }) => (label ? [[id, label]] : []))),
    kept: kept.map(({ id, label, origin }) => ({
      entry: label?.entry,
      isCurrent: origin === 'current',
      isNew: !known.has(id),
    })),
    dropped: dropped.map(({ label, isInstalled }) => ({ entry: label?.entry, isInstalled })),
  };
}

const idOfFirst = ({ wanted: [first] }: BranchSources): string | undefined => first && branchId(first.values);

/** The lower, the sooner a branch goes. */
const rank = ({ isInstalled, origin }: Candidate): number => (origin === 'wanted' ? 2 : isInstalled ? 1 : 0);

/** Whether it is sure that the entry of a branch measures something else now, such as another command line. */
const isReplaced = ({ entry, image }: BranchLabel, { wanted }: BranchSources): boolean =>
  wanted.some((wish) => wish.isSure && wish.entry === entry && wish.image === image);

function candidatesFrom({ current, wanted, known, labels, installed, now }: BranchSources): Candidate[] {
  const labelled = (origin: Candidate['origin'], { values, entry, image }: BranchSources['current']): Candidate => {
    const id = branchId(values);
    const before = labels.get(id);
    const given =
      entry === undefined || image === undefined ? undefined : { entry, image, since: before?.since ?? now };
    const label = given ?? before;
    const isInstalled = origin !== 'known' || (label !== undefined && installed.has(label.image));
    return { id, values, label, origin, isInstalled };
  };
  const all = [
    ...wanted.map((wish) => labelled('wanted', wish)),
    ...known.map((values) => labelled('known', { values })),
  ];
  const here = labelled('current', current);
  // The entry that will boot says more of this boot's values than the file that the firmware logged.
  const same = all.find(({ id, label }) => id === here.id && label !== undefined);
  // The first of several with the same values counts.
  const unique = new Map([...all].reverse().map((candidate) => [candidate.id, candidate]));
  const others = all.filter((candidate) => unique.get(candidate.id) === candidate && candidate.id !== here.id);
  return [{ ...here, label: same?.label ?? here.label }, ...others];
}
