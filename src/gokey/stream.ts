import { createCipheriv } from 'node:crypto';

const zeros = new Uint8Array(512);

/**
 * The keystream of AES-256-CTR (NIST SP 800-38A section 6.5) with a counter that starts at 0. gokey draws everything
 * from it.
 */
export class GokeyStream {
  readonly #cipher: ReturnType<typeof createCipheriv>;
  #chunk = new Uint8Array(0);
  #position = 0;

  /** @param key - 32 bytes */
  constructor(key: Uint8Array) {
    this.#cipher = createCipheriv('aes-256-ctr', key, new Uint8Array(16));
  }

  /** The next byte. */
  byte(): number {
    if (this.#position === this.#chunk.length) {
      this.#chunk.fill(0);
      this.#chunk = this.#cipher.update(zeros);
      this.#position = 0;
    }
    const byte = this.#chunk[this.#position++];
    if (byte === undefined) throw new RangeError('read past the chunk');
    return byte;
  }

  /** The next bytes. The caller wipes them. */
  bytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i++) bytes[i] = this.byte();
    return bytes;
  }

  wipe(): void {
    this.#chunk.fill(0);
    this.#position = this.#chunk.length;
  }
}
