/** The hash algorithms of PCR banks (TPM 2.0 part 2, table 9; TCG Algorithm Registry, table 3). */
import { createHash, getHashes } from 'node:crypto';

/** A bank, by the name of its algorithm in OpenSSL and in systemd. */
export type Bank = 'sha1' | 'sha256' | 'sha384' | 'sha512' | 'sm3';

/** TPM_ALG_ID by bank. */
const identifiers: Readonly<Record<Bank, number>> = {
  sha1: 0x0004,
  sha256: 0x000b,
  sha384: 0x000c,
  sha512: 0x000d,
  sm3: 0x0012,
};

/** Digest sizes in bytes. */
export const digestSizes: Readonly<Record<Bank, number>> = { sha1: 20, sha256: 32, sha384: 48, sha512: 64, sm3: 32 };

/** All banks. */
export const banks: readonly Bank[] = ['sha1', 'sha256', 'sha384', 'sha512', 'sm3'];

/** The bank of a TPM_ALG_ID; undefined for an algorithm that is not known here. */
export const bankOf = (identifier: number): Bank | undefined => banks.find((bank) => identifiers[bank] === identifier);

/** Whether this Node can compute digests of a bank: OpenSSL may lack SM3. */
export const isComputable = (bank: Bank): boolean => bank !== 'sm3' || getHashes().includes('sm3');

/** The digest of all parts together, in the size of the bank. */
export function digestIn(bank: Bank, ...parts: readonly Uint8Array[]): Uint8Array {
  const hash = createHash(bank);
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
}

/** The value of a PCR after one more measurement (TPM 2.0 part 1, section 17.3). */
export const extended = (bank: Bank, value: Uint8Array, digest: Uint8Array): Uint8Array =>
  digestIn(bank, value, digest);

/** The value of a PCR before anything is measured. 17 to 22 belong to dynamic launches and start with all ones. */
export const initialValue = (bank: Bank, pcr: number): Uint8Array =>
  new Uint8Array(digestSizes[bank]).fill(pcr >= 17 && pcr <= 22 ? 0xff : 0);
