import { nearest } from '../nearest.ts';
import type { Problem } from './declaration.ts';

/**
 * Reads one table of a manifest file key by key. A wrong value is reported as a problem, and its default returned
 * instead.
 */
export class ManifestTable {
  readonly #record: Readonly<Record<string, unknown>>;
  readonly #key: string;
  readonly #note: (problem: Omit<Problem, 'file' | 'line'>) => void;

  constructor(
    record: Readonly<Record<string, unknown>>,
    key: string,
    note: (problem: Omit<Problem, 'file' | 'line'>) => void,
  ) {
    this.#record = record;
    this.#key = key;
    this.#note = note;
  }

  keys(): string[] {
    return Object.keys(this.#record);
  }

  problem(key: string, message: string, hint: string | undefined, severity: Problem['severity'] = 'error'): void {
    this.#note({ severity, key: key === '' ? this.#key : `${this.#key}.${key}`, message, hint });
  }

  text(key: string, fallback: string): string {
    const value = this.value(key);
    if (value === undefined || typeof value === 'string') return value ?? fallback;
    this.problem(key, 'text is expected here', `${key} = "${fallback}"`);
    return fallback;
  }

  oneOf<T extends string>(key: string, fallback: T, choices: readonly T[]): T {
    const value = this.text(key, fallback);
    const choice = choices.find((candidate) => candidate === value);
    if (choice === undefined)
      this.problem(
        key,
        `${JSON.stringify(value)} is not known here`,
        nearest(value, choices) ?? `one of ${choices.join(', ')}`,
      );
    return choice ?? fallback;
  }

  whole(key: string, fallback: number, least: number, most: number): number {
    const value = this.value(key) ?? fallback;
    if (typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most) return value;
    this.problem(
      key,
      `a whole number from ${String(least)} to ${String(most)} is expected here`,
      `${key} = ${String(fallback)}`,
    );
    return fallback;
  }

  flag(key: string, fallback: boolean): boolean {
    const value = this.value(key) ?? fallback;
    if (typeof value === 'boolean') return value;
    this.problem(key, 'true or false is expected here', `${key} = ${String(fallback)}`);
    return fallback;
  }

  list(key: string): string[] {
    const value = this.value(key) ?? [];
    if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value;
    this.problem(key, 'a list of texts is expected here', `${key} = ["..."]`);
    return [];
  }

  /** A table of strings. Numbers in it become strings. */
  texts(key: string): Record<string, string> {
    const value = this.value(key) ?? {};
    const entries: [string, unknown][] =
      typeof value === 'object' && value !== null && !Array.isArray(value) ? Object.entries(value) : [['', undefined]];
    const texts = entries.flatMap(([name, text]): [string, string][] =>
      typeof text === 'string' || typeof text === 'number' ? [[name, String(text)]] : [],
    );
    if (texts.length !== entries.length)
      this.problem(key, 'a table of texts is expected here', `${key} = { name = "value" }`);
    return Object.fromEntries(texts);
  }

  /** The value as it was parsed; undefined if the table lacks the key. */
  value(key: string): unknown {
    return Object.hasOwn(this.#record, key) ? this.#record[key] : undefined;
  }
}
