/** A chain of audit records, written as the broker does, in a journal of memory. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Chain } from '../../src/audit/chain.ts';
import { ChainState, parseState } from '../../src/audit/chain-state.ts';
import { ListedRecords } from '../../src/audit/entry.ts';
import type { Verdict } from '../../src/audit/finding.ts';
import { type AuditKeys, privateKeyOf, type Signer, signerWith } from '../../src/audit/key.ts';
import type { Position } from '../../src/audit/record.ts';
import { type Present, verifyRecords } from '../../src/audit/verification.ts';
import { textIfPresent } from '../../src/system/files.ts';
import type { JournalFields } from '../../src/system/journal.ts';
import { parseEntry } from '../../src/system/journal-entries.ts';

/** The fields of one entry, as `journalctl --output=json` has them. */
export type Fields = Record<string, string>;

export const seed = Uint8Array.from({ length: 32 }, (_, i) => i);
export const privateKey = privateKeyOf(seed);
export const signer: Signer = signerWith(privateKey);

export class MemoryJournal {
  readonly entries: Fields[] = [];
  readonly folder = mkdtempSync(join(tmpdir(), 'audit-'));
  readonly statePath = join(this.folder, 'chain');
  /** Whether it takes records. */
  isOpen = true;
  #clock = 1_790_000_000_000_000;

  /** What the broker keeps of its last record. */
  get state(): Position | undefined {
    return parseState(textIfPresent(this.statePath) ?? '');
  }

  /** One run of the broker. */
  async run(work: (chain: Chain) => void | Promise<void>): Promise<void> {
    const state = ChainState.open(this.statePath, (error) => {
      throw error;
    });
    try {
      await work(new Chain(state, (fields) => this.take(fields)));
    } finally {
      state?.close();
    }
  }

  take(fields: JournalFields): boolean {
    if (this.isOpen) this.entries.push({ ...fields, __REALTIME_TIMESTAMP: String((this.#clock += 1000)) });
    return this.isOpen;
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A record of a release, as any other. */
export const release = (name: string): JournalFields => ({
  MESSAGE: `released ${name} to web.service`,
  MESSAGE_ID: 'f0a0c2a48c3f4b0f9a5a7d2a54a2f6f1',
  PRIORITY: '6',
  AUXCRED_OUTCOME: 'released',
  AUXCRED_UNIT: 'web.service',
  AUXCRED_CREDENTIAL: name,
  AUXCRED_REALM: `host/web1 hex ${name}`,
});

/** Checks entries as `auxcred audit --verify` does. */
export function verify(entries: readonly Fields[], keys: AuditKeys, present?: Present): Verdict {
  const records = new ListedRecords();
  for (const entry of entries) records.add(parseEntry(JSON.stringify(entry)));
  return verifyRecords(records, keys, present);
}

export const kindsOf = ({ findings }: Verdict): string[] => findings.map(({ kind }) => kind);
