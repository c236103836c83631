import type { Cipher } from 'node:crypto';
import { chacha20 } from '../system/chacha20.ts';

/** One block: most secrets need no more. */
const chunkLength = 64;
const zeros = new Uint8Array(chunkLength);
/** Counter and nonce. */
const start = new Uint8Array(16);

/**
 * The bytes that one leaf key yields: the ChaCha20 keystream (RFC 8439 section 2.4) with a zero nonce and a counter
 * that starts at 0. Each key is used for one stream only, so the nonce may be constant.
 */
export class KeyStream {
  readonly #cipher: Cipher;
  #chunk = new Uint8Array(chunkLength);
  #position = chunkLength;

  /** Wipes `key` (32 bytes). {@link wipe} wipes what was made of it. */
  constructor(key: Uint8Array) {
    this.#cipher = chacha20(key, start);
    key.fill(0);
  }

  /** The next byte. */
  byte(): number {
    if (this.#position === chunkLength) {
      this.#chunk.fill(0);
      this.#chunk = this.#cipher.update(zeros);
      this.#position = 0;
    }
    const byte = this.#chunk[this.#position++];
    if (byte === undefined) throw new RangeError('read past the chunk');
    return byte;
  }

  /** The next `length` bytes. The caller wipes them. */
  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.byte());
  }

  /**
   * Draws a number in 0..`bound`-1 (`bound` 1..65536), all equally likely. Takes one byte, or two (the higher one
   * first) if `bound` is over 256. Values at or above the largest multiple of `bound` are discarded, since a plain
   * remainder would favour the low numbers.
   */
  below(bound: number): number {
    if (!Number.isInteger(bound) || bound < 1 || bound > 65536)
      throw new RangeError(`not a bound of two bytes: ${String(bound)}`);
    const values = bound > 256 ? 65536 : 256;
    const limit = values - (values % bound);
    for (;;) {
      const value = values === 256 ? this.byte() : this.byte() * 256 + this.byte();
      if (value < limit) return value % bound;
    }
  }

  /** Overwrites the key and what was drawn last. Nothing can be drawn afterwards. */
  wipe(): void {
    this.#cipher.final();
    this.#chunk.fill(0);
    this.#position = chunkLength;
  }
}
