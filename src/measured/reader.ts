/** Reads little-endian structures of firmware out of untrusted bytes. */
import { hex } from '../bytes.ts';

/** What a {@link Reader} throws: the structure ends too early, or lies about its size. Never leaves this folder. */
export class Truncated extends Error {
  override readonly name = 'Truncated';
}

/** Reads forwards, and never past the end. Every method throws {@link Truncated} for that. */
export class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get offset(): number {
    return this.#offset;
  }

  /** The number of bytes that are left. */
  get left(): number {
    return this.#bytes.length - this.#offset;
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }

  u16(): number {
    return this.#view.getUint16(this.#take(2), true);
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  /** A 64-bit number. @throws Truncated also for one beyond a double's precision, which no size or address is */
  u64(): number {
    const value = this.#view.getBigUint64(this.#take(8), true);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new Truncated('a 64-bit number is too large');
    return Number(value);
  }

  /** The next bytes, without a copy. */
  bytes(length: number): Uint8Array {
    const start = this.#take(length);
    return this.#bytes.subarray(start, start + length);
  }

  rest(): Uint8Array {
    return this.bytes(this.left);
  }

  /** A GUID of 16 bytes in its usual notation (UEFI specification, appendix A): the first three fields are swapped. */
  guid(): string {
    const [a, b, c] = [4, 2, 2].map((length) => hex(this.bytes(length).slice().reverse()));
    return `${a ?? ''}-${b ?? ''}-${c ?? ''}-${hex(this.bytes(2))}-${hex(this.bytes(6))}`;
  }

  #take(length: number): number {
    if (length > this.left) throw new Truncated(`${String(length)} bytes are missing`);
    const start = this.#offset;
    this.#offset += length;
    return start;
  }
}

/** UTF-16 text up to its first NUL. */
export function utf16(bytes: Uint8Array): string {
  const even = bytes.subarray(0, bytes.length - (bytes.length % 2));
  return new TextDecoder('utf-16le').decode(even).replace(/\0[^]*$/u, '');
}

/** UTF-8 text up to its first NUL. */
export const utf8Text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes).replace(/\0[^]*$/u, '');
