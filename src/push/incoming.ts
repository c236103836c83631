import type { Readable } from 'node:stream';
import { Failure } from '../failure.ts';

/** Reads a byte stream by lines and by lengths, no faster than it is consumed. */
export class Incoming {
  readonly #stream: Readable;
  readonly #whose: string;
  #bytes: Buffer = Buffer.alloc(0);
  #ended = false;
  #wake = (): void => {};

  /** @param whose - the sender, for failures */
  constructor(stream: Readable, whose: string) {
    this.#stream = stream;
    this.#whose = whose;
    stream.on('data', (chunk: Buffer) => {
      this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk]);
      stream.pause();
      this.#wake();
    });
    // To a waiting reader an error is the end of the stream.
    for (const event of ['end', 'close', 'error']) {
      stream.on(event, () => {
        this.#ended = true;
        this.#wake();
      });
    }
    stream.pause();
  }

  /**
   * The next line without its newline; undefined if the stream ends first.
   * @throws Failure `malformed` for a line of more than `most` bytes
   */
  async line(most: number): Promise<Uint8Array | undefined> {
    // One growing buffer: as a list of chunks, a stream that comes byte by byte would take a hundred times its length.
    let line = Buffer.alloc(0);
    for (let length = 0; ; ) {
      const end = this.#bytes.indexOf(0x0a);
      const part = end === -1 ? this.#bytes : this.#bytes.subarray(0, end);
      if (length + part.length > most)
        throw new Failure('malformed', `${this.#whose} says more than ${String(most)} bytes in one line`);
      if (length + part.length > line.length)
        line = Buffer.concat([line.subarray(0, length)], Math.min(most, 2 * (length + part.length)));
      part.copy(line, length);
      length += part.length;
      this.#bytes = this.#bytes.subarray(end === -1 ? this.#bytes.length : end + 1);
      if (end !== -1) return line.subarray(0, length);
      if (!(await this.#more())) return undefined;
    }
  }

  /** The next `length` bytes; undefined if the stream ends first. */
  async bytes(length: number): Promise<Uint8Array | undefined> {
    const bytes = new Uint8Array(length);
    for (let have = 0; ; ) {
      const part = this.#bytes.subarray(0, length - have);
      bytes.set(part, have);
      have += part.length;
      this.#bytes = this.#bytes.subarray(part.length);
      if (have === length) return bytes;
      if (!(await this.#more())) return undefined;
    }
  }

  /** Releases the stream. */
  close(): void {
    this.#stream.destroy();
  }

  /** Waits for more data. @returns whether there is any */
  async #more(): Promise<boolean> {
    if (this.#bytes.length === 0 && !this.#ended) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        this.#stream.resume();
      });
    }
    return this.#bytes.length > 0;
  }
}
