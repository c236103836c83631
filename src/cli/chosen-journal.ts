/** The choice of a journal and of a time in it, for journalctl. */
import { existsSync } from 'node:fs';
import { ListedRecords } from '../audit/entry.ts';
import { brokerMatches } from '../broker/journal-record.ts';
import { Failure } from '../failure.ts';
import { type JournalEntry, journalStream } from '../system/journal-entries.ts';
import type { Options } from './options.ts';

/** A journal, or a part of it. */
export interface ChosenJournal {
  /** Whether it is this machine's own, or that below --root, so that what the machine knows is about it. */
  readonly isOwn: boolean;
  /** Whether it reaches up to the last entry. */
  readonly isUpToNow: boolean;
  /** Whether earlier entries may be left out. */
  readonly isPart: boolean;
  /** Options for journalctl. */
  readonly selection: readonly string[];
  /** Matches of the broker's entries, and of those that root wrote for secrets with `delivery = "file"`. */
  readonly broker: readonly string[];
  readonly files: readonly string[];
}

/** Reads the choice. @throws Failure `usage` */
export function chosenJournal(options: Options): ChosenJournal {
  const [file, directory, root] = [options.list('file'), options.value('directory'), options.value('root')];
  if ([file.length > 0, directory !== undefined, root !== undefined].filter(Boolean).length > 1)
    throw new Failure('usage', 'audit takes only one of --file, --directory and --root');
  for (const path of [...file, ...(directory === undefined ? [] : [directory])])
    if (!/[*?[]/.test(path) && !existsSync(path)) throw new Failure('not-found', `${path} does not exist`);
  const isOwn = file.length === 0 && directory === undefined;
  const valued = (name: string): string[] => options.list(name).map((value) => `--${name}=${value}`);
  return {
    isOwn,
    isUpToNow: options.value('until') === undefined && options.value('boot') === undefined,
    isPart: ['since', 'until', 'boot'].some((name) => options.value(name) !== undefined),
    selection: ['file', 'directory', 'root', 'since', 'until', 'boot'].flatMap(valued),
    // Another machine may have the user under another number.
    broker: [...brokerMatches(isOwn ? (root ?? '/') : undefined), '_TRANSPORT=journal'],
    files: ['_UID=0', '_TRANSPORT=journal', 'AUXCRED_OUTCOME=released', 'AUXCRED_OUTCOME=refused'],
  };
}

/** Entries of releases and refusals, oldest first. @throws Failure `system` */
export async function* auditEntries({ selection, broker, files }: ChosenJournal): AsyncGenerator<JournalEntry> {
  const outcomes = ['AUXCRED_OUTCOME=released', 'AUXCRED_OUTCOME=refused'];
  yield* journalStream(...selection, ...broker, ...outcomes, '+', ...files);
}

/** All entries that the broker wrote, as the chain has them. @throws Failure `system` */
export async function brokerRecords({ selection, broker }: ChosenJournal): Promise<ListedRecords> {
  const records = new ListedRecords();
  for await (const entry of journalStream(...selection, ...broker)) records.add(entry);
  return records;
}
