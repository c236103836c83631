import type { Readable } from 'node:stream';

/** A stream of bytes that is read by lines and by lengths, and no faster than it is asked for. */
export class Incoming {
  readonly #stream: Readable;
  #bytes: Buffer = Buffer.alloc(0);
  #ended = false;
  #wake = (): void => {};

  constructor(stream: Readable) {
    this.#stream = stream;
    stream.on('data', (chunk: Buffer) => {
      this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk]);
      stream.pause();
      this.#wake();
    });
    // Whoever waits sees an error as the end that it is.
    for (const event of ['end', 'close', 'error']) {
      stream.on(event, () => {
        this.#ended = true;
        this.#wake();
      });
    }
    stream.pause();
  }

  /** The next line without its end; undefined where the stream ends before, or where it would have more than `most` bytes. */
  async line(most: number): Promise<Uint8Array | undefined> {
    const parts: Buffer[] = [];
    for (let length = 0; length <= most; ) {
      const end = this.#bytes.indexOf(0x0a);
      const part = end === -1 ? this.#bytes : this.#bytes.subarray(0, end);
      parts.push(part);
      length += part.length;
      this.#bytes = this.#bytes.subarray(end === -1 ? this.#bytes.length : end + 1);
      if (end !== -1) return length > most ? undefined : new Uint8Array(Buffer.concat(parts));
      if (!(await this.#more())) return undefined;
    }
    return undefined;
  }

  /** The next `length` bytes; undefined where the stream ends before. */
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

  /** Lets go of the stream. */
  close(): void {
    this.#stream.destroy();
  }

  /** Waits for more. @returns whether there is any */
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
