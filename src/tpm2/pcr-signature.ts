/**
 * The signatures of PCR policies: `tpm2-pcr-signature.json` of systemd-measure(1) and ukify(1).
 *
 *     {"sha256":[{"pcrs":[11],"pkfp":"hex of the key","pol":"hex of the policy digest","sig":"base64"}]}
 *
 * `pol` is the digest after PolicyPCR, `sig` an RSASSA-PKCS1-v1_5 signature over it with SHA-256.
 */
import { hex, sameBytes } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { readFileWithin } from '../system/files.ts';
import { Json } from '../system/json.ts';
import type { SignedAuthority } from './policy.ts';

/** One signature. */
export interface PcrSignature {
  /** Ascending. */
  readonly pcrs: readonly number[];
  /** 64 hexadecimal digits. */
  readonly fingerprint: string;
  /** 32 bytes. */
  readonly policy: Uint8Array;
  readonly signature: Uint8Array;
}

/** Where systemd looks for signatures, in its order (`tpm2_load_pcr_signature()` in src/shared/tpm2-util.c). */
export const signatureFiles: readonly string[] = ['/etc', '/run', '/usr/local/lib', '/usr/lib'].map(
  (folder) => `${folder}/systemd/tpm2-pcr-signature.json`,
);
/** Bytes. An entry takes 520 with a key of 2048 bits. */
const longestFile = 1 << 20;
const hint = 'ukify build and systemd-measure sign make it';

/** Parses signatures for the SHA-256 bank. @throws Failure `malformed` */
export const parsePcrSignatures = (bytes: Uint8Array, file: string): PcrSignature[] =>
  Json.parse(bytes, file, hint)
    .at('sha256')
    .optional((list) => list.list())
    ?.filter((entry) => entry.at('ref').optional((item) => item.text()) === undefined)
    .map((entry) => ({
      pcrs: entry
        .at('pcrs')
        .list()
        .map((pcr) => pcr.whole(0, 23))
        .sort((a, b) => a - b),
      fingerprint: matching(entry.at('pkfp'), /^[0-9a-f]{64}$/, 'the fingerprint of a key'),
      policy: new Uint8Array(Buffer.from(matching(entry.at('pol'), /^[0-9a-f]{64}$/, 'a policy digest'), 'hex')),
      signature: new Uint8Array(
        Buffer.from(matching(entry.at('sig'), /^[A-Za-z0-9+/]+={0,2}$/, 'a signature in base64'), 'base64'),
      ),
    })) ?? [];

function matching(item: Json, pattern: RegExp, what: string): string {
  const text = item.text();
  if (!pattern.test(text)) throw item.unexpected(what);
  return text;
}

/**
 * Reads the signatures for a policy: from its file, else from all of systemd's.
 * @param files - where to look if the policy names no file
 * @returns the signatures, and the files that they are from
 * @throws Failure `malformed` for a file that is damaged
 */
export function readPcrSignatures(
  { signature }: SignedAuthority,
  files: readonly string[] = signatureFiles,
): { readonly signatures: PcrSignature[]; readonly from: string[] } {
  const found = (signature === undefined ? files : [signature]).flatMap((file) => {
    const bytes = readFileWithin(file, longestFile);
    return bytes ? [{ file, signatures: parsePcrSignatures(bytes, file) }] : [];
  });
  return { signatures: found.flatMap(({ signatures }) => signatures), from: found.map(({ file }) => file) };
}

const short = (bytes: Uint8Array): string => hex(bytes).slice(0, 16);

/**
 * Chooses the signature by key, PCRs and the digest that the PCRs have now.
 * @param digest - after PolicyPCR, 32 bytes
 * @param found - as {@link readPcrSignatures} returns it
 * @throws Failure `pcr-mismatch` that says whether the signature is missing, is of another key, or covers other values
 */
export function chosenSignature(
  authority: SignedAuthority,
  digest: Uint8Array,
  { signatures, from }: ReturnType<typeof readPcrSignatures>,
): PcrSignature {
  const pcrs = `PCR ${authority.pcrs.join('+')}`;
  if (from.length === 0)
    throw new Failure('pcr-mismatch', `there is no signature of ${pcrs}: no ${missing(authority)}`, {
      hint: 'boot an image that has one (ukify --pcr-private-key=), or put the file there',
    });
  const ours = signatures.filter(({ fingerprint }) => fingerprint === authority.key.fingerprint);
  const signers = [...new Set(signatures.map(({ fingerprint }) => fingerprint.slice(0, 16)))];
  if (ours.length === 0)
    throw new Failure(
      'pcr-mismatch',
      `the signatures in ${from.join(', ')} are by ${signers.length === 0 ? 'no key' : `another key (${signers.join(', ')})`}; ` +
        `the seed needs one by ${authority.key.fingerprint.slice(0, 16)}`,
      { hint: 'boot an image that was signed with that key; auxcred reseal --tpm2-public-key=FILE takes another' },
    );
  const covering = ours.filter((entry) => entry.pcrs.join('+') === authority.pcrs.join('+'));
  if (covering.length === 0)
    throw new Failure('pcr-mismatch', `${from.join(', ')} has no signature of exactly ${pcrs}`, {
      hint: 'auxcred reseal --tpm2-public-key-pcrs= names the PCRs that are signed',
    });
  const chosen = covering.find(({ policy }) => sameBytes(policy, digest));
  if (!chosen)
    throw new Failure(
      'pcr-mismatch',
      `${pcrs} has a value that no signature covers (policy ${short(digest)}; ${from.join(', ')} has ` +
        `${String(covering.length)} of the right key)`,
      { hint: 'the machine booted another image than the one signed, or is in a boot phase that was not signed' },
    );
  return chosen;
}

const missing = ({ signature }: SignedAuthority): string => signature ?? signatureFiles.join(', ');
