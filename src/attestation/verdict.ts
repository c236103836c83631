/** Judges a proven state by a policy. */
import { createPublicKey, verify, type X509Certificate } from 'node:crypto';
import { hex, sameBytes } from '../bytes.ts';
import { Failure } from '../failure.ts';
import type { MeasuredLog } from '../measured/measured-log.ts';
import { type PcrSignature, parsePcrSignatures } from '../tpm2/pcr-signature.ts';
import { afterPcrs, startDigest } from '../tpm2/policy.ts';
import type { SigningKey } from '../tpm2/signing-key.ts';
import type { SrkPublic } from '../tpm2/srk.ts';
import type { TpmVendor } from '../tpm2/vendor.ts';
import type { Expected } from './challenge.ts';
import { componentsOf } from './components.ts';
import { checkedCertificate, isVirtual } from './ek-certificate.ts';
import type { Answer, Endorsement } from './messages.ts';
import { type AttestationPolicy, demandsBoot } from './policy.ts';
import { type Proof, prove } from './proof.ts';
import { provenAuthorities } from './secure-boot.ts';

/** What was checked. */
export const checkNames = [
  'quote',
  'endorsement-key',
  'virtual-tpm',
  'policy',
  'secure-boot',
  'pcr-11',
  'pcrs',
  'components',
] as const;

/** One finding. */
export interface Check {
  readonly name: (typeof checkNames)[number];
  /** `noted` is neither a reason to refuse nor proven. */
  readonly result: 'passed' | 'failed' | 'noted';
  readonly text: string;
}

/** The whole judgment. */
export interface Verdict {
  readonly host: string;
  readonly attested: boolean;
  readonly checks: readonly Check[];
  /** Undefined if the answer proves nothing. */
  readonly proof: Proof | undefined;
  /** What the TPM says that it is: not proven. */
  readonly vendor: TpmVendor;
}

/** What the verifier knows of a host. */
export interface Known {
  readonly host: string;
  readonly endorsement: Endorsement;
  readonly srk: SrkPublic;
  readonly policy: AttestationPolicy;
  /** The certificates in ek-ca. */
  readonly issuers: readonly X509Certificate[];
  /** The TPM there that it is enrolled with, in systemd's notation; undefined for the default one. */
  readonly device?: string | undefined;
}

/**
 * Judges an answer. An answer that proves nothing is not judged any further.
 * @param now - milliseconds since 1970
 */
export function verdictOn(answer: Answer, expected: Expected, known: Known, now: number): Verdict {
  const { host, policy } = known;
  const { vendor } = expected;
  let proof: Proof;
  try {
    proof = prove(host, answer, expected, { srk: known.srk, now });
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    const checks: Check[] = [{ name: 'quote', result: 'failed', text: error.message }];
    return { host, attested: false, checks, proof: undefined, vendor };
  }
  const checks: Check[] = [
    passed('quote', 'its TPM quoted these PCRs for this challenge, and holds the SRK that its seeds are sealed to'),
    ...(proof.log
      ? []
      : [noted('quote', 'it has no log of what booted, so its PCR values are known, but not what they stand for')]),
    ...endorsementChecks(known, vendor, now),
    ...(demandsBoot(policy) ? [] : [noted('policy', 'the policy does not restrict what booted')]),
    ...(policy.authorities ? [secureBootCheck(proof.log, policy.authorities)] : []),
    ...(policy.signers ? [signedPcrCheck(proof, answer, policy.signers), ...reachableNotes(policy)] : []),
    ...[...policy.pcrs].map(([pcr, values]) => valueCheck(proof, pcr, values)),
    ...[...policy.components].map(([pcr, digests]) => componentCheck(proof.log, pcr, digests)),
  ];
  return { host, attested: checks.every(({ result }) => result !== 'failed'), checks, proof, vendor };
}

/** Does nothing for a host that is attested. @throws Failure `refused` with every reason if it is not */
export function requireAttested({ host, attested, checks }: Verdict): void {
  if (attested) return;
  const failed = checks.filter(({ result }) => result === 'failed').map(({ text }) => text);
  const prefix = `${host} is not attested: `;
  const reasons = failed.map((text) => (text.startsWith(prefix) ? text.slice(prefix.length) : text)).join('; ');
  throw new Failure('refused', `${prefix}${reasons}`, {
    hint: `auxcred attest ${host} shows everything that was checked`,
  });
}

type Name = Check['name'];
const passed = (name: Name, text: string): Check => ({ name, result: 'passed', text });
const failed = (name: Name, text: string): Check => ({ name, result: 'failed', text });
const noted = (name: Name, text: string): Check => ({ name, result: 'noted', text });

function endorsementChecks({ endorsement, issuers, policy }: Known, vendor: TpmVendor, now: number): Check[] {
  const isCertified = policy.ekCertificate || (endorsement.certificate !== undefined && issuers.length > 0);
  try {
    if (!isCertified)
      return [
        noted(
          'endorsement-key',
          'it is the enrolled one, and only the connection that it was enrolled over vouches for it',
        ),
        ...uncertifiedChecks(vendor.manufacturer, policy),
      ];
    const { chain, manufacturer, model, version } = checkedCertificate(endorsement, issuers, now);
    return [
      passed(
        'endorsement-key',
        `certified as a TPM of ${manufacturer}, model ${model}, version ${version}, by ${chain.join(' > ')}`,
      ),
      ...virtualChecks(manufacturer, policy),
    ];
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    const text = `its endorsement key is not certified: ${error.message}`;
    return [
      policy.ekCertificate ? failed('endorsement-key', text) : noted('endorsement-key', text),
      ...uncertifiedChecks(vendor.manufacturer, policy),
    ];
  }
}

/** A TPM without a checked certificate can claim any maker. */
function uncertifiedChecks(manufacturer: string, policy: AttestationPolicy): Check[] {
  const checks = virtualChecks(manufacturer, policy);
  if (policy.virtualTpm || checks.length > 0) return checks;
  const text = 'the policy forbids a virtual TPM, and without a checked certificate this one may be virtual';
  return [failed('virtual-tpm', text)];
}

function virtualChecks(manufacturer: string, { virtualTpm }: AttestationPolicy): Check[] {
  if (!isVirtual(manufacturer)) return [];
  const risk = 'the host of that virtual machine can forge its answers';
  return virtualTpm
    ? [noted('virtual-tpm', `its TPM is virtual: ${risk}`)]
    : [failed('virtual-tpm', `its TPM is virtual, which the policy forbids: ${risk}`)];
}

function secureBootCheck(log: MeasuredLog | undefined, accepted: ReadonlySet<string>): Check {
  const name = 'secure-boot';
  if (!log) return failed(name, 'there is no log, so nothing says what Secure Boot accepted');
  const proven = provenAuthorities(log);
  if (typeof proven === 'string') return failed(name, proven);
  if (!proven.isOn) return failed(name, 'Secure Boot was off');
  if (proven.authorities.length === 0) return failed(name, 'Secure Boot accepted nothing that was measured');
  const strange = proven.authorities.filter((digest) => !accepted.has(digest));
  if (strange.length > 0)
    return failed(name, `Secure Boot accepted something by ${strange.join(', ')}, which the policy does not list`);
  return passed(name, `on, and everything was accepted by ${[...new Set(proven.authorities)].join(', ')}`);
}

function signedPcrCheck({ pcrs }: Proof, { pcrSignatures }: Answer, signers: readonly SigningKey[]): Check {
  const name = 'pcr-11';
  const value = pcrs.get(11) ?? startDigest;
  if (pcrSignatures.length === 0) return failed(name, 'it sent no signatures of PCR 11');
  const digest = afterPcrs(startDigest, new Map([[11, value]]));
  const covering = pcrSignatures.flatMap(signaturesIn).filter(({ policy }) => sameBytes(policy, digest));
  const signer = signers.find(({ spki }) => {
    const key = createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' });
    return covering.some(({ signature }) => verify('sha256', digest, key, signature));
  });
  return signer
    ? passed(name, `its value is signed by ${signer.fingerprint.slice(0, 16)}`)
    : failed(name, 'no key of the policy signed its value: another image booted, or a phase that is not signed');
}

/** PCR 11 is extended by whatever boots. Says so unless the policy knows what that was. */
function reachableNotes({ authorities, pcrs, components }: AttestationPolicy): Check[] {
  if (authorities || [4, 7].some((pcr) => pcrs.has(pcr) || components.has(pcr))) return [];
  const text = 'any system can extend PCR 11 to a signed value, and the policy demands nothing of PCR 4 or 7';
  return [noted('pcr-11', text)];
}

/** Empty for a damaged file: another file may have the right signature. */
function signaturesIn(bytes: Uint8Array): PcrSignature[] {
  try {
    return parsePcrSignatures(bytes, 'the signatures of PCR 11');
  } catch (error) {
    if (error instanceof Failure) return [];
    throw error;
  }
}

function valueCheck({ pcrs }: Proof, pcr: number, accepted: ReadonlySet<string>): Check {
  const value = hex(pcrs.get(pcr) ?? new Uint8Array());
  return accepted.has(value)
    ? passed('pcrs', `PCR ${String(pcr)} has a listed value`)
    : failed('pcrs', `PCR ${String(pcr)} is ${value}, which the policy does not list`);
}

function componentCheck(log: MeasuredLog | undefined, pcr: number, accepted: ReadonlySet<string>): Check {
  const name = 'components';
  if (!log) return failed(name, `there is no log, so nothing says what PCR ${String(pcr)} is made of`);
  const components = componentsOf(log, pcr);
  if (typeof components === 'string') return failed(name, components);
  const strange = components.filter((digest) => !accepted.has(digest));
  return strange.length === 0
    ? passed(name, `everything that was measured into PCR ${String(pcr)} is listed`)
    : failed(name, `${strange.join(', ')} was measured into PCR ${String(pcr)}, which the policy does not list`);
}
