import { createCipheriv } from 'node:crypto';

/** The keystream of AES-256-CTR from a counter of 0 (NIST SP 800-38A section 6.5), which gokey draws everything from. */
export class GokeyStream {
  readonly #cipher: ReturnType<typeof createCipheriv>;

  /** @param key - 32 bytes */
  constructor(key: Uint8Array) {
    this.#cipher = createCipheriv('aes-256-ctr', key, new Uint8Array(16));
  }

  /** The next bytes. The caller wipes them. */
  bytes(length: number): Uint8Array {
    return new Uint8Array(this.#cipher.update(new Uint8Array(length)));
  }
}
