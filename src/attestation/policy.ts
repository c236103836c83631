/** What a verifier accepts: `attestation.toml` of a vault. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { Failure } from '../failure.ts';
import { readFileWithin } from '../system/files.ts';
import type { Json } from '../system/json.ts';
import { allowKeys } from '../system/known-keys.ts';
import { tomlIn } from '../system/toml.ts';
import { readSigningKey, type SigningKey } from '../tpm2/signing-key.ts';
import { certificatesIn } from './ek-certificate.ts';

/** What is demanded. What is undefined is not checked; an empty list accepts nothing. */
export interface AttestationPolicy {
  /** Whether a certificate of the EK must lead to an issuer in ek-ca. */
  readonly ekCertificate: boolean;
  /** Whether a virtual TPM may answer. If not, a certificate has to tell that it is none. */
  readonly virtualTpm: boolean;
  /** SHA-256 digests (64 hexadecimal digits) of the certificates that may accept what boots. */
  readonly authorities: ReadonlySet<string> | undefined;
  /** One of these keys must have signed the value of PCR 11. */
  readonly signers: readonly SigningKey[] | undefined;
  /** The values that a PCR may have, in hexadecimal. */
  readonly pcrs: ReadonlyMap<number, ReadonlySet<string>>;
  /** The digests that may be measured into a PCR, in hexadecimal. */
  readonly components: ReadonlyMap<number, ReadonlySet<string>>;
}

const keys = ['ek-certificate', 'virtual-tpm', 'secure-boot', 'pcr-public-keys', 'pcrs', 'components'];
const hint = 'docs/guide.md describes attestation.toml';
const largest = 1 << 20;

/** Reads a policy. Paths in it are relative to it. @throws Failure `not-found`, `malformed` */
export function readAttestationPolicy(file: string): AttestationPolicy {
  const bytes = readFileWithin(file, largest);
  if (!bytes)
    throw new Failure('not-found', `there is no ${file}, which says what an attested host may have booted`, { hint });
  return attestationPolicyOf(bytes, file);
}

/** Parses a policy. @throws Failure `malformed`, `not-found` for a file that it names */
export function attestationPolicyOf(bytes: Uint8Array, file: string): AttestationPolicy {
  const top = tomlIn(bytes, file, hint);
  allowKeys(top, keys, file);
  const texts = (key: string): string[] | undefined =>
    top.at(key).optional((list) => list.list().map((item) => item.text()));
  const at = (path: string): string => resolve(dirname(file), path);
  const authorities = texts('secure-boot')?.flatMap((text) => (isDigest(text) ? [text] : digestsIn(at(text))));
  return {
    ekCertificate: top.at('ek-certificate').optional((item) => item.flag()) ?? false,
    virtualTpm: top.at('virtual-tpm').optional((item) => item.flag()) ?? true,
    authorities: authorities && new Set(authorities),
    signers: texts('pcr-public-keys')?.map((path) => readSigningKey(at(path))),
    pcrs: digestTable(top.at('pcrs')),
    components: digestTable(top.at('components')),
  };
}

/** Whether a policy says anything about what booted. */
export const demandsBoot = ({ authorities, signers, pcrs, components }: AttestationPolicy): boolean =>
  authorities !== undefined || signers !== undefined || pcrs.size + components.size > 0;

const isDigest = (text: string): boolean => /^[0-9a-f]{64}$/.test(text);

function digestsIn(file: string): string[] {
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (error) {
    throw new Failure('not-found', `there is no certificate at ${file}`, { hint, cause: error });
  }
  return certificatesIn(bytes, file).map(({ raw }) => createHash('sha256').update(raw).digest('hex'));
}

const digestTable = (json: Json): ReadonlyMap<number, ReadonlySet<string>> =>
  new Map(
    (json.optional((table) => table.entries()) ?? []).map(([pcr, list]) => {
      if (!/^(?:[0-9]|1[0-5])$/.test(pcr)) throw list.unexpected('a PCR from 0 to 15');
      const digests = list.list().map((item) => {
        if (!isDigest(item.text())) throw item.unexpected('a SHA-256 digest in hexadecimal');
        return item.text();
      });
      return [Number(pcr), new Set(digests)];
    }),
  );
