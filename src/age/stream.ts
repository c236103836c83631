/**
 * The payload of an age file (C2SP age.md, STREAM): chunks of 64 KiB, each encrypted on its own, the last one marked.
 */
import { hkdfSync } from 'node:crypto';
import { decrypt } from '../system/chacha20.ts';
import { malformed } from './header.ts';

const chunkLength = 64 * 1024;
const tagLength = 16;
const saltLength = 16;

/**
 * Decrypts the payload behind the header with a file key (16 bytes). The caller wipes the result.
 * @throws Failure `malformed` if any chunk is wrong or missing
 */
export function decryptPayload(payload: Uint8Array, fileKey: Uint8Array): Uint8Array {
  if (payload.length < saltLength) throw malformed('its payload is cut off');
  const key = Buffer.from(hkdfSync('sha256', fileKey, payload.subarray(0, saltLength), 'payload', 32));
  try {
    return decryptChunks(payload.subarray(saltLength), key);
  } finally {
    key.fill(0);
  }
}

function decryptChunks(sealed: Uint8Array, key: Uint8Array): Uint8Array {
  const sealedLength = chunkLength + tagLength;
  const count = Math.max(1, Math.ceil(sealed.length / sealedLength));
  if (sealed.length - (count - 1) * sealedLength < tagLength) throw malformed('its payload was changed or cut off');
  const plaintext = Buffer.alloc(sealed.length - count * tagLength);
  const nonce = Buffer.alloc(12);
  for (let i = 0; i < count; i++) {
    const chunk = sealed.subarray(i * sealedLength, (i + 1) * sealedLength);
    // The nonce: an 11-byte counter of the chunks, then a byte that marks the last chunk.
    nonce.writeUIntBE(i, 5, 6);
    nonce[11] = i === count - 1 ? 1 : 0;
    const content = decrypt({ key, nonce }, chunk);
    // An empty chunk is valid only if it is the first and last one.
    if (!content || (content.length === 0 && i > 0)) {
      plaintext.fill(0);
      throw malformed('its payload was changed or cut off');
    }
    plaintext.set(content, i * chunkLength);
    content.fill(0);
  }
  return plaintext;
}
