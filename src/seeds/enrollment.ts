/**
 * The enrollment of a machine: the public keys that an operator can seal its seeds to, namely its ssh host key and its
 * TPM's SRK and PCRs, and the endorsement key that its TPM is known by.
 * Nothing in it proves which machine it comes from: trust comes from the way it came, such as ssh or the installer. A
 * certificate of the endorsement key proves that it is a TPM's, and `auxcred attest` that the SRK is in that TPM.
 */

import { keyLength } from '../age/curve25519.ts';
import { type Endorsement, endorsementIn, endorsementJson } from '../attestation/messages.ts';
import { base64, hex, utf8 } from '../bytes.ts';
import { scopeNamePattern } from '../derive/realm.ts';
import { Failure } from '../failure.ts';
import { canonicalJson, Json } from '../system/json.ts';
import { freeLockPcr } from '../tpm2/boot-lock.ts';
import { keyOf, sealForImport } from '../tpm2/duplicate.ts';
import { valuesOf } from '../tpm2/pcr.ts';
import type { PcrlockPrediction } from '../tpm2/pcrlock.ts';
import { parseSrkPublic, type SrkPublic } from '../tpm2/srk.ts';
import { parseDevice } from '../tpm2/tpm.ts';
import { indexText } from '../tpm2/wire.ts';
import { base64In, type Payload, type Sealing } from './payload.ts';
import { policiesOf } from './policies.ts';
import { sealPayload, type TpmSealer } from './seal.ts';
import { pcrValuesIn, predictedIn } from './stanza-policy.ts';

/** The TPM of an enrolled machine. */
export interface EnrolledTpm {
  /** The device in systemd's notation; undefined for the default one. */
  readonly device: string | undefined;
  readonly srk: SrkPublic;
  /** What `auxcred attest` proves that it has; undefined if it was enrolled without. */
  readonly endorsement?: Endorsement | undefined;
  /**
   * The SHA-256 values of all its PCRs, 32 bytes each, in ascending order; undefined during an installation, because
   * the installer has other values.
   */
  readonly pcrs: ReadonlyMap<number, Uint8Array> | undefined;
  /** What systemd-pcrlock predicted there; undefined if nothing. */
  readonly pcrlock?: Omit<PcrlockPrediction, 'values'> | undefined;
}

/** The keys of a machine, as it reported them. */
export interface Enrollment {
  /** The machine's own name, valid in a scope. */
  readonly host: string;
  /** The ssh-ed25519 host key's public half, 32 bytes; undefined if it has none. */
  readonly sshHostKey: Uint8Array | undefined;
  /** Undefined if it has no usable TPM. */
  readonly tpm: EnrolledTpm | undefined;
}

/** An enrollment in the operator's vault. */
export interface Enrolled {
  /** UTC, to the second: `2026-11-23T00:00:07Z`. */
  readonly since: string;
  readonly machine: Enrollment;
}

const version = 1;
const hint = 'run auxcred enroll on the machine again';

const jsonOf = ({ host, sshHostKey, tpm }: Enrollment): Readonly<Record<string, unknown>> => ({
  version,
  host,
  ...(sshHostKey && { sshHostKey: base64(sshHostKey) }),
  ...(tpm && {
    tpm: {
      ...(tpm.device !== undefined && { device: tpm.device }),
      srk: base64(tpm.srk.public),
      ...(tpm.endorsement && endorsementJson(tpm.endorsement)),
      ...(tpm.pcrlock && { pcrlock: pcrlockJson(tpm.pcrlock) }),
      ...(tpm.pcrs && { pcrs: Object.fromEntries([...tpm.pcrs].map(([pcr, value]) => [String(pcr), hex(value)])) }),
    },
  }),
});

/** One line of canonical JSON. */
export const encodeEnrollment = (enrollment: Enrollment): Uint8Array => utf8(`${canonicalJson(jsonOf(enrollment))}\n`);

/**
 * Parses {@link encodeEnrollment} strictly: the SRK must be a usable key with a standard template.
 * @throws Failure `malformed`
 */
export const parseEnrollment = (bytes: Uint8Array, file: string): Enrollment =>
  enrollmentIn(Json.parse(bytes, file, hint));

/** One line of canonical JSON. */
export const encodeEnrolled = ({ since, machine }: Enrolled): Uint8Array =>
  utf8(`${canonicalJson({ version, since, machine: jsonOf(machine) })}\n`);

/** Parses {@link encodeEnrolled}. @throws Failure `malformed` */
export function parseEnrolled(bytes: Uint8Array, file: string): Enrolled {
  const json = Json.parse(bytes, file, 'auxcred enroll HOST --replace --from=FILE');
  allow(json, 'version', 'since', 'machine');
  json.version(version);
  const since = json.at('since').text();
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(since)) throw json.at('since').unexpected('a time');
  return { since, machine: enrollmentIn(json.at('machine')) };
}

function enrollmentIn(json: Json): Enrollment {
  allow(json, 'version', 'host', 'sshHostKey', 'tpm');
  json.version(version);
  const host = json.at('host').text();
  if (!scopeNamePattern.test(host)) throw json.at('host').unexpected('a name');
  return {
    host,
    sshHostKey: json.at('sshHostKey').optional(sshKeyIn),
    tpm: json.at('tpm').optional(tpmIn),
  };
}

function tpmIn(json: Json): EnrolledTpm {
  allow(json, 'device', 'srk', 'ek', 'ekCertificate', 'pcrs', 'pcrlock');
  const srk = parseSrkPublic(base64In(json.at('srk')));
  if (!srk) throw json.at('srk').unexpected('a storage root key with a standard template');
  keyOf(srk);
  const pcrlock = json.at('pcrlock').optional(pcrlockIn);
  const endorsement = json.at('ek').optional(() => endorsementIn(json));
  return {
    device: json.at('device').optional(deviceIn),
    srk,
    pcrs: json.at('pcrs').optional(pcrValuesIn),
    ...(endorsement && { endorsement }),
    ...(pcrlock && { pcrlock }),
  };
}

const pcrlockJson = ({ index, name, pcrs, file }: NonNullable<EnrolledTpm['pcrlock']>): unknown => ({
  nvIndex: indexText(index),
  name: hex(name),
  pcrs,
  file,
});

function pcrlockIn(json: Json): NonNullable<EnrolledTpm['pcrlock']> {
  allow(json, 'nvIndex', 'name', 'pcrs', 'file');
  const { kind: _, ...pcrlock } = predictedIn(json);
  return pcrlock;
}

function deviceIn(item: Json): string {
  const device = item.text();
  try {
    parseDevice(device);
    return device;
  } catch (error) {
    if (error instanceof Failure) throw item.unexpected('a TPM device');
    throw error;
  }
}

function sshKeyIn(item: Json): Uint8Array {
  const bytes = base64In(item);
  if (bytes.length !== keyLength) throw item.unexpected(`${String(keyLength)} bytes in base64`);
  return bytes;
}

function allow(json: Json, ...keys: readonly string[]): void {
  for (const [key] of json.entries())
    if (!keys.includes(key)) throw json.at(key).unexpected(`a key there: it has ${keys.join(', ')}`);
}

/** How the operator wants a machine's seeds sealed. A host of the vault has these fields. */
export interface WantedSealing extends Pick<Sealing, 'withKey' | 'pcrs' | 'signed' | 'pcrlock'> {
  readonly locksAfterUnseal?: boolean;
  readonly recipients: readonly string[];
}

/**
 * The sealing of a machine: as the operator wants it, for the TPM that it has. A machine that was enrolled during its
 * installation binds the PCRs at its first boot.
 */
export function sealingFor(
  { withKey, pcrs, signed, pcrlock, locksAfterUnseal = false, recipients }: WantedSealing,
  { tpm }: Enrollment,
): Sealing {
  const lock = locksAfterUnseal ? freeLockPcr(tpm?.pcrs, [...pcrs, ...(signed?.pcrs ?? [])]) : undefined;
  const isInstalling = tpm !== undefined && tpm.pcrs === undefined;
  return {
    withKey,
    pcrs: isInstalling ? [] : pcrs,
    ...(signed && { signed }),
    ...(pcrlock !== undefined && { pcrlock }),
    ...(lock !== undefined && { lock }),
    ...(isInstalling && (signed || pcrlock !== undefined || lock !== undefined) && { authorityAtFirstBoot: true }),
    recovery: recipients,
    pcrsAtFirstBoot: isInstalling ? pcrs : [],
    device: withKey === 'host' ? undefined : tpm?.device,
  };
}

/**
 * Encrypts a seeds.age that only the enrolled machine and the recovery recipients can open. Needs neither that machine
 * nor a TPM here.
 * @param payload - with the sealing from {@link sealingFor}
 * @throws Failure `no-recipient` or `no-tpm` if the machine lacks the key that its sealing asks for, `usage` for a PCR
 * that it lacks
 */
export async function sealForHost(payload: Payload, { host, sshHostKey, tpm }: Enrollment): Promise<Uint8Array> {
  const { withKey } = payload.sealing;
  if (withKey !== 'tpm2' && !sshHostKey)
    throw new Failure('no-recipient', `${host} is enrolled without an ssh-ed25519 host key`, {
      hint: 'ssh-keygen -A there makes one; then enroll it again',
    });
  if (withKey !== 'host' && !tpm)
    throw new Failure('no-tpm', `${host} is enrolled without a TPM`, {
      hint: 'enroll it again when its TPM works, or with-key = "host"',
    });
  return await sealPayload(payload, {
    sshHostKey,
    ageHostKey: undefined,
    tpm: tpm && withKey !== 'host' ? importingTpm(tpm, payload.sealing) : undefined,
  });
}

/** Seals in the form that the machine's TPM imports. */
function importingTpm({ srk, pcrs = new Map(), pcrlock }: EnrolledTpm, sealing: Sealing): TpmSealer {
  const branches = [valuesOf(pcrs, sealing.pcrs)].filter(({ size }) => size > 0);
  return {
    // Without a lock: the machine may be locked when the seeds arrive, and puts it on when it seals them natively.
    policies: policiesOf({ ...sealing, lock: undefined }, { branches, pcrlock }),
    seal: (secret, policy) => sealForImport(srk, secret, policy),
  };
}
