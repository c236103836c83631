import { createCipheriv, randomBytes } from 'node:crypto';
import { concat } from '../bytes.ts';
import { nonceLength, passwordKey } from './gokey.ts';

const bodyLength = 228;

/** Makes a seed file, 256 bytes: nonce (12), 228 random bytes under AES-256-GCM, tag (16). */
export function makeSeedFile(masterPassword: Uint8Array): Uint8Array {
  const nonce = new Uint8Array(randomBytes(nonceLength));
  const body = randomBytes(bodyLength);
  const key = passwordKey(masterPassword, nonce);
  try {
    const cipher = createCipheriv('aes-256-gcm', key, nonce);
    const sealed = concat(cipher.update(body), cipher.final());
    return concat(nonce, sealed, cipher.getAuthTag());
  } finally {
    key.fill(0);
    body.fill(0);
  }
}
