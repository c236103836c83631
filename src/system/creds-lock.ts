/**
 * What systemd-creds(1) takes for `--with-key=` on every systemd from 252 on. `auto` is the TPM together with the host
 * key, as far as there are any.
 */
export const credsKeys = ['auto', 'host', 'tpm2', 'host+tpm2'] as const;
export type CredsKey = (typeof credsKeys)[number];

/** What a credential is encrypted to. */
export interface CredsLock {
  readonly key: CredsKey;
  /** PCR indices; of no meaning to `host`. */
  readonly pcrs: readonly number[];
  /** The TPM in systemd's notation; undefined for the one that systemd finds. */
  readonly device: string | undefined;
}
