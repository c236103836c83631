/** The TPM's statements in the chain. Its counter and clock only grow, so none can be forged for the past. */
import { hex } from '../bytes.ts';
import { type AttestedCount, checkedStatement } from '../tpm2/attested-counter.ts';
import type { ChainedEntry, StatementText } from './entry.ts';
import { type Finding, runText } from './finding.ts';
import type { AuditKeys } from './key.ts';
import type { Run } from './run.ts';

/** A statement that the TPM made about a record of the chain. */
export interface Attestation extends AttestedCount {
  readonly record: ChainedEntry;
  /** The number of the record that the TPM was given. */
  readonly sequence: number;
}

/** After a power cut an orderly counter continues at a multiple of this (MAX_ORDERLY_COUNT + 1 of most TPMs). */
const orderlyStep = 256;

/**
 * Checks the statement that an anchor carries.
 * @returns a finding if it is not a statement about the record that it names; `unknown` for a key that was not given
 */
export function attestationIn(
  run: Run,
  record: ChainedEntry,
  statement: StatementText,
  keys: AuditKeys,
): Attestation | Finding | 'unknown' {
  const key = keys.tpm.get(statement.key);
  if (!key) return 'unknown';
  const [attest, signature] = [Buffer.from(statement.attest, 'base64'), Buffer.from(statement.signature, 'base64')];
  const count = checkedStatement({ attest, signature }, key);
  const sequence = Number(statement.sequence);
  const about = run.record(sequence);
  const wrong = (what: string): Finding => ({
    kind: 'tpm',
    run: run.id,
    sequence: record.sequence,
    text: `the TPM's statement in record ${String(record.sequence)} of ${runText(run.id)} ${what}`,
  });
  if (!count) return wrong('was not signed by this TPM');
  if (about && hex(about.hash) !== hex(count.digest)) return wrong('is not about the record that it names');
  return { ...count, record, sequence };
}

/** The difference of two numbers of resets, each modulo 2^32. */
const resetsBetween = (before: AttestedCount, after: AttestedCount): number => (after.resets - before.resets) | 0;

/**
 * Compares the statements with each other.
 * @param statements - in the order of the chain
 * @returns findings, and what the TPM's power cuts keep this from knowing
 */
export function compareStatements(statements: readonly Attestation[]): { findings: Finding[]; limits: string[] } {
  const findings: Finding[] = [];
  const limits: string[] = [];
  const wrong = ({ record }: Attestation, text: string): void => {
    findings.push({ kind: 'tpm', run: record.run, sequence: record.sequence, text });
  };
  for (const [i, after] of statements.entries()) {
    const before = statements[i - 1];
    if (!before) continue;
    const name = `record ${String(after.record.sequence)} of ${runText(after.record.run)}`;
    const resets = resetsBetween(before, after);
    if (after.count <= before.count)
      wrong(after, `the TPM made its statement in ${name} before the previous statement`);
    else if (resets < 0 || (resets === 0 && after.clock < before.clock))
      wrong(after, `the TPM's clock went back between the statement in ${name} and the one before it`);
    else {
      const lost = after.count - before.count - 1;
      if (lost === 0) continue;
      if (resets !== 0 && isJump(after.count))
        limits.push(
          `the TPM lost power before ${name}, so its counter does not tell whether anchors are missing there`,
        );
      else wrong(after, `${anchorsText(lost)} before ${name}: removed, or the broker was killed while it wrote`);
    }
  }
  return { findings, limits };
}

const anchorsText = (count: number): string =>
  count === 1
    ? 'an anchor that the TPM counted is missing'
    : `${String(count)} anchors that the TPM counted are missing`;

const isJump = (count: number): boolean => count % orderlyStep === 0;

/** Compares the last statement with the counter's present value. */
export function compareWithNow(last: Attestation | undefined, now: number): { findings: Finding[]; limits: string[] } {
  const lost = now - (last?.count ?? 0);
  if (!last || lost <= 0) return { findings: [], limits: [] };
  // The TPM counts in RAM: after a power cut, the value that it reads as is the highest that it may have had.
  if (now % orderlyStep === orderlyStep - 1)
    return {
      findings: [],
      limits: ['the TPM lost power since its last statement, so its counter does not tell whether anchors are cut off'],
    };
  return {
    findings: [{ kind: 'cut-off', text: `${anchorsText(lost)} at the end of the journal` }],
    limits: [],
  };
}
