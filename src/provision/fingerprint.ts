import { createHmac } from 'node:crypto';
import { concat, framed, u32be } from '../bytes.ts';
import { fingerprintKey, releaseFingerprintKey } from '../derive/tree.ts';
import type { FingerprintLabel } from '../snapshot/snapshot.ts';

/** A digest of a unit's credential, 32 bytes in hexadecimal, so that two values can be compared without being kept. */
export type Fingerprint = (label: FingerprintLabel, unit: string, credential: string, value: Uint8Array) => string;

/**
 * HMAC-SHA256 over `LP(unit) || LP(credential) || u32be(length) || value` under a key of the host: without the seed
 * nobody can test guesses, and equal values of two units have different fingerprints. Runs `work` with it, and wipes
 * the keys afterwards.
 * @param host - the seed of the host's own scope, 32 bytes
 */
export function withFingerprint<T>(host: Uint8Array, work: (fingerprint: Fingerprint) => T): T {
  const keys: Readonly<Record<FingerprintLabel, Uint8Array>> = {
    release: releaseFingerprintKey(host),
    fingerprint: fingerprintKey(host),
  };
  try {
    return work((label, unit, credential, value) => {
      const message = concat(framed(unit), framed(credential), u32be(value.length));
      return createHmac('sha256', keys[label]).update(message).update(value).digest('hex');
    });
  } finally {
    for (const key of Object.values(keys)) key.fill(0);
  }
}
