/**
 * The values that systemd-creds(1) accepts for `--with-key=` from systemd 252 on. `auto` uses the TPM and the host key,
 * as far as they exist.
 */
export const credsKeys = ['auto', 'host', 'tpm2', 'host+tpm2'] as const;
/** One of these values. */
export type CredsKey = (typeof credsKeys)[number];

/** The keys that a credential is encrypted to. */
export interface CredsLock {
  readonly key: CredsKey;
  /** PCR indices; ignored for `host`. */
  readonly pcrs: readonly number[];
  /** The TPM in systemd's notation; undefined for the one that systemd finds. */
  readonly device: string | undefined;
  /** The key whose signatures of PCR values are required, and those PCRs; with `tpm2` and `host+tpm2` only. */
  readonly signed?: { readonly pem: string; readonly pcrs: readonly number[] };
}
