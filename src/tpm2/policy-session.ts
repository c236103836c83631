/** Satisfies the policy of a sealed object in a policy session, or says why the machine's state does not. */

import { createHash } from 'node:crypto';
import { hex, sameBytes } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { isLocked, lockedFailure } from './boot-lock.ts';
import { readPcrs } from './pcr.ts';
import { chosenSignature, readPcrSignatures } from './pcr-signature.ts';
import { predictionSteps, readPcrlock, unpredicted } from './pcrlock.ts';
import {
  afterPcrs,
  branchDigests,
  encodeSelection,
  type PcrlockAuthority,
  type PcrValues,
  pcrsOfPolicy,
  requiredBranches,
  requiredPcrs,
  type SignedAuthority,
  sameValues,
  startDigest,
  type TpmPolicy,
} from './policy.ts';
import { TpmError } from './response.ts';
import { openPersistent } from './srk.ts';
import { esysHandles, type Tpm } from './tpm.ts';
import { algorithms, fromStructure, indexText, sized, toStructure, u16, u32 } from './wire.ts';

/** A PCR changed while the policy was being satisfied, so it has to be tried again with the new values. */
export class PcrsMoved extends Error {
  override readonly name = 'PcrsMoved';
}

/**
 * Runs the policy commands in `session`, for the values that the PCRs have now.
 * @param hint - what the user can do if the machine is in another state
 * @throws PcrsMoved if a PCR was extended meanwhile
 * @throws Failure `pcr-mismatch` that names the PCRs, or says what is wrong with the signature or the prediction;
 * `until-boot` if this boot's broker locked the seed
 * @throws TpmError
 */
export async function satisfy(tpm: Tpm, session: number, policy: TpmPolicy, hint: string): Promise<void> {
  // One literal branch needs no choice, and the TPM itself compares: that saves reading.
  if (policy.authority === undefined && policy.branches.length < 2) {
    await policyPcr(tpm, session, requiredPcrs(policy));
    return;
  }
  const { authority } = policy;
  const prediction = authority?.kind === 'pcrlock' ? predictionFor(authority) : undefined;
  const needed = new Set([...pcrsOfPolicy(policy), ...(prediction?.pcrs ?? [])]);
  const now = await readPcrs(
    tpm,
    [...needed].sort((a, b) => a - b),
  );
  try {
    if (authority?.kind === 'signed') await authorize(tpm, session, authority, now);
    if (authority?.kind === 'pcrlock' && prediction) await authorizeNv(tpm, session, { authority, prediction, now });
    await satisfyLiteral(tpm, session, policy, now, hint);
  } catch (error) {
    const later = await readPcrs(tpm, [...now.keys()]);
    throw sameValues(now, later) ? error : new PcrsMoved();
  }
}

async function satisfyLiteral(
  tpm: Tpm,
  session: number,
  policy: TpmPolicy,
  now: PcrValues,
  hint: string,
): Promise<void> {
  const branches = requiredBranches(policy);
  if (branches.length === 0) return;
  const has = (values: PcrValues): boolean => [...values].every(([pcr, value]) => sameBytes(value, now.get(pcr)));
  if (!branches.some(has)) throw branchMismatch(policy, now, hint);
  await policyPcr(tpm, session, requiredPcrs(policy));
  const digests = branchDigests(policy);
  if (digests.length > 1) await policyOr(tpm, session, digests);
}

/** The beginning of a digest, for messages. */
const short = (value: Uint8Array | undefined): string => hex(value ?? new Uint8Array(0)).slice(0, 16);

/**
 * The failure for PCRs that no literal branch has, or for a lock. Of several branches it takes the one with the fewest
 * differences.
 */
export function branchMismatch(policy: TpmPolicy, now: PcrValues, hint: string, cause?: unknown): Failure {
  if (policy.lock !== undefined && isLocked(now, policy.lock)) return lockedFailure(policy.lock, cause);
  const branches = requiredBranches(policy);
  const differences = branches
    .map((values) => [...values].filter(([pcr, value]) => !sameBytes(value, now.get(pcr))))
    .sort((a, b) => a.length - b.length);
  const changed = (differences[0] ?? []).map(
    ([pcr, value]) => `PCR ${String(pcr)} (sealed at ${short(value)}, now ${short(now.get(pcr))})`,
  );
  if (changed.length === 0)
    return new Failure('malformed', 'the policy of the sealed object is not the one recorded beside it', {
      hint,
      cause,
    });
  const closest = branches.length > 1 ? ` in any of ${String(branches.length)} accepted ways; in the closest` : '';
  return new Failure(
    'pcr-mismatch',
    `the machine did not boot as it did when it was sealed${closest}: ${changed.join(', ')}`,
    { hint, cause },
  );
}

async function policyPcr(tpm: Tpm, session: number, pcrs: readonly number[]): Promise<void> {
  if (pcrs.length === 0) return;
  await tpm.call(
    'Esys_PolicyPCR',
    session,
    tpm.none,
    tpm.none,
    tpm.none,
    toStructure('TPM2B_DIGEST', u16(0)),
    toStructure('TPML_PCR_SELECTION', encodeSelection(pcrs)),
  );
}

async function policyOr(tpm: Tpm, session: number, digests: readonly Uint8Array[]): Promise<void> {
  const list = Uint8Array.from([...u32(digests.length), ...digests.flatMap((digest) => [...sized(digest)])]);
  await tpm.call('Esys_PolicyOR', session, tpm.none, tpm.none, tpm.none, toStructure('TPML_DIGEST', list));
}

async function authorize(tpm: Tpm, session: number, authority: SignedAuthority, now: PcrValues): Promise<void> {
  const digest = afterPcrs(startDigest, new Map(authority.pcrs.map((pcr) => [pcr, now.get(pcr) ?? startDigest])));
  const found = readPcrSignatures(authority);
  const { signature } = chosenSignature(authority, digest, found);
  const ticket = await verified(tpm, authority, digest, signature).catch((error: unknown) => {
    if (!(error instanceof TpmError) || !error.ofParameter) throw error;
    throw new Failure(
      'pcr-mismatch',
      `the signature for PCR ${authority.pcrs.join('+')} in ${found.from.join(', ')} is not valid`,
      {
        hint: 'boot an image that was signed with the right key',
        cause: error,
      },
    );
  });
  await policyPcr(tpm, session, authority.pcrs);
  await tpm.call(
    'Esys_PolicyAuthorize',
    session,
    tpm.none,
    tpm.none,
    tpm.none,
    toStructure('TPM2B_DIGEST', sized(digest)),
    toStructure('TPM2B_DIGEST', u16(0)),
    toStructure('TPM2B_NAME', sized(authority.key.name)),
    toStructure('TPMT_TK_VERIFIED', ticket),
  );
}

/** Has the TPM check a signature over `digest` (TPM2_VerifySignature, part 3, section 20.1). @returns its ticket */
async function verified(
  tpm: Tpm,
  { key }: SignedAuthority,
  digest: Uint8Array,
  signature: Uint8Array,
): Promise<Uint8Array> {
  const handle = await tpm.handle(async (slot) => {
    await tpm.call(
      'Esys_LoadExternal',
      tpm.none,
      tpm.none,
      tpm.none,
      null,
      toStructure('TPM2B_PUBLIC', key.public),
      esysHandles.owner,
      slot,
    );
  });
  try {
    const signed = Uint8Array.from([...u16(algorithms.rsassa), ...u16(algorithms.sha256), ...sized(signature)]);
    return await tpm.outputs(
      1,
      async (slot) => {
        await tpm.call(
          'Esys_VerifySignature',
          handle,
          tpm.none,
          tpm.none,
          tpm.none,
          toStructure('TPM2B_DIGEST', sized(createHash('sha256').update(digest).digest())),
          toStructure('TPMT_SIGNATURE', signed),
          slot,
        );
      },
      ([pointer = 0n]) => fromStructure('TPMT_TK_VERIFIED', pointer),
    );
  } finally {
    await tpm.release(handle);
  }
}

type Prediction = NonNullable<ReturnType<typeof readPcrlock>>;
const makePolicy = 'systemd-pcrlock make-policy predicts again; it has to run before a changed system boots';

function predictionFor({ file, index }: PcrlockAuthority): Prediction {
  const prediction = readPcrlock(file);
  if (!prediction)
    throw new Failure('pcr-mismatch', `there is no ${file}, which says what systemd-pcrlock predicted`, {
      hint: 'systemd-pcrlock make-policy writes it',
    });
  if (prediction.index !== index)
    throw new Failure(
      'pcr-mismatch',
      `${file} describes the NV index ${indexText(prediction.index)}, but the seed is sealed to ${indexText(index)}`,
      { hint: 'auxcred reseal --tpm2-pcrlock= with a recovery key seals it to the new one' },
    );
  return prediction;
}

interface Predicted {
  readonly authority: PcrlockAuthority;
  readonly prediction: Prediction;
  readonly now: PcrValues;
}

async function authorizeNv(tpm: Tpm, session: number, { authority, prediction, now }: Predicted): Promise<void> {
  const unknown = unpredicted(prediction, now);
  if (unknown.length > 0)
    throw new Failure(
      'pcr-mismatch',
      `systemd-pcrlock did not predict what booted: ${unknown.map((pcr) => `PCR ${String(pcr)} (now ${short(now.get(pcr))})`).join(', ')}`,
      { hint: makePolicy },
    );
  const index = await openIndex(tpm, authority);
  for (const { pcrs, branches } of predictionSteps(prediction).steps) {
    await policyPcr(tpm, session, pcrs);
    if (branches.length > 0) await policyOr(tpm, session, branches);
  }
  await tpm
    .call('Esys_PolicyAuthorizeNV', esysHandles.owner, index, session, esysHandles.password, tpm.none, tpm.none)
    .catch((error: unknown) => {
      if (!(error instanceof TpmError) || !contentCodes.some((code) => error.is(code))) throw error;
      throw new Failure(
        'pcr-mismatch',
        `the policy of the TPM's NV index ${indexText(authority.index)} is not that of ${authority.file}`,
        { hint: makePolicy, cause: error },
      );
    });
}

/** What PolicyAuthorizeNV returns for an index that has another digest, or none. */
const contentCodes = ['value', 'policyFail', 'nvUninitialized'] as const;

/** The handle of systemd-pcrlock's index, with the Name that the object is sealed to. */
async function openIndex(tpm: Tpm, { index, name }: PcrlockAuthority): Promise<number> {
  const found = await openPersistent(tpm, index);
  if (found && sameBytes(found.name, name)) return found.handle;
  throw new Failure(
    'pcr-mismatch',
    `the TPM's NV index ${indexText(index)} is not the one that the seed is sealed to: ` +
      'systemd-pcrlock removed it, or made it again',
    { hint: 'auxcred reseal with a recovery key seals to the new one' },
  );
}

/** The digest of a session, 32 bytes. */
export const sessionDigest = async (tpm: Tpm, session: number): Promise<Uint8Array> =>
  await tpm.outputs(
    1,
    async (slot) => {
      await tpm.call('Esys_PolicyGetDigest', session, tpm.none, tpm.none, tpm.none, slot);
    },
    ([pointer = 0n]) => fromStructure('TPM2B_DIGEST', pointer).slice(2),
  );
