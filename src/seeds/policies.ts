/** The TPM policies of a sealing: one for each alternative, of which any one opens the seeds. */
import type { Stanza } from '../age/header.ts';
import { Failure } from '../failure.ts';
import { type PcrlockPrediction, refuseNarrow } from '../tpm2/pcrlock.ts';
import type { PcrValues, TpmPolicy } from '../tpm2/policy.ts';
import type { SealedObject } from '../tpm2/sealed-object.ts';
import { parseSigningKey } from '../tpm2/signing-key.ts';
import { indexText } from '../tpm2/wire.ts';
import type { Sealing } from './payload.ts';
import { parseStanza } from './tpm-stanza.ts';

/** What the policies of a machine are made of. */
export interface PolicySources {
  /** The literal branches, at most eight; empty without bound PCRs. */
  readonly branches: readonly PcrValues[];
  /** What systemd-pcrlock predicted on that machine; undefined if nothing. */
  readonly pcrlock: Omit<PcrlockPrediction, 'values'> | undefined;
}

/**
 * The policies for a sealing: signed and pcrlock if it has those, each together with the literal branches; else literal
 * alone. A TPM can't require a signature and a prediction at once, so these two are alternatives.
 * @throws Failure `not-found` for a prediction that is missing, `refused` for one that says too little
 */
export function policiesOf(
  {
    signed,
    pcrlock,
    lock,
    authorityAtFirstBoot,
  }: Pick<Sealing, 'signed' | 'pcrlock' | 'lock' | 'authorityAtFirstBoot'>,
  { branches, pcrlock: prediction }: PolicySources,
): TpmPolicy[] {
  if (authorityAtFirstBoot === true) return [{ bank: 'sha256', authority: undefined, branches }];
  const common = { bank: 'sha256', branches, ...(lock !== undefined && { lock }) } as const;
  const literal: TpmPolicy = { ...common, authority: undefined };
  const policies: TpmPolicy[] = [];
  if (signed) {
    const { publicKey, pcrs, signature } = signed;
    const key = parseSigningKey(publicKey, 'the public key of the sealing');
    policies.push({ ...common, authority: { kind: 'signed', key, pcrs, signature } });
  }
  if (pcrlock !== undefined) {
    if (!prediction)
      throw new Failure('not-found', `systemd-pcrlock predicted nothing: ${pcrlock} is missing`, {
        hint: 'systemd-pcrlock make-policy writes it',
      });
    refuseNarrow(prediction);
    const { index, name, pcrs } = prediction;
    policies.push({ ...common, authority: { kind: 'pcrlock', index, name, pcrs, file: pcrlock } });
  }
  return policies.length > 0 ? policies : [literal];
}

/** A policy in words: `PCR 7`, `PCR 11 as signed by 0123456789abcdef, PCR 7 (2 branches)`; empty without one. */
export function policyText({ authority, branches }: TpmPolicy): string {
  const [first] = branches;
  const literal = first
    ? `PCR ${[...first.keys()].join('+')}${branches.length > 1 ? ` (${String(branches.length)} branches)` : ''}`
    : undefined;
  const authorized =
    authority === undefined
      ? undefined
      : authority.kind === 'signed'
        ? `PCR ${authority.pcrs.join('+')} as signed by ${authority.key.fingerprint.slice(0, 16)}`
        : `PCR ${authority.pcrs.join('+')} as predicted by systemd-pcrlock (${indexText(authority.index)})`;
  return [authorized, literal].filter((part) => part !== undefined).join(', and ');
}

/** All policies in words; empty if there is none that binds anything. */
export const policiesText = (policies: readonly TpmPolicy[]): string =>
  policies
    .map(policyText)
    .filter((text) => text !== '')
    .join(' or ');

/** PCRs of the firmware that tell one system from another: what it started, and by whose signature. */
const tellingPcrs = [4, 7];

/**
 * Whether another system on this machine can reach what a signed policy asks for: PCR 11 is zero where no systemd-stub
 * boots, anyone who is root there may extend it, and what to extend it by is public.
 */
export const isWithinReach = ({ authority, branches: [first] }: Pick<TpmPolicy, 'authority' | 'branches'>): boolean =>
  authority?.kind === 'signed' && !tellingPcrs.some((pcr) => authority.pcrs.includes(pcr) || first?.has(pcr) === true);

const order = { signed: 0, pcrlock: 1, literal: 2 } as const;

/** The order in which alternatives are tried. */
export const inOrder = (a: TpmPolicy, b: TpmPolicy): number =>
  order[a.authority?.kind ?? 'literal'] - order[b.authority?.kind ?? 'literal'];

/**
 * The sealed objects in the stanzas of a seeds.age, in the order in which they are tried. @throws Failure `malformed`
 */
export const tpmObjects = (stanzas: readonly Stanza[]): SealedObject[] =>
  stanzas
    .filter(({ args: [type = ''] }) => type === 'auxcred/tpm2' || type === 'auxcred/tpm2+host')
    .map((stanza) => parseStanza(stanza).sealed)
    .sort((a, b) => inOrder(a.policy, b.policy));
