/**
 * A summary of a boot's log: what was measured, in words, with its digest. One is kept when seeds are sealed, so that a
 * later boot can say which component changed. It is not authenticated and decides nothing: a summary whose
 * digests do not lead to the PCR values of the seal explains nothing.
 */
import { hex, sameBytes, utf8 } from '../bytes.ts';
import { canonicalJson, Json } from '../system/json.ts';
import { type Bank, extended, initialValue } from './bank.ts';
import type { MeasuredLog } from './measured-log.ts';
import { describeAll } from './words.ts';

/** One measurement in a summary. */
export interface SummaryEvent {
  readonly pcr: number;
  /** SHA-256, 32 bytes. */
  readonly digest: Uint8Array;
  /** The same for the same component of every boot. */
  readonly subject: string;
  /** Undefined if it has none that could be said. */
  readonly value: string | undefined;
}

/** The measurements of one boot. */
export interface Summary {
  /** The locality that started the TPM, which is where PCR 0 starts. */
  readonly locality: number;
  readonly events: readonly SummaryEvent[];
}

const bank: Bank = 'sha256';
/** More than any boot measures. */
const mostEvents = 10_000;

/** Summarizes a log. Events without a SHA-256 digest are left out. */
export function summaryOf({ events }: MeasuredLog): Summary {
  const described = describeAll(events);
  const start = events.find(({ meaning }) => meaning.kind === 'startup-locality')?.meaning;
  return {
    locality: start?.kind === 'startup-locality' ? start.locality : 0,
    events: events.flatMap(({ pcr, isMeasured, digests }, i) => {
      const [digest, words] = [digests.get(bank), described[i]];
      return isMeasured && digest && words ? [{ pcr, digest, subject: words.subject, value: words.value }] : [];
    }),
  };
}

/** The file's bytes (docs/formats.md). */
export const encodeSummary = ({ locality, events }: Summary): Uint8Array =>
  utf8(
    `${canonicalJson({
      version: 1,
      locality,
      events: events.map(({ pcr, digest, subject, value }) => ({
        pcr,
        digest: hex(digest),
        subject,
        value,
      })),
    })}\n`,
  );

/** Parses a summary. @throws Failure `malformed` */
export function parseSummary(bytes: Uint8Array, file: string): Summary {
  const json = Json.parse(bytes, file, 'auxcred reseal writes it again');
  json.version(1);
  const events = json.at('events').list();
  if (events.length > mostEvents) throw json.at('events').unexpected(`at most ${String(mostEvents)} events`);
  return {
    locality: json.at('locality').whole(0, 255),
    events: events.map((event) => {
      const digest = event.at('digest').text();
      if (!/^[0-9a-f]{64}$/.test(digest)) throw event.at('digest').unexpected('a SHA-256 digest');
      return {
        pcr: event.at('pcr').whole(0, 23),
        digest: new Uint8Array(Buffer.from(digest, 'hex')),
        subject: event.at('subject').text(),
        value: event.at('value').optional((value) => value.text()),
      };
    }),
  };
}

/** The value that a summary's events lead to, 32 bytes. */
export function summaryValue({ locality, events }: Summary, pcr: number): Uint8Array {
  const start = initialValue(bank, pcr);
  if (pcr === 0) start[start.length - 1] = locality;
  return events
    .filter((event) => event.pcr === pcr)
    .reduce((value, { digest }) => extended(bank, value, digest), start);
}

/**
 * What differs in a PCR between two boots, each a phrase such as
 * `the boot loader \EFI\BOOT\BOOTX64.EFI is a different one`. Empty if nothing does.
 */
export function changesBetween(before: Summary, now: Summary, pcr: number): string[] {
  const [old, fresh] = [before, now].map(({ events }) => events.filter((event) => event.pcr === pcr));
  const [gone, added, changed] = paired(old ?? [], fresh ?? []);
  const replaced = gone.flatMap((event) => {
    const other = added.find(({ subject }) => roleOf(subject) === roleOf(event.subject) && subject.includes('\\'));
    return other ? [{ event, other }] : [];
  });
  const phrases = [
    ...changed.map(([event, other]) => changedText(event, other)),
    ...replaced.map(({ event, other }) => `${other.subject} replaces ${fileIn(event.subject)}`),
    ...gone
      .filter((event) => !replaced.some((pair) => pair.event === event))
      .map(({ subject, value }) => `${valueText(subject, value)} is gone`),
    ...added
      .filter((event) => !replaced.some(({ other }) => other === event))
      .map(({ subject, value }) => `${valueText(subject, value)} is new`),
  ];
  if (phrases.length > 0 || !isReordered(old ?? [], fresh ?? [])) return [...new Set(phrases)];
  return ['the same was measured in a different order'];
}

type Paired = [gone: SummaryEvent[], added: SummaryEvent[], changed: [SummaryEvent, SummaryEvent][]];

/** Pairs the events of two boots: first equal ones, then those of one subject, in their order. */
function paired(old: readonly SummaryEvent[], fresh: readonly SummaryEvent[]): Paired {
  const [gone, added] = [[...old], [...fresh]];
  const take = (isPair: (a: SummaryEvent, b: SummaryEvent) => boolean): [SummaryEvent, SummaryEvent][] =>
    [...gone].flatMap((event) => {
      const other = added.find((candidate) => isPair(event, candidate));
      if (!other) return [];
      gone.splice(gone.indexOf(event), 1);
      added.splice(added.indexOf(other), 1);
      return [[event, other]];
    });
  take((a, b) => a.subject === b.subject && sameBytes(a.digest, b.digest));
  const changed = take((a, b) => a.subject === b.subject);
  return [gone, added, changed];
}

const roleOf = (subject: string): string => subject.split('\\')[0] ?? '';
const fileIn = (subject: string): string => subject.slice(roleOf(subject).length);
const valueText = (subject: string, value: string | undefined): string =>
  value === undefined ? subject : `${subject} (${value})`;

function changedText({ subject, value: was }: SummaryEvent, { value: is }: SummaryEvent): string {
  if (was !== undefined && is !== undefined && was !== is) return `${subject}: was ${was}, now ${is}`;
  return subject.includes('\\') || subject.endsWith('inside the UKI')
    ? `${subject} is a different one`
    : `${subject} changed`;
}

const isReordered = (old: readonly SummaryEvent[], fresh: readonly SummaryEvent[]): boolean =>
  old.some(({ digest }, i) => !sameBytes(digest, fresh[i]?.digest));
