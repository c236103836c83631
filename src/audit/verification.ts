/** Checks a chain of audit records: against itself, the public keys, and on the machine also against what it knows. */
import { hex } from '../bytes.ts';
import type { Anchor, ChainedEntry, ListedRecords } from './entry.ts';
import { type Finding, missingText, recordsText, runText, type Verdict } from './finding.ts';
import { type AuditKeys, isSigned } from './key.ts';
import type { Position } from './record.ts';
import { type Run, runsOf } from './run.ts';
import { type Attestation, attestationIn, compareStatements, compareWithNow } from './statements.ts';

/** What the machine itself knows about the end of its chain. */
export interface Present {
  /** The last record, as the broker keeps it. */
  readonly state: Position | undefined;
  /** The TPM's counter. */
  readonly count: number | undefined;
  /** Whether the records are only those from some time on, so that the last of all may be from before. */
  readonly isPart?: boolean;
}

/** The most records that follow each other without a signature while the broker runs (`mostUnsigned` and some). */
const longestUnsigned = 128;

/**
 * Checks records.
 * @param present - undefined if the journal is from elsewhere, or does not reach up to now
 */
export function verifyRecords(records: ListedRecords, keys: AuditKeys, present?: Present): Verdict {
  const runs = runsOf(records.chained);
  const links = new Links(runs);
  const anchors = new Anchors(runs, keys);
  const vouched = vouchedRecords(links, anchors);
  const statements = compareStatements(inOrder(links, anchors.attestations));
  const outside = outsideOf(records);
  const now = present ? atTheEnd(runs, anchors.attestations, present) : noNews;
  const tail = tailOf(links, vouched);
  const parts = [links, anchors, statements, outside, now, tail];
  const counts = runs.map(
    (run) => run.records.filter(({ sequence }) => sequence <= (vouched.get(run.id) ?? -1)).length,
  );
  return {
    records: runs.reduce((sum, run) => sum + run.records.length, 0),
    runs: runs.length,
    vouched: counts.reduce((sum, count) => sum + count, 0),
    attested: anchors.attestations.length,
    findings: [...runs.flatMap(({ findings }) => findings), ...parts.flatMap(({ findings }) => findings)],
    limits: parts.flatMap(({ limits }) => limits),
  };
}

interface News {
  readonly findings: readonly Finding[];
  readonly limits: readonly string[];
}

const noNews: News = { findings: [], limits: [] };

/**
 * How runs follow each other. Each names the one before it, so the order of the journal only decides if there are
 * several beginnings or ends: after a clock was set back at a boot, it lists later runs first.
 */
class Links {
  readonly runs: readonly Run[];
  readonly findings: Finding[] = [];
  readonly limits: string[] = [];
  readonly #byId: ReadonlyMap<string, Run>;
  /** The runs that continue a run. */
  readonly #next = new Map<string, Run[]>();

  constructor(runs: readonly Run[]) {
    this.runs = runs;
    this.#byId = new Map(runs.map((run) => [run.id, run]));
    const first = runs.find((run) => this.#before(run) === undefined);
    for (const run of runs) this.#link(run, run === first);
  }

  /** The run that none continues. If there are several, it is the one that the journal lists last. */
  get last(): Run | undefined {
    return this.runs.findLast((run) => this.next(run).length === 0);
  }

  /** Each run after the one that it continues; chains that do not continue each other as the journal lists them. */
  get inOrder(): readonly Run[] {
    const listed = new Map(this.runs.map((run, i) => [run.id, i]));
    const places = new Map<string, { readonly chain: number; readonly depth: number }>();
    for (const run of this.runs) {
      const path: Run[] = [];
      // Runs that follow each other in a circle must be forged; each counts once.
      const seen = new Set<string>();
      let at: Run | undefined = run;
      while (at && !places.has(at.id) && !seen.has(at.id)) {
        seen.add(at.id);
        path.push(at);
        at = this.#before(at);
      }
      const known = at && places.get(at.id);
      const chain = known?.chain ?? listed.get(path.at(-1)?.id ?? '') ?? 0;
      let depth = known?.depth ?? 0;
      for (const one of path.reverse()) places.set(one.id, { chain, depth: ++depth });
    }
    const place = ({ id }: Run): { chain: number; depth: number } => places.get(id) ?? { chain: 0, depth: 0 };
    return [...this.runs].sort((a, b) => place(a).chain - place(b).chain || place(a).depth - place(b).depth);
  }

  next(run: Run): readonly Run[] {
    return this.#next.get(run.id) ?? [];
  }

  /** The run that a run continues; undefined if it is not here. */
  #before({ previous }: Run): Run | undefined {
    return previous && this.#byId.get(previous.run);
  }

  #link(run: Run, isFirst: boolean): void {
    const unwritten = run.records.reduce((sum, record) => sum + record.unwritten, 0);
    if (unwritten > 0)
      this.limits.push(`journald did not accept ${String(unwritten)} of the records of ${runText(run.id)}`);
    if (run.first > 0) {
      this.#begins(run, isFirst, `record ${String(run.first)} of ${runText(run.id)}`, run.first);
      return;
    }
    const { previous } = run;
    const before = this.#before(run);
    if (!previous && !isFirst)
      this.#found(
        'begun-again',
        run,
        `the chain begins again with ${runText(run.id)}: the broker's state was lost, removed, or could not be kept`,
      );
    if (previous && !before) this.#begins(run, isFirst, `the start of ${runText(run.id)}`);
    if (!previous || !before) return;
    this.#next.set(before.id, [...(this.#next.get(before.id) ?? []), run]);
    this.#compare(run, before, previous);
  }

  /** What is before the first record of all may have left the journal by age. */
  #begins(run: Run, isFirst: boolean, place: string, missing = 0): void {
    if (isFirst)
      this.limits.push(
        `what came before ${place} is not in this journal` +
          (missing === 0 ? '' : ", so this record can't be compared with it"),
      );
    else if (missing > 0) this.#found('missing', run, missingText(0, missing - 1, ` of ${runText(run.id)}`));
    else this.#found('missing', run, `the run before ${place} is missing`);
  }

  #compare(run: Run, before: Run, previous: Position): void {
    const [at, last] = [before.record(previous.sequence), before.last?.sequence ?? -1];
    const place = `${runText(run.id)} continues from record ${String(previous.sequence)}`;
    if (last < previous.sequence)
      this.#found(
        'missing',
        before,
        missingText(last + 1, previous.sequence, `, the end of ${runText(before.id)},`),
        last + 1,
      );
    else if (at && hex(at.hash) !== hex(previous.hash))
      this.#found(
        'altered',
        before,
        `${place} of ${runText(before.id)}, but not as it is in this journal`,
        previous.sequence,
      );
    else if (last > previous.sequence)
      this.limits.push(
        `${place} of ${runText(before.id)}, which has later records: the broker's state was lost in a power cut, or ` +
          'an old one was put back',
      );
  }

  #found(kind: Finding['kind'], run: Run, text: string, sequence = 0): void {
    this.findings.push({ kind, run: run.id, sequence, text });
  }
}

/** The records that vouch for those before them. */
class Anchors {
  readonly findings: Finding[] = [];
  readonly limits: string[] = [];
  readonly attestations: Attestation[] = [];
  readonly #signed = new Map<string, number>();
  #unknownStatements = 0;

  constructor(runs: readonly Run[], keys: AuditKeys) {
    const unknown = new Map<string, Finding>();
    for (const run of runs)
      for (const record of run.records) {
        const { anchor } = record;
        if (!anchor) continue;
        const name = anchor.key;
        const key = keys.chain.get(name);
        const place = `record ${String(record.sequence)} of ${runText(run.id)}`;
        const finding = { run: run.id, sequence: record.sequence };
        if (!key)
          unknown.set(name, {
            kind: 'unknown-key',
            ...finding,
            text:
              `${place} is signed with a key that was not given (${/^[0-9a-f]{16}$/.test(name) ? name : 'no name'}): ` +
              "it is of another seed, or somebody else's",
          });
        else if (!isSigned(record.hash, Buffer.from(anchor.signature, 'base64'), key))
          this.findings.push({
            kind: 'bad-signature',
            ...finding,
            text: `the signature in ${place} does not fit: something before it was altered`,
          });
        else this.#accept(run, record, anchor, keys);
      }
    this.findings.push(...unknown.values());
    if (this.#unknownStatements > 0)
      this.limits.push(
        `statements of a TPM were not checked, because its public key was not given: ${String(this.#unknownStatements)}`,
      );
  }

  /** The number of the last record of a run that it has a good signature for; -1 if there is none. */
  signedUpTo(run: Run): number {
    return this.#signed.get(run.id) ?? -1;
  }

  #accept(run: Run, record: ChainedEntry, { statement }: Anchor, keys: AuditKeys): void {
    this.#signed.set(run.id, record.sequence);
    if (!statement) return;
    const attestation = attestationIn(run, record, statement, keys);
    if (attestation === 'unknown') this.#unknownStatements++;
    else if ('kind' in attestation) this.findings.push(attestation);
    else this.attestations.push(attestation);
  }
}

/** The number of the last record of each run that a signature vouches for, be it in a run after it. */
function vouchedRecords(links: Links, anchors: Anchors): Map<string, number> {
  const vouched = new Map<string, number>();
  for (const run of [...links.inOrder].reverse()) {
    const later = links
      .next(run)
      .map((next) => ((vouched.get(next.id) ?? -1) >= 0 ? (next.previous?.sequence ?? -1) : -1));
    vouched.set(run.id, Math.max(anchors.signedUpTo(run), ...later));
  }
  return vouched;
}

/** Attestations in the order of the chain. */
function inOrder(links: Links, attestations: readonly Attestation[]): Attestation[] {
  const rank = new Map(links.inOrder.map((run, i) => [run.id, i]));
  const rankOf = ({ record }: Attestation): number => rank.get(record.run) ?? 0;
  return [...attestations].sort((a, b) => rankOf(a) - rankOf(b) || a.record.sequence - b.record.sequence);
}

/** The broker's entries that are no part of the chain. */
function outsideOf({ chained, unchained, damaged }: ListedRecords): News {
  const begin = chained[0]?.place ?? Number.POSITIVE_INFINITY;
  const [before, after] = [unchained.filter((place) => place < begin), unchained.filter((place) => place > begin)];
  const findings: Finding[] = [];
  if (damaged.length > 0)
    findings.push({
      kind: 'altered',
      text: `${String(damaged.length)} of the broker's records were altered: their place in the chain can't be read`,
    });
  if (after.length > 0)
    findings.push({
      kind: 'unchained',
      text:
        `${String(after.length)} of the broker's records are not part of the chain: somebody made them up, or ` +
        'removed their place in it',
    });
  const limits =
    before.length === 0 ? [] : [`nothing vouches for records from before the chain: ${String(before.length)}`];
  return { findings, limits };
}

/** Records that nobody vouches for: some at the end are normal. */
function tailOf(links: Links, vouched: ReadonlyMap<string, number>): News {
  const [findings, limits]: [Finding[], string[]] = [[], []];
  const { last: newest } = links;
  for (const run of links.runs) {
    const upTo = vouched.get(run.id) ?? -1;
    const tail = run.records.filter(({ sequence }) => sequence > upTo);
    const [first, last] = [tail[0], tail.at(-1)];
    if (!first || !last) continue;
    const releases = tail.filter(({ outcome }) => outcome === 'released').length;
    const text = `no signature vouches for ${recordsText(first.sequence, last.sequence)} of ${runText(run.id)}`;
    const isLast = run === newest;
    if (isLast && releases <= longestUnsigned) limits.push(`${text}, the end of the journal`);
    else if (!isLast && (upTo >= 0 || links.next(run).length > 0) && releases <= longestUnsigned)
      limits.push(`${text}: the broker was killed, or the power cut`);
    else findings.push({ kind: 'not-signed', run: run.id, sequence: first.sequence, text });
  }
  return { findings, limits };
}

/** Compares the end of the journal with what the machine knows. */
function atTheEnd(runs: readonly Run[], attestations: readonly Attestation[], present: Present): News {
  const { state, count, isPart = false } = present;
  const [findings, limits]: [Finding[], string[]] = [[], []];
  const run = runs.find(({ id }) => id === state?.run);
  if (state && !run && isPart)
    limits.push(
      `the last record that the broker wrote, ${String(state.sequence)} of ${runText(state.run)}, is not in this part ` +
        'of the journal: it is from before, or was cut off',
    );
  else if (state) {
    const last = run?.last?.sequence ?? -1;
    const at = run?.record(state.sequence);
    if (last < state.sequence)
      findings.push({
        kind: 'cut-off',
        run: state.run,
        sequence: last + 1,
        text: missingText(last + 1, state.sequence, ` of ${runText(state.run)}, the last that the broker wrote,`),
      });
    else if (at && hex(at.hash) !== hex(state.hash))
      findings.push({
        kind: 'altered',
        run: state.run,
        sequence: state.sequence,
        text: `record ${String(state.sequence)} of ${runText(state.run)} is not the one that the broker wrote last`,
      });
  }
  if (count === undefined) return { findings, limits };
  const latest = attestations.reduce<Attestation | undefined>(
    (best, one) => (best === undefined || one.count > best.count ? one : best),
    undefined,
  );
  const news = compareWithNow(latest, count);
  return { findings: [...findings, ...news.findings], limits: [...limits, ...news.limits] };
}
