/**
 * The policies of sealed objects, and their digests as the TPM computes them (TPM 2.0 part 3, chapter 23).
 *
 *     literal   PolicyPCR, then PolicyOR if there are several branches
 *     signed    PolicyPCR over what is signed, PolicyAuthorize, then as literal
 *     pcrlock   what systemd-pcrlock wrote to its NV index, PolicyAuthorizeNV, then as literal
 *
 * PolicyAuthorize and PolicyAuthorizeNV each replace the digest, so one policy has at most one of them.
 */
import { createHash } from 'node:crypto';
import { concat, sameBytes } from '../bytes.ts';
import { Failure } from '../failure.ts';
import type { SigningKey } from './signing-key.ts';
import { algorithms, u16, u32 } from './wire.ts';

/** PCR values, 32 bytes each (SHA-256), by index in ascending order. */
export type PcrValues = ReadonlyMap<number, Uint8Array>;

/** Requires PCR values that the owner of a key signed, as in systemd's `tpm2-pcr-signature.json`. */
export interface SignedAuthority {
  readonly kind: 'signed';
  readonly key: SigningKey;
  /** The PCRs that are signed, ascending. */
  readonly pcrs: readonly number[];
  /** The file with the signatures, an absolute path; undefined for the first that systemd's folders have. */
  readonly signature: string | undefined;
}

/** Requires PCR values that systemd-pcrlock predicted, and whose policy it keeps in an NV index. */
export interface PcrlockAuthority {
  readonly kind: 'pcrlock';
  readonly index: number;
  /** The Name of the written index, 34 bytes. */
  readonly name: Uint8Array;
  /** The PCRs that were predicted when this was sealed, ascending. Later predictions may have others. */
  readonly pcrs: readonly number[];
  /** systemd's pcrlock.json, an absolute path. */
  readonly file: string;
}

/** What a sealed object requires of the PCRs. With neither authority, branches nor lock, it opens in every state. */
export interface TpmPolicy {
  readonly bank: 'sha256';
  readonly authority: SignedAuthority | PcrlockAuthority | undefined;
  /** At most {@link mostBranches} sets of values of the same PCRs, one of which the PCRs must have; may be empty. */
  readonly branches: readonly PcrValues[];
  /** The PCR that locks until the next boot, which must not have been extended; undefined without one. */
  readonly lock?: number | undefined;
}

/** What PolicyOR takes (part 2, table 109: TPML_DIGEST). */
export const mostBranches = 8;

const commandCodes = { policyAuthorize: 0x16a, policyOr: 0x171, policyPcr: 0x17f, policyAuthorizeNv: 0x192 } as const;
const sha256 = (...parts: readonly Uint8Array[]): Uint8Array =>
  new Uint8Array(
    createHash('sha256')
      .update(concat(...parts))
      .digest(),
  );

/** The digest of a session without any policy command, 32 bytes. */
export const startDigest: Uint8Array = new Uint8Array(32);

/** TPML_PCR_SELECTION for the SHA-256 bank (part 2, tables 94 and 111). */
export function encodeSelection(pcrs: readonly number[]): Uint8Array {
  const bits = new Uint8Array(3);
  for (const pcr of pcrs) bits[pcr >> 3] = (bits[pcr >> 3] ?? 0) | (1 << (pcr & 7));
  return Uint8Array.from([...u32(1), ...u16(algorithms.sha256), bits.length, ...bits]);
}

/** `before` after PolicyPCR while the PCRs have these values (part 3, section 23.7). Without PCRs, `before` itself. */
export function afterPcrs(before: Uint8Array, values: PcrValues): Uint8Array {
  if (values.size === 0) return before;
  const ordered = [...values].sort(([a], [b]) => a - b);
  return sha256(
    before,
    u32(commandCodes.policyPcr),
    encodeSelection(ordered.map(([pcr]) => pcr)),
    sha256(...ordered.map(([, value]) => value)),
  );
}

/** The digest after PolicyOR over `branches`, 2 to 8 digests (part 3, section 23.6). It depends on nothing before. */
export const afterOr = (branches: readonly Uint8Array[]): Uint8Array =>
  sha256(startDigest, u32(commandCodes.policyOr), ...branches);

/** The digest after PolicyAuthorize with an empty reference (part 3, section 23.16), for a key with this Name. */
const afterAuthorize = (keyName: Uint8Array): Uint8Array =>
  sha256(sha256(startDigest, u32(commandCodes.policyAuthorize), keyName));

/** The digest after PolicyAuthorizeNV (part 3, section 23.22), for an index with this Name. */
const afterAuthorizeNv = (indexName: Uint8Array): Uint8Array =>
  sha256(startDigest, u32(commandCodes.policyAuthorizeNv), indexName);

/** The digest (32 bytes) once the authority of a policy is satisfied: where its branches start. */
export const authorityDigest = ({ authority }: Pick<TpmPolicy, 'authority'>): Uint8Array =>
  authority === undefined
    ? startDigest
    : authority.kind === 'signed'
      ? afterAuthorize(authority.key.name)
      : afterAuthorizeNv(authority.name);

/** The branches of a policy, each with the value that the PCR of its lock has before it is locked. */
export const requiredBranches = ({ branches, lock }: Pick<TpmPolicy, 'branches' | 'lock'>): readonly PcrValues[] =>
  lock === undefined
    ? branches
    : (branches.length === 0 ? [new Map<number, Uint8Array>()] : branches).map(
        (values) => new Map([...values, [lock, startDigest]]),
      );

/** The digests of a policy's branches, 32 bytes each: what its PolicyOR takes. */
export const branchDigests = (policy: TpmPolicy): Uint8Array[] =>
  requiredBranches(policy).map((values) => afterPcrs(authorityDigest(policy), values));

/** The policy digest (32 bytes) of an object. */
export function policyDigest(policy: TpmPolicy): Uint8Array {
  const digests = branchDigests(policy);
  return digests.length > 1 ? afterOr(digests) : (digests[0] ?? authorityDigest(policy));
}

/** A policy over literal values of the PCRs. Without PCRs, the object opens in every state. */
export const literalPolicy = (values: PcrValues, authority?: TpmPolicy['authority']): TpmPolicy => ({
  bank: 'sha256',
  authority,
  branches: values.size === 0 ? [] : [values],
});

/** The PCRs of the literal branches, ascending, without that of a lock. */
export const literalPcrs = ({ branches: [first] }: Pick<TpmPolicy, 'branches'>): number[] => [...(first?.keys() ?? [])];

/** The PCRs of the required branches, ascending. */
export const requiredPcrs = (policy: Pick<TpmPolicy, 'branches' | 'lock'>): number[] =>
  [...(requiredBranches(policy)[0]?.keys() ?? [])].sort((a, b) => a - b);

/** All PCRs that a policy depends on, ascending. */
export const pcrsOfPolicy = (policy: TpmPolicy): number[] =>
  [...new Set([...requiredPcrs(policy), ...(policy.authority?.pcrs ?? [])])].sort((a, b) => a - b);

/** Whether two sets of PCR values are the same. */
export const sameValues = (one: PcrValues, other: PcrValues): boolean =>
  one.size === other.size && [...one].every(([pcr, value]) => sameBytes(value, other.get(pcr)));

/**
 * Adds a branch to literal ones; one that is there already changes nothing.
 * @throws Failure `refused` for more than eight branches, or one over other PCRs
 */
export function addBranch(branches: readonly PcrValues[], values: PcrValues): PcrValues[] {
  if (branches.some((known) => sameValues(known, values))) return [...branches];
  const [first = values] = branches;
  const listOf = (one: PcrValues): string => [...one.keys()].join('+');
  if (listOf(first) !== listOf(values))
    throw new Failure('refused', `the branches bind PCR ${listOf(first)}, and the new one PCR ${listOf(values)}`, {
      hint: `auxcred reseal --tpm2-pcrs=${listOf(values)} drops the branches`,
    });
  if (branches.length === mostBranches)
    throw new Failure('refused', `the seed has ${String(mostBranches)} branches already, the most that a TPM takes`, {
      hint: 'auxcred reseal keeps only the one of this boot',
    });
  return [...branches, values];
}
