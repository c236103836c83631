import { managerUnit } from '../system/unit-name.ts';

/** A request of systemd for one credential of one unit. */
export interface CredentialRequest {
  readonly unit: string;
  readonly credential: string;
}

/**
 * Parses the name that systemd binds its end of the connection to: a NUL byte, a random number in hexadecimal, then
 * `/unit/UNIT/CREDENTIAL` (systemd src/core/exec-credential.c, load_credential()). The number is not padded, so the
 * slashes delimit the parts. Unit names have no slash.
 * @param name - the abstract socket name without its leading NUL; undefined for a peer without a name
 * @returns undefined for any other name
 */
export function parsePeerName(name: string | undefined): CredentialRequest | undefined {
  const [, unit, credential] = /^[0-9a-f]{1,16}\/unit\/([^/]+)\/([^/]+)$/.exec(name ?? '') ?? [];
  return unit !== undefined && credential !== undefined ? { unit, credential } : undefined;
}

/**
 * Whether a peer may request credentials of `unit`. The peer chooses its socket name, so the kernel's credentials
 * decide: the peer must be root and belong to that unit, or be PID 1, which refreshes a running unit (systemd 260 and
 * later).
 */
export const mayAskFor = (unit: string, peer: { readonly uid: number; readonly unit: string | undefined }): boolean =>
  peer.uid === 0 && (peer.unit === unit || peer.unit === managerUnit);
