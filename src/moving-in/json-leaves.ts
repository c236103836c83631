/** Reads secrets out of JSON without making strings of them, which can't be wiped. */
import { utf8 } from '../bytes.ts';
import { Failure } from '../failure.ts';

/** A text, number or truth value in a document. */
export interface Leaf {
  /** The keys of tables and the indices of lists that lead to it. */
  readonly path: readonly string[];
  /** A text's characters as UTF-8; a number or truth value as it is written. The caller wipes it. */
  readonly value: Uint8Array;
}

const escapes: Readonly<Record<string, number>> = { b: 8, f: 12, n: 10, r: 13, t: 9, '"': 0x22, '\\': 0x5c, '/': 0x2f };
const deepest = 64;

/**
 * The leaves of a JSON document (RFC 8259) in its order; null has none.
 * @param file - for the failure's message
 * @throws Failure `malformed`, after wiping what was read
 */
export function jsonLeaves(bytes: Uint8Array, file: string): Leaf[] {
  const reader = new LeafReader(bytes, file);
  try {
    reader.document();
    return reader.leaves;
  } catch (error) {
    for (const { value } of reader.leaves) value.fill(0);
    throw error;
  }
}

class LeafReader {
  readonly leaves: Leaf[] = [];
  readonly #bytes: Uint8Array;
  readonly #file: string;
  #at = 0;

  constructor(bytes: Uint8Array, file: string) {
    this.#bytes = bytes;
    this.#file = file;
  }

  document(): void {
    this.#value([]);
    this.#skip();
    if (this.#at < this.#bytes.length) throw this.#fail();
  }

  #value(path: readonly string[]): void {
    if (path.length > deepest) throw this.#fail();
    const next = this.#peek();
    if (next === '{') {
      this.#items('{', '}', () => {
        if (this.#peek() !== '"') throw this.#fail();
        const key = this.#text();
        this.#take(':');
        this.#value([...path, new TextDecoder().decode(key)]);
      });
    } else if (next === '[') {
      let i = 0;
      this.#items('[', ']', () => {
        this.#value([...path, String(i++)]);
      });
    } else if (next === '"') this.leaves.push({ path, value: this.#text() });
    else this.#word(path);
  }

  #items(open: string, close: string, item: () => void): void {
    this.#take(open);
    if (this.#peek() === close) {
      this.#at++;
      return;
    }
    for (;;) {
      item();
      const next = this.#peek();
      this.#at++;
      if (next === close) return;
      if (next !== ',') throw this.#fail();
    }
  }

  #word(path: readonly string[]): void {
    const start = this.#at;
    while (/[-+.0-9A-Za-z]/.test(this.#char())) this.#at++;
    const value = Uint8Array.from(this.#bytes.subarray(start, this.#at));
    if (value.length === 0) throw this.#fail();
    if (value.length === 4 && new TextDecoder().decode(value) === 'null') return;
    this.leaves.push({ path, value });
  }

  #text(): Uint8Array {
    this.#take('"');
    const end = this.#endOfText();
    // Never longer than its JSON.
    const longest = new Uint8Array(end - this.#at);
    try {
      let length = 0;
      while (this.#at < end) {
        if (this.#char() !== '\\') longest[length++] = this.#bytes[this.#at++] ?? 0;
        else {
          const piece = this.#escape();
          longest.set(piece, length);
          length += piece.length;
          piece.fill(0);
        }
      }
      this.#at = end + 1;
      return longest.slice(0, length);
    } finally {
      longest.fill(0);
    }
  }

  /** The place of the quote that ends the text. */
  #endOfText(): number {
    for (let at = this.#at; at < this.#bytes.length; at++) {
      const byte = this.#bytes[at] ?? 0;
      if (byte === 0x22) return at;
      if (byte < 0x20) break;
      if (byte === 0x5c) at++;
    }
    throw this.#fail();
  }

  #escape(): Uint8Array {
    const name = String.fromCharCode(this.#bytes[this.#at + 1] ?? 0);
    if (name !== 'u') {
      const byte = Object.hasOwn(escapes, name) ? escapes[name] : undefined;
      if (byte === undefined) throw this.#fail();
      this.#at += 2;
      return Uint8Array.of(byte);
    }
    const first = this.#unit();
    const second = first >= 0xd800 && first < 0xdc00 ? this.#unit() : undefined;
    return utf8(second === undefined ? String.fromCharCode(first) : String.fromCharCode(first, second));
  }

  /** A UTF-16 code unit of the form `\uXXXX`. */
  #unit(): number {
    const text = String.fromCharCode(...this.#bytes.subarray(this.#at, this.#at + 6));
    if (!/^\\u[0-9A-Fa-f]{4}$/.test(text)) throw this.#fail();
    this.#at += 6;
    return Number.parseInt(text.slice(2), 16);
  }

  #skip(): void {
    while (/[ \t\r\n]/.test(this.#char())) this.#at++;
  }

  #peek(): string {
    this.#skip();
    return this.#char();
  }

  #char(): string {
    const byte = this.#bytes[this.#at];
    return byte === undefined ? '' : String.fromCharCode(byte);
  }

  #take(char: string): void {
    if (this.#peek() !== char) throw this.#fail();
    this.#at++;
  }

  #fail(): Failure {
    return new Failure('malformed', `${this.#file}: what its program prints is not JSON`, {
      hint: `the fault is at byte ${String(this.#at)}`,
    });
  }
}
