import { managerUnit } from '../system/unit-name.ts';

/** What systemd asks for: one credential of one unit. */
export interface CredentialRequest {
  readonly unit: string;
  readonly credential: string;
}

/**
 * Reads the name that systemd binds its end of the connection to: a NUL byte, a random number in hexadecimal, then
 * `/unit/UNIT/CREDENTIAL` (systemd src/core/exec-credential.c, load_credential()). The number is not padded, so the
 * parts are found by their slashes. A unit's name has none.
 * @param name - the abstract socket name without its leading NUL, or undefined for a peer without a name
 */
export function parsePeerName(name: string | undefined): CredentialRequest | undefined {
  const [, unit, credential] = /^[0-9a-f]{1,16}\/unit\/([^/]+)\/([^/]+)$/.exec(name ?? '') ?? [];
  return unit !== undefined && credential !== undefined ? { unit, credential } : undefined;
}

/**
 * Whether a peer may ask in the name of `unit`. A name is chosen by whoever connects, so the kernel's own record
 * decides:
 * the peer is root and belongs to that unit, or is PID 1 itself refreshing a running unit (systemd 260 and later).
 */
export const mayAskFor = (unit: string, peer: { readonly uid: number; readonly unit: string | undefined }): boolean =>
  peer.uid === 0 && (peer.unit === unit || peer.unit === managerUnit);
