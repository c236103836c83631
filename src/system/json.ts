import { Failure } from '../failure.ts';
import { printable } from './printable.ts';

/**
 * A parsed JSON value that knows where it stands, for reading files whose shape must be exact.
 * Every accessor throws Failure `malformed` that names the file and the place, never the value.
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

  /** Parses UTF-8 JSON; `file` and `hint` (the way out) go into every failure. */
  static parse(bytes: Uint8Array, file: string, hint: string): Json {
    try {
      return new Json(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)), file, '', hint);
    } catch {
      // The parser's own text quotes its input, which may be a secret.
      throw new Failure('malformed', `${file} is not JSON`, { hint });
    }
  }

  /** A value that another parser made, such as TOML's. */
  static of(value: unknown, file: string, hint: string): Json {
    return new Json(value, file, '', hint);
  }

  at(key: string): Json {
    const record = this.#record();
    return new Json(Object.hasOwn(record, key) ? record[key] : undefined, this.#file, this.#place === '' ? key : `${this.#place}.${key}`, this.#hint);
  }

  entries(): [string, Json][] {
    return Object.keys(this.#record()).map((key) => [key, this.at(key)]);
  }

  list(): Json[] {
    if (!Array.isArray(this.#value)) throw this.unexpected('a list');
    return this.#value.map((item: unknown, i) => new Json(item, this.#file, `${this.#place}[${String(i)}]`, this.#hint));
  }

  text(): string {
    if (typeof this.#value !== 'string') throw this.unexpected('text');
    return this.#value;
  }

  isText(): boolean {
    return typeof this.#value === 'string';
  }

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

  whole(least: number, most: number): number {
    if (typeof this.#value !== 'number' || !Number.isInteger(this.#value) || this.#value < least || this.#value > most) throw this.unexpected(`a whole number from ${String(least)} to ${String(most)}`);
    return this.#value;
  }

  /** `read(this)`, or undefined where the key is absent. */
  optional<T>(read: (value: Json) => T): T | undefined {
    return this.#value === undefined ? undefined : read(this);
  }

  unexpected(wanted: string): Failure {
    // Its keys are whoever's who wrote it.
    return new Failure('malformed', `${this.#file}: ${printable(this.#place, 300) || 'the top level'} is not ${wanted}`, { hint: this.#hint });
  }

  #record(): Record<string, unknown> {
    if (!isRecord(this.#value)) throw this.unexpected('an object');
    return this.#value;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

/** JSON with the keys of every object in code-point order, but without those `omitted`, and no white space, so that equal values are equal bytes. */
export function canonicalJson(value: unknown, omitted: readonly string[] = []): string {
  if (Array.isArray(value)) return `[${value.map((item: unknown) => canonicalJson(item, omitted)).join(',')}]`;
  if (!isRecord(value)) return JSON.stringify(value) ?? 'null';
  const members = keysOf(value, omitted).sort().map((key) => `${JSON.stringify(key)}:${canonicalJson(value[key], omitted)}`);
  return `{${members.join(',')}}`;
}

/** Whether two values have the same {@link canonicalJson}, told without writing it. */
export function sameJson(a: unknown, b: unknown, omitted: readonly string[] = []): boolean {
  if (a === b) return true;
  if (Array.isArray(a)) return Array.isArray(b) && a.length === b.length && a.every((item: unknown, i) => sameJson(item, b[i], omitted));
  if (!isRecord(a) || !isRecord(b)) return false;
  const keys = keysOf(a, omitted);
  return keys.length === keysOf(b, omitted).length && keys.every((key) => Object.hasOwn(b, key) && sameJson(a[key], b[key], omitted));
}

const keysOf = (record: Readonly<Record<string, unknown>>, omitted: readonly string[]): string[] => Object.keys(record).filter((key) => record[key] !== undefined && !omitted.includes(key));
