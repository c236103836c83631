import { createHmac } from 'node:crypto';
import { concat, framed, u32be } from '../derive/framing.ts';
import { fingerprintKey } from '../derive/tree.ts';

/** Tells what a unit gets as a credential, 32 bytes in hexadecimal, so that two values can be compared without being kept. */
export type Fingerprint = (unit: string, credential: string, value: Uint8Array) => string;

/**
 * HMAC-SHA256 over `LP(unit) || LP(credential) || u32be(length) || value` under the host's fingerprint key: without the seed nobody can try
 * out values, and equal values of two units do not look alike. Runs `work` with it, and wipes the key.
 * @param host - the seed of the host's own scope, 32 bytes
 */
export function withFingerprint<T>(host: Uint8Array, work: (fingerprint: Fingerprint) => T): T {
  const key = fingerprintKey(host);
  try {
    return work((unit, credential, value) => createHmac('sha256', key).update(concat(framed(unit), framed(credential), u32be(value.length))).update(value).digest('hex'));
  } finally {
    key.fill(0);
  }
}
