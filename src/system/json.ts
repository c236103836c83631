import { Failure } from '../failure.ts';
import { printable } from './printable.ts';

/** A file of a later version of auxcred. It is whole, so nothing else should take its place. */
export class LaterFormat extends Failure {
  constructor(file: string) {
    super('malformed', `${file} was written by a later version of auxcred`, { hint: 'install that version again' });
  }
}

/**
 * A parsed JSON value that knows its place, for strict parsing of files.
 * Every accessor throws a Failure `malformed` that names the file and the place, but never the value.
 */
export class Json {
  readonly #value: unknown;
  readonly #file: string;
  readonly #place: string;
  readonly #hint: string;

  private constructor(value: unknown, file: string, place: string, hint: string) {
    this.#value = value;
    this.#file = file;
    this.#place = place;
    this.#hint = hint;
  }

  /** Parses UTF-8 JSON. Every failure contains `file` and `hint`. @throws Failure `malformed` */
  static parse(bytes: Uint8Array, file: string, hint: string): Json {
    try {
      return new Json(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)), file, '', hint);
    } catch {
      // The parser's message quotes its input, which may be secret.
      throw new Failure('malformed', `${file} is not JSON`, { hint });
    }
  }

  /** Wraps a value from another parser, such as TOML's. */
  static of(value: unknown, file: string, hint: string): Json {
    return new Json(value, file, '', hint);
  }

  /** The value at a key of an object, absent or not: see {@link optional}. */
  at(key: string): Json {
    const record = this.#record();
    return new Json(
      Object.hasOwn(record, key) ? record[key] : undefined,
      this.#file,
      this.#place === '' ? key : `${this.#place}.${key}`,
      this.#hint,
    );
  }

  /** The keys and values of an object. */
  entries(): [string, Json][] {
    return Object.keys(this.#record()).map((key) => [key, this.at(key)]);
  }

  /** The items of a list. */
  list(): Json[] {
    if (!Array.isArray(this.#value)) throw this.unexpected('a list');
    return this.#value.map(
      (item: unknown, i) => new Json(item, this.#file, `${this.#place}[${String(i)}]`, this.#hint),
    );
  }

  /**
   * A string. Half a surrogate pair becomes U+FFFD, as in UTF-8: {@link canonicalJson} writes none.
   */
  text(): string {
    if (typeof this.#value !== 'string') throw this.unexpected('text');
    return this.#value.toWellFormed();
  }

  /** Whether {@link text} would return a string. */
  isText(): boolean {
    return typeof this.#value === 'string';
  }

  /** A boolean. */
  flag(): boolean {
    if (typeof this.#value !== 'boolean') throw this.unexpected('true or false');
    return this.#value;
  }

  /** One of `choices`. */
  oneOf<T extends string>(choices: readonly T[]): T {
    const choice = choices.find((candidate) => candidate === this.#value);
    if (choice === undefined) throw this.unexpected(`one of ${choices.join(', ')}`);
    return choice;
  }

  /** A whole number from `least` to `most`. */
  whole(least: number, most: number): number {
    if (typeof this.#value !== 'number' || !Number.isInteger(this.#value) || this.#value < least || this.#value > most)
      throw this.unexpected(`a whole number from ${String(least)} to ${String(most)}`);
    return this.#value;
  }

  /** The format of the file, from its key `version`. @throws LaterFormat above `most`; Failure `malformed` */
  version(least: number, most = least): number {
    const item = this.at('version');
    if (typeof item.#value === 'number' && item.#value > most) throw new LaterFormat(this.#file);
    return item.whole(least, most);
  }

  /** `read(this)`; undefined if the key is absent. */
  optional<T>(read: (value: Json) => T): T | undefined {
    return this.#value === undefined ? undefined : read(this);
  }

  /** The failure for a value of another kind: `FILE: PLACE is not WANTED`. */
  unexpected(wanted: string): Failure {
    return new Failure('malformed', `${this.#file}: ${this.place || 'the top level'} is not ${wanted}`, {
      hint: this.#hint,
    });
  }

  /** Where it is: `host.web1`; nothing for the top level. */
  get place(): string {
    // The keys are untrusted input.
    return printable(this.#place, 300);
  }

  #record(): Record<string, unknown> {
    if (!isRecord(this.#value)) throw this.unexpected('an object');
    return this.#value;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

/**
 * The JSON Canonicalization Scheme (RFC 8785), in which equal values have equal bytes: no white space, keys sorted by
 * their UTF-16 code units (section 3.2.3), strings and numbers as ECMAScript writes them (sections 3.2.2.2 and
 * 3.2.2.3).
 * @param omitted - keys to leave out of every object, beside those whose value is undefined
 * @throws RangeError for values that JSON or UTF-8 can't hold: a number that is not finite, half a surrogate pair, a
 * function
 */
export function canonicalJson(value: unknown, omitted: readonly string[] = []): string {
  if (Array.isArray(value)) return `[${value.map((item: unknown) => canonicalJson(item, omitted)).join(',')}]`;
  if (!isRecord(value)) return scalar(value);
  const members = keysOf(value, omitted)
    .sort()
    .map((key) => `${scalar(key)}:${canonicalJson(value[key], omitted)}`);
  return `{${members.join(',')}}`;
}

function scalar(value: unknown): string {
  if (typeof value === 'string' && !value.isWellFormed())
    throw new RangeError('a text with half a surrogate pair is not Unicode');
  if (typeof value === 'number' && !Number.isFinite(value)) throw new RangeError(`JSON has no number ${String(value)}`);
  const text: string | undefined = JSON.stringify(value);
  if (text === undefined) throw new RangeError(`JSON has no ${typeof value}`);
  return text;
}

/** Whether two values have the same {@link canonicalJson}, without writing it. */
export function sameJson(a: unknown, b: unknown, omitted: readonly string[] = []): boolean {
  if (a === b) return true;
  if (Array.isArray(a))
    return Array.isArray(b) && a.length === b.length && a.every((item: unknown, i) => sameJson(item, b[i], omitted));
  if (!isRecord(a) || !isRecord(b)) return false;
  const keys = keysOf(a, omitted);
  return (
    keys.length === keysOf(b, omitted).length &&
    keys.every((key) => Object.hasOwn(b, key) && sameJson(a[key], b[key], omitted))
  );
}

const keysOf = (record: Readonly<Record<string, unknown>>, omitted: readonly string[]): string[] =>
  Object.keys(record).filter((key) => record[key] !== undefined && !omitted.includes(key));

/**
 * An upper bound of the number of values and keys, without parsing: each follows one of `[`, `{`, `,` and `:` outside a
 * string.
 */
export function valuesIn(bytes: Uint8Array): number {
  let count = 1;
  let inString = false;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i];
    if (byte === quote) inString = !inString;
    else if (inString && byte === backslash) i++;
    else if (!inString && (byte === 0x5b || byte === 0x7b || byte === 0x2c || byte === 0x3a)) count++;
  }
  return count;
}

const quote = 0x22;
const backslash = 0x5c;
