/**
 * The policy in a TPM stanza, as canonical JSON. It is public, so that a mismatch can name its PCR.
 *
 *     {"bank":"sha256","pcrs":{"7":"hex"}}
 *         one literal branch, or none: the form without a kind is literal
 *     {"bank":"sha256","branches":[{"7":"hex"},{"7":"hex"}],"kind":"literal","version":1}
 *         2 to 8 branches
 *     {"bank":"sha256","branches":[],"kind":"signed","pcrs":[11],"publicKey":"base64 DER","version":1}
 *         and "signature": a path, unless it is systemd's
 *     {"bank":"sha256","branches":[],"file":"path of pcrlock.json","kind":"pcrlock","name":"hex","nvIndex":"0x1930e9e",
 *      "pcrs":[0,7,11],"version":1}
 *     {"bank":"sha256","branches":[],"kind":"literal","lock":8,"version":2}
 *         PCR 8 locks until the next boot: each branch requires its reset value too. So with every kind
 */
import { base64, hex, utf8 } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { canonicalJson, Json } from '../system/json.ts';
import { mostBranches, type PcrlockAuthority, type PcrValues, type TpmPolicy } from '../tpm2/policy.ts';
import { parseSigningKey } from '../tpm2/signing-key.ts';
import { indexText } from '../tpm2/wire.ts';
import { absolutePathIn, damagedHint, nvIndexIn, pcrListIn } from './payload.ts';

/** A policy with a lock has another version, so that an older program says that it can't read it. */
const versions = { unlocked: 1, locked: 2 } as const;
const source = 'the TPM policy of seeds.age';
const valuesJson = (values: PcrValues | undefined): unknown =>
  Object.fromEntries([...(values ?? [])].map(([pcr, value]) => [String(pcr), hex(value)]));

/** Encodes a policy. */
export function encodePolicy({ bank, authority, branches, lock }: TpmPolicy): Uint8Array {
  if (authority === undefined && lock === undefined && branches.length < 2)
    return utf8(canonicalJson({ bank, pcrs: valuesJson(branches[0]) }));
  const common = {
    version: lock === undefined ? versions.unlocked : versions.locked,
    bank,
    branches: branches.map(valuesJson),
    ...(lock === undefined ? {} : { lock }),
  };
  if (authority === undefined) return utf8(canonicalJson({ ...common, kind: 'literal' }));
  const { kind, pcrs } = authority;
  if (kind === 'signed')
    return utf8(
      canonicalJson({
        ...common,
        kind,
        pcrs,
        publicKey: base64(authority.key.spki),
        ...(authority.signature === undefined ? {} : { signature: authority.signature }),
      }),
    );
  const { index, name, file } = authority;
  return utf8(canonicalJson({ ...common, kind, pcrs, nvIndex: indexText(index), name: hex(name), file }));
}

/** Parses {@link encodePolicy}. @throws Failure `malformed` */
export function parsePolicy(bytes: Uint8Array): TpmPolicy {
  const json = Json.parse(bytes, source, damagedHint);
  json.at('version').optional(() => json.version(versions.unlocked, versions.locked));
  const bank = json.at('bank').oneOf(['sha256'] as const);
  const kind = json.at('kind').optional((item) => item.oneOf(['literal', 'signed', 'pcrlock'] as const));
  if (kind === undefined) {
    const values = pcrValuesIn(json.at('pcrs'));
    return { bank, authority: undefined, branches: values.size === 0 ? [] : [values] };
  }
  const isLockable = json.version(versions.unlocked, versions.locked) === versions.locked;
  const branches = branchesIn(json.at('branches'));
  return {
    bank,
    authority: kind === 'signed' ? signedIn(json) : kind === 'pcrlock' ? predictedIn(json) : undefined,
    branches,
    ...(isLockable && { lock: lockIn(json.at('lock'), branches) }),
  };
}

function lockIn(item: Json, branches: readonly PcrValues[]): number {
  const pcr = item.whole(0, 15);
  if (branches[0]?.has(pcr) === true) throw item.unexpected('a PCR that is in no branch');
  return pcr;
}

function branchesIn(item: Json): PcrValues[] {
  const branches = item.list().map(pcrValuesIn);
  const [first] = branches;
  const pcrs = first && [...first.keys()].join('+');
  if (
    branches.length > mostBranches ||
    branches.some((values) => values.size === 0 || [...values.keys()].join('+') !== pcrs)
  )
    throw item.unexpected(`at most ${String(mostBranches)} sets of values of the same PCRs`);
  return branches;
}

/** The values of PCRs, 32 bytes each in hexadecimal, by index. @throws Failure `malformed` */
export const pcrValuesIn = (item: Json): PcrValues =>
  new Map(
    item
      .entries()
      .map(([key, entry]): [number, Uint8Array] => {
        const value = entry.text();
        if (!/^(?:[0-9]|1[0-9]|2[0-3])$/.test(key)) throw entry.unexpected('a PCR');
        if (!/^[0-9a-f]{64}$/.test(value)) throw entry.unexpected('32 bytes in hexadecimal');
        return [Number(key), new Uint8Array(Buffer.from(value, 'hex'))];
      })
      .sort(([a], [b]) => a - b),
  );

/** A public key, as SubjectPublicKeyInfo in base64. @throws Failure `malformed` */
const signingKeyIn = (item: Json): ReturnType<typeof parseSigningKey> => {
  const spki = new Uint8Array(Buffer.from(item.text(), 'base64'));
  try {
    return parseSigningKey(spki, source);
  } catch (error) {
    if (error instanceof Failure) throw item.unexpected('an RSA public key');
    throw error;
  }
};

const signedIn = (json: Json): TpmPolicy['authority'] => ({
  kind: 'signed',
  key: signingKeyIn(json.at('publicKey')),
  pcrs: pcrListIn(json.at('pcrs')),
  signature: json.at('signature').optional(absolutePathIn),
});

/** A prediction of systemd-pcrlock: `nvIndex`, `name`, `pcrs`, `file`. @throws Failure `malformed` */
export function predictedIn(json: Json): PcrlockAuthority {
  const name = json.at('name').text();
  if (!/^000b[0-9a-f]{64}$/.test(name)) throw json.at('name').unexpected('the Name of an NV index');
  return {
    kind: 'pcrlock',
    index: nvIndexIn(json.at('nvIndex')),
    name: new Uint8Array(Buffer.from(name, 'hex')),
    pcrs: pcrListIn(json.at('pcrs')),
    file: absolutePathIn(json.at('file')),
  };
}
