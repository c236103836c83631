/** Reads variables as systemd reads an `EnvironmentFile=` (parse_env_file_internal() in its src/basic/env-file.c). */

/** One variable. The receiver wipes its value. */
export interface Variable {
  readonly key: string;
  readonly value: Uint8Array;
}

const isNewline = (byte: number): boolean => byte === 0x0a || byte === 0x0d;
const isSpace = (byte: number): boolean => byte === 0x20 || byte === 0x09 || isNewline(byte);
/** Where a backslash between double quotes is not part of the value: before `"`, `\`, `` ` `` and `$`. */
const isEscapable = (byte: number): boolean => byte === 0x22 || byte === 0x5c || byte === 0x60 || byte === 0x24;

const [backslash, single, double, equals, hash, semicolon] = [0x5c, 0x27, 0x22, 0x3d, 0x23, 0x3b] as const;

/**
 * The variables of a file, in its order; of one that is set twice, the last. Lines without `=` and comments are left
 * out. `export` before a variable, which a shell reads and systemd does not, is left out too.
 */
export function variablesIn(bytes: Uint8Array): Variable[] {
  const reader = new EnvReader(bytes);
  const variables = new Map<string, Variable>();
  for (let next = reader.next(); next; next = reader.next()) {
    const key = next.key.replace(/^export[ \t]+/, '');
    variables.get(key)?.value.fill(0);
    variables.set(key, { key, value: next.value });
  }
  return [...variables.values()];
}

class EnvReader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  next(): Variable | undefined {
    for (;;) {
      while (isSpace(this.#peek())) this.#at++;
      const byte = this.#peek();
      if (byte === -1) return undefined;
      if (byte === hash || byte === semicolon) this.#skipComment();
      else {
        const key = this.#key();
        if (key !== undefined) return { key, value: this.#value() };
      }
    }
  }

  #peek(): number {
    return this.#bytes[this.#at] ?? -1;
  }

  #skipComment(): void {
    for (; this.#at < this.#bytes.length && !isNewline(this.#peek()); this.#at++)
      // A comment is one line, also if it ends in a backslash (from systemd 254 on).
      if (this.#peek() === backslash && !isNewline(this.#bytes[this.#at + 1] ?? 0x0a)) this.#at++;
  }

  /** The text before `=`; undefined for a line without one. */
  #key(): string | undefined {
    // The first character is part of it, whatever it is.
    const start = this.#at++;
    while (this.#at < this.#bytes.length && !isNewline(this.#peek())) {
      if (this.#peek() === equals)
        return new TextDecoder().decode(this.#bytes.subarray(start, this.#at++)).replace(/[ \t]+$/, '');
      this.#at++;
    }
    return undefined;
  }

  #value(): Uint8Array {
    const value = new Uint8Array(this.#bytes.length - this.#at);
    let [length, kept] = [0, 0];
    let isBare = false;
    for (let byte = this.#peek(); byte !== -1; byte = this.#peek()) {
      if (isNewline(byte)) break;
      this.#at++;
      if (!isBare && (byte === single || byte === double)) {
        length += byte === single ? this.#quoted(value, length) : this.#doubleQuoted(value, length);
        kept = length;
      } else if (byte === backslash) {
        isBare = true;
        const next = this.#peek();
        if (next !== -1) this.#at++;
        if (next !== -1 && !isNewline(next)) value[length++] = next;
        kept = length;
      } else if (isBare || !isSpace(byte)) {
        isBare = true;
        value[length++] = byte;
        // Spaces at the end are not part of it.
        if (!isSpace(byte)) kept = length;
      }
    }
    const result = value.slice(0, kept);
    value.fill(0);
    return result;
  }

  /** Copies what single quotes hold, as it is. @returns its length */
  #quoted(value: Uint8Array, from: number): number {
    const end = this.#bytes.indexOf(single, this.#at);
    const content = this.#bytes.subarray(this.#at, end === -1 ? this.#bytes.length : end);
    value.set(content, from);
    this.#at += content.length + 1;
    return content.length;
  }

  #doubleQuoted(value: Uint8Array, from: number): number {
    let length = from;
    for (let byte = this.#peek(); byte !== -1; byte = this.#peek()) {
      this.#at++;
      if (byte === double) break;
      if (byte !== backslash) value[length++] = byte;
      else {
        const next = this.#peek();
        if (next === -1) break;
        this.#at++;
        if (!isEscapable(next) && next !== 0x0a) value[length++] = backslash;
        if (next !== 0x0a) value[length++] = next;
      }
    }
    return length - from;
  }
}
