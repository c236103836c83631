/**
 * The records of the audit chain: what the broker adds to each of its journal records, so that a removed, altered or
 * reordered one is found. docs/formats.md describes it, and `test/vectors/audit.json` guards every byte.
 */
import { createHash } from 'node:crypto';
import { concat, u32be, utf8 } from '../bytes.ts';

/** The ids of the chain's own records (systemd.journal-fields(7)). */
export const chainMessageIds = {
  started: '6a1c2f2f4b7c4f0f8d3f0d5c1e9a7b30',
  anchored: 'c8d3f5b1a0f94d6e9b7f3e2a54c1d860',
} as const;

/** Where a record is in the chain, and the hash up to it. */
export interface Position {
  /** One run of the broker: 16 random bytes in hexadecimal. */
  readonly run: string;
  /** The record's number in its run, from 0. */
  readonly sequence: number;
  /** {@link recordHash} of the record. */
  readonly hash: Uint8Array;
}

/** The hash before the first record of all. */
export const firstHash = new Uint8Array(32);

/** The fields that carry the hash and its signature, which the hash can't cover. */
const uncovered: readonly string[] = ['AUXCRED_HASH', 'AUXCRED_SIGNATURE'];
const general: readonly string[] = ['MESSAGE', 'MESSAGE_ID', 'PRIORITY'];

/** Whether the chain covers a field. journald's own fields, and those that a collector adds, are outside of it. */
export const isCovered = (name: string): boolean =>
  general.includes(name) || (name.startsWith('AUXCRED_') && !uncovered.includes(name));

const measured = (bytes: Uint8Array): Uint8Array => concat(u32be(bytes.length), bytes);

/** What the hash covers of a record itself: its covered fields by name, each name and value after its length in 4 bytes. */
export function coveredBytes(fields: ReadonlyMap<string, Uint8Array>): Uint8Array {
  const names = [...fields.keys()].filter(isCovered).sort();
  return concat(
    ...names.flatMap((name) => {
      const value = fields.get(name);
      return value ? [measured(utf8(name)), measured(value)] : [];
    }),
  );
}

/** The hash (32 bytes) of a record and all before it: SHA-256 of the hash before it and {@link coveredBytes}. */
export const recordHash = (before: Uint8Array, covered: Uint8Array): Uint8Array =>
  createHash('sha256').update(utf8('auxcred/v1/audit')).update(before).update(covered).digest();
