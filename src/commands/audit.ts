import { spawnSync } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseState } from '../audit/chain-state.ts';
import { timeOf } from '../audit/entry.ts';
import type { Verdict } from '../audit/finding.ts';
import { type AuditKeys, auditKeys, keyText, parseKeys, privateKeyOf } from '../audit/key.ts';
import { type Present, verifyRecords } from '../audit/verification.ts';
import { auditEntries, brokerRecords, type ChosenJournal, chosenJournal } from '../cli/chosen-journal.ts';
import { dashed } from '../cli/option-text.ts';
import { Options } from '../cli/options.ts';
import { exitStatus, Failure } from '../failure.ts';
import { openersOf } from '../machine/openers.ts';
import { openPinnedSeeds } from '../seeds/open.ts';
import { hostScope, wipeScopes } from '../seeds/scope.ts';
import { readFileWithin, textIfPresent } from '../system/files.ts';
import { type JournalEntry, journalReaders } from '../system/journal-entries.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import { printableJson } from '../system/printable.ts';
import { templateOf } from '../system/unit-name.ts';
import { colored, counted, print, printBytes, printJson, say } from '../terminal/say.ts';
import { attestedCount, attestingKey } from '../tpm2/attested-counter.ts';
import { openTpm, type Tpm } from '../tpm2/tpm.ts';

const selecting = ['unit', 'secret', 'refused', 'n'] as const;
/** In bytes: some hundred keys. */
const longestKeys = 65_536;
/** Milliseconds that the broker may take from counting in the TPM to its record. */
const anchorTime = 3_000;

/** `auxcred audit`: shows who got what and when, or checks that the records are intact. */
export async function audit(argv: readonly string[]): Promise<number> {
  const options = new Options('audit', argv);
  options.exactly();
  const verifies = options.flag('verify');
  if (options.flag('key')) {
    if (verifies) throw new Failure('usage', 'audit takes only one of --key and --verify');
    const { keys } = await ownKeys(options);
    printBytes(Buffer.from(keyText(keys)));
    return 0;
  }
  const journal = chosenJournal(options);
  if (!verifies && options.value('public-key') !== undefined) throw new Failure('usage', '--public-key needs --verify');
  if (!verifies) return await list(options, journal);
  const given = selecting.find((name) => options.flag(name) || options.value(name) !== undefined);
  if (given !== undefined)
    throw new Failure('usage', `--verify checks all records, so it takes no ${dashed('audit', given)}`);
  return await verify(options, journal);
}

interface Row {
  readonly at: Date;
  readonly outcome: string;
  readonly unit: string;
  readonly credential: string;
  readonly realm: string;
  readonly period: string;
  readonly generation: string;
  readonly delivery: string;
  readonly reason: string;
}

function rowOf(entry: JournalEntry): Row {
  const { field } = entry;
  return {
    at: timeOf(entry),
    outcome: field('AUXCRED_OUTCOME'),
    unit: field('AUXCRED_UNIT'),
    credential: field('AUXCRED_CREDENTIAL'),
    realm: field('AUXCRED_REALM'),
    period: field('AUXCRED_PERIOD'),
    generation: field('AUXCRED_GENERATION'),
    delivery: field('AUXCRED_DELIVERY'),
    reason: field('AUXCRED_REASON'),
  };
}

/** Prints rows as they come: a journal may have a million. */
async function list(options: Options, journal: ChosenJournal): Promise<number> {
  const rows = lastOf(wantedRows(options, journal), wholeNumber(options.value('n')));
  const count = await (options.flag('json') ? printJsonRows(rows) : printRows(rows));
  if (count > 0) return 0;
  say('nothing was released or refused');
  // journalctl shows a user his own records, and says nothing of others.
  if (journal.isOwn && process.getuid?.() !== 0) say(`hint: ${journalReaders}`);
  return 0;
}

async function* wantedRows(options: Options, journal: ChosenJournal): AsyncGenerator<Row> {
  const [unit, secret, refused] = [options.value('unit'), options.value('secret'), options.flag('refused')];
  for await (const entry of auditEntries(journal)) {
    const row = rowOf(entry);
    if (refused && row.outcome !== 'refused') continue;
    if (unit !== undefined && !isOf(unit, row.unit)) continue;
    if (secret !== undefined && secretOf(row) !== secret) continue;
    yield row;
  }
}

/** The last `most` rows. */
async function* lastOf(rows: AsyncIterable<Row>, most: number): AsyncGenerator<Row> {
  let last: Row[] = [];
  for await (const row of rows)
    if (most === Number.POSITIVE_INFINITY) yield row;
    else if (last.push(row) >= 2 * most) last = last.slice(-most);
  yield* last.slice(-most);
}

/** Prints a list, whole even if the journal ends with a failure. @returns how many rows */
async function printJsonRows(rows: AsyncIterable<Row>): Promise<number> {
  let count = 0;
  let before: Row | undefined;
  // A comma stands at the end of a line, so each row is printed when the next one is there.
  const printRow = ({ at, ...row }: Row, comma: string): void => {
    const text = printableJson({ at: at.toISOString(), ...row, secret: secretOf(row) });
    print(`${text.replaceAll(/^/gm, '  ')}${comma}`);
  };
  try {
    for await (const row of rows) {
      if (before) printRow(before, ',');
      else print('[');
      before = row;
      count++;
    }
  } finally {
    if (before) printRow(before, '');
    print(before ? ']' : '[]');
  }
  return count;
}

function wholeNumber(text: string | undefined): number {
  if (text === undefined) return Number.POSITIVE_INFINITY;
  if (!/^[1-9][0-9]{0,8}$/.test(text)) throw new Failure('usage', `-n takes a number of records, not ${text}`);
  return Number(text);
}

/** Whether one of a record's units is the wanted one, with or without `.service`, or an instance of it. */
const isOf = (wanted: string, units: string): boolean =>
  units
    .split(' ')
    .some((unit) => [unit, templateOf(unit)].some((name) => name === wanted || name === `${wanted}.service`));

/** The name of the secret: the last word of the realm. A template and a fixed secret have one too. */
const secretOf = ({ realm }: Pick<Row, 'realm'>): string => realm.split(' ').at(-1) ?? '';

/** The widths of the table and of its columns, in characters. */
const [unitWidth, credentialWidth, secretWidth, width] = [26, 18, 31, 100];
/** `2026-11-26 07:32:42`. */
const timeWidth = 19;

const clipped = (text: string, most: number): string =>
  (text.length > most ? `${text.slice(0, most - 1)}…` : text).padEnd(most);

/** @returns how many rows */
async function printRows(rows: AsyncIterable<Row>): Promise<number> {
  const line = (when: string, ...cells: readonly [string, string, string]): string =>
    [
      when.padEnd(timeWidth),
      ...cells.map((cell, i) => clipped(cell, [unitWidth, credentialWidth, secretWidth][i] ?? 0)),
    ]
      .join('  ')
      .trimEnd();
  let count = 0;
  for await (const row of rows) {
    if (count++ === 0) print(colored(line('WHEN', 'UNIT', 'CREDENTIAL', 'SECRET'), 'bold'));
    const [when, unit] = [localTime(row.at), row.unit || 'anyone who may read it'];
    if (row.outcome === 'refused') {
      print(colored(line(when, unit, row.credential, 'refused'), 'red'));
      const indent = ' '.repeat(timeWidth + 2);
      for (const part of wrapped(row.reason, width - indent.length)) print(`${indent}${part}`);
    } else print(line(when, unit, row.credential, versionText(row)));
  }
  return count;
}

/**
 * `host/web1 hex key 2026-11 #2`: the realm, with period and generation if they say anything. Those of a template's
 * secrets are joined by `+`, so `++` has no period, and `1+1` no generation but the first.
 */
const versionText = ({ realm, period, generation }: Row): string =>
  [realm, /[^+]/.test(period) ? period : '', /[^1+]/.test(generation) ? `#${generation}` : '']
    .filter((part) => part !== '')
    .join(' ');

function wrapped(text: string, most: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ').flatMap((one) => one.match(new RegExp(`.{1,${String(most)}}`, 'gu')) ?? [])) {
    if (line !== '' && line.length + 1 + word.length > most) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return line === '' ? lines : [...lines, line];
}

/** `2026-11-26 07:32:42` in the time zone of the system, as journalctl reads it in --since. */
function localTime(at: Date): string {
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = [at.getFullYear(), two(at.getMonth() + 1), two(at.getDate())].join('-');
  return `${day} ${[at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(':')}`;
}

async function verify(options: Options, journal: ChosenJournal): Promise<number> {
  const file = options.value('public-key');
  if (file === undefined && !journal.isOwn)
    throw new Failure('usage', 'audit --verify of an exported journal needs --public-key=FILE', {
      hint: 'auxcred audit --key prints the keys on the machine itself',
    });
  const own = file === undefined ? await unlockedKeys(options) : undefined;
  const keys = own?.keys ?? givenKeys(file ?? '');
  let verdict = await check(options, journal, keys, own?.device);
  // The broker may be between counting in the TPM and its record of that.
  if (journal.isOwn && verdict.findings.some(({ kind }) => kind === 'cut-off')) {
    await sleep(anchorTime);
    verdict = await check(options, journal, keys, own?.device);
  }
  if (verdict.records === 0 && verdict.findings.length === 0)
    throw new Failure(
      'not-found',
      `there is no record of an audit chain in this ${journal.isPart ? 'part of the ' : ''}journal`,
      {
        hint: journal.isPart
          ? 'a longer time takes in more'
          : `the broker writes one with the next secret that it releases; ${journalReaders}`,
      },
    );
  if (options.flag('json')) printJson({ version: 1, intact: verdict.findings.length === 0, ...verdict });
  else printVerdict(verdict);
  return verdict.findings.length === 0 ? 0 : exitStatus.unwell;
}

function givenKeys(file: string): AuditKeys {
  const bytes = readFileWithin(file, longestKeys);
  if (!bytes) throw new Failure('not-found', `${file} does not exist`);
  return parseKeys(Buffer.from(bytes).toString('utf8'), file);
}

async function check(
  options: Options,
  journal: ChosenJournal,
  keys: AuditKeys,
  device: Device | undefined,
): Promise<Verdict> {
  // Before the journal is read: a later record would seem to be missing.
  const paths = pathsUnder(options.value('root') ?? '/');
  const present = journal.isOwn && journal.isUpToNow ? await presentState(paths, device) : undefined;
  if (paths.root === '/' && journal.isOwn) spawnSync('journalctl', ['--sync'], { stdio: 'ignore' });
  return verifyRecords(await brokerRecords(journal), keys, present && { ...present, isPart: journal.isPart });
}

interface Device {
  readonly name: string | undefined;
}

async function presentState({ auditState }: Paths, device: Device | undefined): Promise<Present> {
  const count = device === undefined ? undefined : await withTpm(device, attestedCount);
  try {
    const state = textIfPresent(auditState);
    return { state: state === undefined ? undefined : parseState(state), count };
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EACCES')) throw error;
    say(`${auditState} is not readable by this user, so the end of the journal is not compared with it`);
    return { state: undefined, count };
  }
}

async function withTpm<T>({ name }: Device, work: (tpm: Tpm) => Promise<T>): Promise<T> {
  const tpm = await openTpm(name);
  try {
    return await work(tpm);
  } finally {
    await tpm.close();
  }
}

/** The keys of this machine, and its TPM if that opens the seed. @throws Failure */
async function ownKeys(options: Options): Promise<{ keys: AuditKeys; device: Device | undefined }> {
  const paths = pathsUnder(options.value('root') ?? '/');
  const opened = await openPinnedSeeds(paths, openersOf(paths, options.value('tpm2-device')));
  try {
    const device = opened.srk === undefined ? undefined : { name: opened.device };
    const tpm = device === undefined ? [] : [await withTpm(device, attestingKey)];
    return { keys: auditKeys([privateKeyOf(hostScope(opened.payload.scopes).seed)].map(createPublicKey), tpm), device };
  } finally {
    wipeScopes(opened.payload.scopes);
  }
}

/** As {@link ownKeys}. @throws Failure; if the seed is locked, its hint is the call that needs no seed */
async function unlockedKeys(options: Options): ReturnType<typeof ownKeys> {
  try {
    return await ownKeys(options);
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== 'until-boot') throw error;
    throw new Failure(error.code, error.message, {
      hint: 'auxcred audit --verify --public-key=FILE, with what auxcred audit --key printed before it was locked',
      cause: error,
    });
  }
}

/** What no check of a chain can find, whatever the records are. */
const neverKnown = [
  'records that were cut off before the first one here, or after the last that a signature vouches for',
  'what root did without the broker: reading a credential, unsealing the seed, stopping the broker',
] as const;

function printVerdict({ records, runs, vouched, attested, findings, limits }: Verdict): void {
  for (const { text } of findings) print(`${colored('wrong', 'red')}    ${text}`);
  for (const text of limits) print(`${colored('unknown', 'yellow')}  ${text}`);
  for (const text of neverKnown) print(`${colored('unknown', 'yellow')}  ${text}`);
  const amount = `${counted(records, 'record')} of ${counted(runs, 'run')} of the broker`;
  const by = attested === 0 ? '' : `, and ${counted(attested, 'statement')} of the TPM fit`;
  print(
    findings.length === 0
      ? `${colored('intact', 'green')}   ${amount}; signatures vouch for ${String(vouched)}${by}`
      : `${colored('not intact', 'red')}: ${amount}; signatures vouch for ${String(vouched)}${by}`,
  );
}
