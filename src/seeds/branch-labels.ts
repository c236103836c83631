/**
 * What the literal branches of a seed are for, in a file beside it. Nothing is opened or refused by it: it decides
 * which branch goes first. A branch is named by its values, so labels that are older or newer than the seed do no harm.
 */
import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';
import { hex, utf8 } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { readIfPresent, replaceFile } from '../system/files.ts';
import { canonicalJson, Json } from '../system/json.ts';
import type { Paths } from '../system/paths.ts';
import type { PcrValues } from '../tpm2/policy.ts';

/** What a branch was made for. */
export interface BranchLabel {
  /** The id of the boot entry. */
  readonly entry: string;
  /** The digest of its UKI or kernel as firmware measures it: SHA-256 in hexadecimal. */
  readonly image: string;
  /** When the branch was made, in milliseconds since 1970. */
  readonly since: number;
}

/** Labels by {@link branchId}. */
export type BranchLabels = ReadonlyMap<string, BranchLabel>;

const version = 1;
const digestPattern = /^[0-9a-f]{64}$/;

/** Names a branch by its values: SHA-256, in hexadecimal, over `PCR=VALUE` lines in ascending order. */
export const branchId = (values: PcrValues): string =>
  createHash('sha256')
    .update(
      [...values]
        .sort(([a], [b]) => a - b)
        .map(([pcr, value]) => `${String(pcr)}=${hex(value)}\n`)
        .join(''),
    )
    .digest('hex');

/** Encodes labels as UTF-8 JSON. */
export const encodeLabels = (labels: BranchLabels): Uint8Array =>
  utf8(`${canonicalJson({ version, branches: Object.fromEntries(labels) })}\n`);

/** Parses {@link encodeLabels}. @throws Failure `malformed` */
export function parseLabels(bytes: Uint8Array, file: string): BranchLabels {
  const json = Json.parse(bytes, file, `remove ${file}: auxcred reseal writes it again`);
  json.version(version);
  const digestIn = (item: Json, text: string): string => {
    if (!digestPattern.test(text)) throw item.unexpected('a SHA-256 digest');
    return text;
  };
  return new Map(
    json
      .at('branches')
      .entries()
      .map(([id, item]) => [
        digestIn(item, id),
        {
          entry: item.at('entry').text(),
          image: digestIn(item.at('image'), item.at('image').text()),
          since: item.at('since').whole(0, Number.MAX_SAFE_INTEGER),
        },
      ]),
  );
}

/**
 * The labels of this machine. Damaged ones count as none, since they only explain.
 * @param read - how to read the file; undefined for one that is missing or hidden
 */
export function readLabels(
  { branches }: Paths,
  read: (file: string) => Uint8Array | undefined = readIfPresent,
): BranchLabels {
  const bytes = read(branches);
  try {
    return bytes ? parseLabels(bytes, branches) : new Map();
  } catch (error) {
    if (error instanceof Failure) return new Map();
    throw error;
  }
}

/** Replaces the labels of this machine. */
export function writeLabels({ branches }: Paths, labels: BranchLabels): void {
  if (labels.size === 0) rmSync(branches, { force: true });
  else replaceFile(branches, encodeLabels(labels), { mode: 0o600 });
}
