/**
 * What `seeds.age` holds once it is open: canonical JSON, so that two equal stores are equal byte for byte.
 * Recipients and policy are recorded inside, where nobody without the seeds can edit them: re-sealing reads them from
 * here only.
 */
import { scopeNamePattern } from '../derive/realm.ts';
import { type ScopeKind, seedLength } from '../derive/tree.ts';
import { type CredsKey, type CredsLock, credsKeys } from '../system/creds-lock.ts';
import { canonicalJson, Json } from '../system/json.ts';
import type { Scope } from './scope.ts';

/** What opens a store at boot. */
export const keySources = ['host', 'tpm2', 'tpm2+host', 'systemd-creds'] as const;
export type KeySource = (typeof keySources)[number];

/** Those that an operator can seal to from afar, with what the machine said of itself. */
export const remoteKeySources = ['host', 'tpm2', 'tpm2+host'] as const satisfies readonly KeySource[];
export type RemoteKeySource = (typeof remoteKeySources)[number];

/** An age recipient, as far as its characters tell. */
export const recipientPattern = /^age1[a-z0-9]+$/;

/** How a store was sealed, so that it can be sealed again the same way. */
export interface Sealing {
  readonly withKey: KeySource;
  /** What systemd-creds encrypts to; undefined if nothing was said. */
  readonly credsKey?: CredsKey | undefined;
  /** Ordinary age recipients that can open the store without this machine. */
  readonly recovery: readonly string[];
  /** PCR indices of the TPM policy; empty without one. */
  readonly pcrs: readonly number[];
  /**
   * PCR indices that are bound at the first boot of an installation, whose own PCRs they are not; empty once they are.
   */
  readonly pcrsAtFirstBoot: readonly number[];
  /** The TPM device in systemd's notation; undefined without a TPM. */
  readonly device: string | undefined;
}

/**
 * What systemd-creds is to encrypt this machine's secrets to: what was chosen, else systemd's own choice, bound to the
 * PCRs that the seeds are bound to.
 */
export const credsLockOf = ({ credsKey = 'auto', pcrs, device }: Sealing): CredsLock => ({
  key: credsKey,
  pcrs,
  device,
});

export interface Payload {
  /** Counts the seals of this store: one with a lower number than was in force is refused. */
  readonly counter: number;
  readonly scopes: readonly Scope[];
  readonly sealing: Sealing;
}

const version = 1;
const most32 = 0xffffffff;
const scopeKinds: readonly ScopeKind[] = ['host', 'group'];

const scopesJson = (scopes: readonly Scope[]): unknown =>
  scopes.map(({ kind, name, epoch, seed }) => ({ kind, name, epoch, seed: Buffer.from(seed).toString('base64') }));

/** The payload as UTF-8 JSON. The caller wipes it. */
export function encodePayload({ counter, scopes, sealing }: Payload): Uint8Array {
  const text = canonicalJson({
    version,
    counter,
    scopes: scopesJson(scopes),
    ...sealingJson(sealing),
  });
  return new TextEncoder().encode(text);
}

/** A sealing's two keys of a JSON object. */
export const sealingJson = ({
  withKey,
  credsKey,
  recovery,
  pcrs,
  pcrsAtFirstBoot,
  device,
}: Sealing): Readonly<Record<'recipients' | 'policy', unknown>> => ({
  recipients: recovery,
  policy: {
    withKey,
    ...(credsKey === undefined ? {} : { credsKey }),
    pcrs,
    ...(pcrsAtFirstBoot.length === 0 ? {} : { pcrsAtFirstBoot }),
    ...(device === undefined ? {} : { device }),
  },
});

/** Reads {@link sealingJson} back. @throws Failure `malformed` */
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
    pcrsAtFirstBoot: policy.at('pcrsAtFirstBoot').optional(pcrsOf) ?? [],
    device: policy.at('device').optional((item) => item.text()),
  };
}

/**
 * Reads a payload back, strictly.
 * @throws Failure `malformed` for anything that {@link encodePayload} would not have written.
 */
export function parsePayload(bytes: Uint8Array): Payload {
  const json = Json.parse(
    bytes,
    'the content of seeds.age',
    'restore seeds.age from a backup, or seal again from the recovery words',
  );
  json.at('version').whole(version, version);
  return {
    counter: json.at('counter').whole(1, most32),
    scopes: json.at('scopes').list().map(parseScope),
    sealing: parseSealing(json),
  };
}

const pcrsOf = (item: Json): number[] => item.list().map((pcr) => pcr.whole(0, 23));

/** Scopes on their way from the operator to a host, as UTF-8 JSON and a newline. The caller wipes it. */
export const encodeScopes = (scopes: readonly Scope[]): Uint8Array =>
  new TextEncoder().encode(`${canonicalJson({ version, scopes: scopesJson(scopes) })}\n`);

/**
 * Reads {@link encodeScopes} back. The caller wipes the scopes.
 * @throws Failure `malformed` for anything else, or for scopes that do not have one host among them
 */
export function parseScopes(bytes: Uint8Array, file: string): Scope[] {
  const json = Json.parse(bytes, file, 'auxcred scopes HOST makes it');
  json.at('version').whole(version, version);
  const scopes = json.at('scopes').list().map(parseScope);
  const names = new Set(scopes.map(({ kind, name }) => `${kind}/${name}`));
  if (scopes.filter(({ kind }) => kind === 'host').length !== 1 || names.size !== scopes.length)
    throw json.at('scopes').unexpected('one host and its groups');
  return scopes;
}

function parseScope(item: Json): Scope {
  const name = item.at('name').text();
  if (!scopeNamePattern.test(name)) throw item.at('name').unexpected('a scope name');
  const seed = new Uint8Array(Buffer.from(item.at('seed').text(), 'base64'));
  if (seed.length !== seedLength) throw item.at('seed').unexpected(`${String(seedLength)} bytes`);
  return { kind: item.at('kind').oneOf(scopeKinds), name, epoch: item.at('epoch').whole(1, most32), seed };
}
