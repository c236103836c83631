/**
 * The certificate of an EK, which its maker or the host of a virtual TPM signed (TCG EK Credential Profile for TPM
 * Family 2.0, section 3).
 */
import { X509Certificate } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Failure } from '../failure.ts';
import { printable } from '../system/printable.ts';
import { sameKey } from '../tpm2/endorsement-key.ts';
import { extensionsIn, namesIn } from './certificate-extensions.ts';
import type { Endorsement } from './messages.ts';

/** A certificate that was checked. */
export interface CertifiedEk {
  /** From the one that the user trusts to the issuer of the EK's: common names. */
  readonly chain: readonly string[];
  /** TPMManufacturer: `id:` and four bytes in hexadecimal. */
  readonly manufacturer: string;
  readonly model: string;
  readonly version: string;
}

/** tcg-kp-EKCertificate, and the attributes TPMManufacturer, TPMModel and TPMVersion (section 3.2). */
const oids = {
  ekUsage: '2.23.133.8.1',
  manufacturer: '2.23.133.2.1',
  model: '2.23.133.2.2',
  version: '2.23.133.2.3',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  nameConstraints: '2.5.29.30',
  policies: '2.5.29.32',
  extendedKeyUsage: '2.5.29.37',
} as const;
/** Extensions that are read, or that restrict nothing that is decided here. Any other critical one is refused. */
const understood: readonly string[] = [
  oids.keyUsage,
  oids.subjectAltName,
  oids.basicConstraints,
  oids.policies,
  oids.extendedKeyUsage,
];
const longestChain = 8;

/**
 * Reads a folder of certificates that may sign those of EKs, or of their issuers: PEM or DER, one or several a file.
 * Empty if there is no such folder.
 * @throws Failure `malformed` for a file that is not a certificate
 */
export function readEkIssuers(folder: string): X509Certificate[] {
  let names: string[];
  try {
    names = readdirSync(folder).filter((name) => /\.(?:pem|crt|cer|der)$/i.test(name));
  } catch {
    return [];
  }
  return names.sort().flatMap((name) => certificatesIn(readFileSync(join(folder, name)), join(folder, name)));
}

/** The certificates in a file. @throws Failure `malformed` */
export function certificatesIn(bytes: Buffer, file: string): X509Certificate[] {
  const pem = bytes.toString('latin1').match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g);
  try {
    return pem ? pem.map((text) => new X509Certificate(text)) : [new X509Certificate(bytes)];
  } catch (error) {
    throw new Failure('malformed', `${file} is not an X.509 certificate`, { hint: 'PEM or DER', cause: error });
  }
}

/**
 * Checks an EK's certificate: it is for this key, is meant for an EK, names a TPM, and leads to an issuer that the user
 * trusts. Revocation is not checked.
 * @param at - milliseconds since 1970
 * @throws Failure `refused` with the reason
 */
export function checkedCertificate(
  { ek, certificate: der }: Endorsement,
  issuers: readonly X509Certificate[],
  at: number,
): CertifiedEk {
  const certificate = der && parsed(der);
  if (!certificate) throw refused('its TPM stores no certificate for its endorsement key');
  if (!sameKey(certificate.publicKey, ek.key)) throw refused('the certificate is for another key');
  const extensions = extensionsIn(certificate.raw);
  const critical = [...extensions].find(([id, { isCritical }]) => isCritical && !understood.includes(id));
  if (critical) throw refused(`the certificate has a critical extension that is not understood here (${critical[0]})`);
  if (certificate.ca) throw refused('the certificate belongs to an authority, not to an endorsement key');
  // Node's keyUsage is the extended one.
  if (!certificate.keyUsage?.includes(oids.ekUsage))
    throw refused(`the certificate is not for an endorsement key (it lacks the usage ${oids.ekUsage})`);
  const alternative = extensions.get(oids.subjectAltName);
  const names = alternative ? namesIn(alternative) : new Map<string, string>();
  const name = (oid: string): string | undefined => names.get(oid);
  const [manufacturer, model, version] = [name(oids.manufacturer), name(oids.model), name(oids.version)];
  if (manufacturer === undefined || model === undefined || version === undefined)
    throw refused('the certificate does not name the maker, model and version of a TPM');
  checkTime(certificate, at);
  const chain = chainOf(certificate, issuers, at).map(({ subject }) => nameText(subject));
  return {
    chain,
    manufacturer: printable(manufacturer, 100),
    model: printable(model, 100),
    version: printable(version, 100),
  };
}

/** The issuers up to one that signed itself, or whose own issuer the user does not have. */
function chainOf(leaf: X509Certificate, issuers: readonly X509Certificate[], at: number): X509Certificate[] {
  const chain: X509Certificate[] = [];
  for (let below = leaf; chain.length < longestChain; ) {
    const issuer = issuers.find(
      (candidate) => candidate.ca && below.checkIssued(candidate) && below.verify(candidate.publicKey),
    );
    if (!issuer) break;
    checkTime(issuer, at);
    chain.unshift(issuer);
    if (issuer.raw.equals(below.raw) || issuer.checkIssued(issuer)) break;
    below = issuer;
  }
  if (chain.length === 0)
    throw refused(
      `ek-ca in the vault has no certificate of its issuer, ${nameText(leaf.issuer)}`,
      "the maker of the TPM publishes its certificates; put the issuer's and its root's into ek-ca in the vault",
    );
  return chain;
}

function checkTime({ validFrom, validTo, subject }: X509Certificate, at: number): void {
  if (at < Date.parse(validFrom) || at > Date.parse(validTo))
    throw refused(`the certificate of ${nameText(subject)} is valid from ${validFrom} to ${validTo}`);
}

function parsed(der: Uint8Array): X509Certificate | undefined {
  try {
    return new X509Certificate(der);
  } catch {
    return undefined;
  }
}

const refused = (why: string, hint?: string): Failure =>
  new Failure('refused', why, hint === undefined ? {} : { hint });

/** A subject or an issuer, which Node writes on several lines, for messages. */
const nameText = (name: string): string => printable(name.replaceAll('\n', ', '), 200);

/** Vendor ids of TPMs that a hypervisor or an emulator makes (TCG TPM Vendor ID Registry). */
const virtualVendors: readonly string[] = ['IBM', 'GOOG', 'MSFT', 'AMZN', 'VMW', 'QEMU', 'XEN', 'AAPL'];

/** Whether a vendor is that of a virtual TPM: its id in text, or as in a certificate. */
export function isVirtual(vendor: string): boolean {
  const [, digits] = /^id:([0-9A-Fa-f]{8})$/.exec(vendor) ?? [];
  const name = digits === undefined ? vendor : Buffer.from(digits, 'hex').toString('latin1');
  // swtpm writes the id of the TCG's own specification for IBM as a number.
  return digits === '00001014' || virtualVendors.includes(name.replaceAll(/[\0\s]+/g, ''));
}
