/**
 * The content of `seeds.age`: canonical JSON, so that equal payloads are equal byte for byte.
 * Recipients and policy are recorded inside, where nobody without the seeds can edit them. Resealing reads them only
 * here.
 */
import { createPublicKey } from 'node:crypto';
import { base64, utf8 } from '../bytes.ts';
import { scopeNamePattern } from '../derive/realm.ts';
import { type ScopeKind, seedLength } from '../derive/tree.ts';
import { type CredsKey, type CredsLock, credsKeys } from '../system/creds-lock.ts';
import { canonicalJson, Json } from '../system/json.ts';
import type { Scope } from './scope.ts';

/** The keys that can open seeds.age at boot. */
export const keySources = ['host', 'tpm2', 'tpm2+host', 'systemd-creds'] as const;
/** One of the keys that can open seeds.age at boot. */
export type KeySource = (typeof keySources)[number];

/** Whether seeds that are sealed to this key open only with the TPM. */
export const usesTpm = (withKey: KeySource): withKey is 'tpm2' | 'tpm2+host' =>
  withKey === 'tpm2' || withKey === 'tpm2+host';

/** The keys that an operator can seal to remotely, from the machine's enrollment. */
export const remoteKeySources = ['host', 'tpm2', 'tpm2+host'] as const satisfies readonly KeySource[];
/** One of the keys that an operator can seal to remotely. */
export type RemoteKeySource = (typeof remoteKeySources)[number];

/** Matches the characters of an age recipient. Does not check its checksum. */
export const recipientPattern = /^age1[a-z0-9]+$/;

/** Whose signatures of PCR values open seeds.age. */
export interface Signed {
  /** SubjectPublicKeyInfo in DER. */
  readonly publicKey: Uint8Array;
  /** The PCRs that are signed, ascending. */
  readonly pcrs: readonly number[];
  /** The file with the signatures, an absolute path; undefined for systemd's. */
  readonly signature: string | undefined;
}

/** How seeds.age was sealed, so that it can be resealed in the same way. */
export interface Sealing {
  readonly withKey: KeySource;
  /** The key that systemd-creds encrypts to; undefined if none was chosen. */
  readonly credsKey?: CredsKey | undefined;
  /** Age recipients that can open seeds.age without this machine. */
  readonly recovery: readonly string[];
  /** PCR indices whose literal values the TPM policy requires; may be empty. */
  readonly pcrs: readonly number[];
  /** The key that signs PCR values; undefined without one. */
  readonly signed?: Signed | undefined;
  /** The path of systemd's pcrlock.json, if its prediction opens the seeds; undefined otherwise. */
  readonly pcrlock?: string | undefined;
  /** Whether `signed`, `pcrlock` and `lock` are yet to be bound, at the first boot after an installation. */
  readonly authorityAtFirstBoot?: boolean | undefined;
  /**
   * PCR indices to bind at the first boot after an installation, since the installer's values differ; empty once they
   * are bound.
   */
  readonly pcrsAtFirstBoot: readonly number[];
  /**
   * The PCR that the broker extends once the seeds are open, so that they open no more until the next boot; undefined
   * if it does not.
   */
  readonly lock?: number | undefined;
  /** The TPM device in systemd's notation; undefined without a TPM. */
  readonly device: string | undefined;
}

/**
 * The key that systemd-creds encrypts this machine's secrets to: the chosen one, else systemd's own choice, bound to
 * the same PCRs as the seeds, and to the same signatures if it is the seeds' own.
 */
export const credsLockOf = (sealing: Sealing): CredsLock => {
  const { withKey, credsKey = 'auto', pcrs, signed, authorityAtFirstBoot, device } = sealing;
  const isSigned = withKey === 'systemd-creds' && authorityAtFirstBoot !== true;
  return {
    key: credsKey,
    pcrs,
    device,
    ...(isSigned && signed && { signed: { pem: pemOf(signed.publicKey), pcrs: signed.pcrs } }),
  };
};

const pemOf = (publicKey: Uint8Array): string =>
  createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'spki' })
    .export({ format: 'pem', type: 'spki' })
    .toString();

/** Whether part of the policy waits for the first boot of an installation. */
export const isBoundLater = ({
  pcrsAtFirstBoot,
  authorityAtFirstBoot,
}: Pick<Sealing, 'pcrsAtFirstBoot' | 'authorityAtFirstBoot'>): boolean =>
  pcrsAtFirstBoot.length > 0 || authorityAtFirstBoot === true;

/** A machine's seeds, and how they are sealed. */
export interface Payload {
  /** Counts the seals. Seeds with a lower number than the active snapshot's are refused. */
  readonly counter: number;
  readonly scopes: readonly Scope[];
  readonly sealing: Sealing;
}

/** The hint for a seeds.age whose content can't be read. */
export const damagedHint = 'restore seeds.age from a backup, or seal again from the recovery words';

const version = 1;
const most32 = 0xffffffff;
const scopeKinds: readonly ScopeKind[] = ['host', 'group'];

const scopesJson = (scopes: readonly Scope[]): unknown =>
  scopes.map(({ kind, name, epoch, seed }) => ({ kind, name, epoch, seed: base64(seed) }));

/** Encodes a payload as UTF-8 JSON. The caller wipes it. */
export function encodePayload({ counter, scopes, sealing }: Payload): Uint8Array {
  const text = canonicalJson({
    version,
    counter,
    scopes: scopesJson(scopes),
    ...sealingJson(sealing),
  });
  return utf8(text);
}

/** The two keys that a sealing has in a JSON object. */
export const sealingJson = ({
  withKey,
  credsKey,
  recovery,
  pcrs,
  signed,
  pcrlock,
  authorityAtFirstBoot,
  pcrsAtFirstBoot,
  lock,
  device,
}: Sealing): Readonly<Record<'recipients' | 'policy', unknown>> => ({
  recipients: recovery,
  policy: {
    withKey,
    ...(credsKey === undefined ? {} : { credsKey }),
    pcrs,
    ...(signed === undefined ? {} : { signed: signedJson(signed) }),
    ...(pcrlock === undefined ? {} : { pcrlock }),
    ...(authorityAtFirstBoot === true ? { authorityAtFirstBoot } : {}),
    ...(pcrsAtFirstBoot.length === 0 ? {} : { pcrsAtFirstBoot }),
    ...(lock === undefined ? {} : { lock }),
    ...(device === undefined ? {} : { device }),
  },
});

const signedJson = ({ publicKey, pcrs, signature }: Signed): unknown => ({
  publicKey: base64(publicKey),
  pcrs,
  ...(signature === undefined ? {} : { signature }),
});

const signedIn = (json: Json): Signed => ({
  publicKey: base64In(json.at('publicKey')),
  pcrs: pcrListIn(json.at('pcrs')),
  signature: json.at('signature').optional(absolutePathIn),
});

/** Bytes in canonical base64. @throws Failure `malformed` */
export function base64In(item: Json): Uint8Array {
  const bytes = new Uint8Array(Buffer.from(item.text(), 'base64'));
  if (base64(bytes) !== item.text()) throw item.unexpected('base64');
  return bytes;
}

/** Parses {@link sealingJson}. @throws Failure `malformed` */
export function parseSealing(json: Json): Sealing {
  const policy = json.at('policy');
  return {
    withKey: policy.at('withKey').oneOf(keySources),
    ...(policy.at('credsKey').optional((key) => ({ credsKey: key.oneOf(credsKeys) })) ?? {}),
    recovery: json
      .at('recipients')
      .list()
      .map((item) => item.text()),
    pcrs: pcrsOf(policy.at('pcrs')),
    ...given('signed', policy.at('signed').optional(signedIn)),
    ...given('pcrlock', policy.at('pcrlock').optional(absolutePathIn)),
    ...given(
      'authorityAtFirstBoot',
      policy.at('authorityAtFirstBoot').optional((item) => item.flag()),
    ),
    pcrsAtFirstBoot: policy.at('pcrsAtFirstBoot').optional(pcrsOf) ?? [],
    ...given(
      'lock',
      policy.at('lock').optional((item) => item.whole(0, 15)),
    ),
    device: policy.at('device').optional((item) => item.text()),
  };
}

/**
 * Parses a payload strictly. The caller wipes the scopes.
 * @throws Failure `malformed` for anything that {@link encodePayload} would not write
 */
export function parsePayload(bytes: Uint8Array): Payload {
  const json = Json.parse(bytes, 'the content of seeds.age', damagedHint);
  json.version(version);
  const counter = json.at('counter').whole(1, most32);
  // Before the seeds: a failure must not leave them behind.
  const sealing = parseSealing(json);
  return { counter, scopes: json.at('scopes').list().map(parseScope), sealing };
}

/** The member `key`, unless its value is undefined. */
const given = <K extends string, T>(key: K, value: T | undefined): Partial<Record<K, T>> => {
  const member: Partial<Record<K, T>> = {};
  if (value !== undefined) member[key] = value;
  return member;
};

const pcrsOf = (item: Json): number[] => item.list().map((pcr) => pcr.whole(0, 23));

/** Encodes the scopes that an operator gives to a host, as UTF-8 JSON and a newline. The caller wipes it. */
export const encodeScopes = (scopes: readonly Scope[]): Uint8Array =>
  utf8(`${canonicalJson({ version, scopes: scopesJson(scopes) })}\n`);

/**
 * Parses {@link encodeScopes}. The caller wipes the scopes.
 * @throws Failure `malformed` for anything else, or for scopes without exactly one host
 */
export function parseScopes(bytes: Uint8Array, file: string): Scope[] {
  const json = Json.parse(bytes, file, 'auxcred scopes HOST makes it');
  json.version(version);
  const scopes = json.at('scopes').list().map(parseScope);
  const names = new Set(scopes.map(({ kind, name }) => `${kind}/${name}`));
  if (scopes.filter(({ kind }) => kind === 'host').length !== 1 || names.size !== scopes.length)
    throw json.at('scopes').unexpected('one host and its groups');
  return scopes;
}

function parseScope(item: Json): Scope {
  const name = item.at('name').text();
  if (!scopeNamePattern.test(name)) throw item.at('name').unexpected('a scope name');
  const seed = base64In(item.at('seed'));
  if (seed.length !== seedLength) throw item.at('seed').unexpected(`${String(seedLength)} bytes`);
  return { kind: item.at('kind').oneOf(scopeKinds), name, epoch: item.at('epoch').whole(1, most32), seed };
}

/** PCR indices, at least one, ascending and each once. @throws Failure `malformed` */
export function pcrListIn(item: Json): number[] {
  const pcrs = item.list().map((pcr) => pcr.whole(0, 23));
  if (pcrs.length === 0 || pcrs.some((pcr, i) => pcr <= (pcrs[i - 1] ?? -1))) throw item.unexpected('ascending PCRs');
  return pcrs;
}

/** An NV index of the TPM: `0x1930e9e`. @throws Failure `malformed` */
export function nvIndexIn(item: Json): number {
  const index = item.text();
  if (!/^0x1[0-9a-f]{6}$/.test(index)) throw item.unexpected('an NV index');
  return Number(index);
}

/** An absolute path. @throws Failure `malformed` */
export function absolutePathIn(item: Json): string {
  const path = item.text();
  if (!/^\/[^\0\n]*$/.test(path)) throw item.unexpected('an absolute path');
  return path;
}
