/** TOML that people write: parsed strictly, with failures that name the line or the key. */
import { parse, TomlError } from 'smol-toml';
import { Failure } from '../failure.ts';
import { nearest } from '../nearest.ts';
import { Json } from './json.ts';
import { refuseMergeConflict } from './merge-conflict.ts';

/** Parses TOML. @throws Failure `malformed` that names the line */
export function tomlIn(bytes: Uint8Array, file: string, hint: string): Json {
  const text = new TextDecoder().decode(bytes);
  try {
    return Json.of(parse(text), file, hint);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    refuseMergeConflict(text, file);
    throw new Failure('malformed', `${file}:${String(error.line)}: ${notToml(error)}`, { hint });
  }
}

/** The parser's reason, without the lines of the file that it quotes. */
export const notToml = ({ message }: TomlError): string =>
  `it is not TOML: ${message.split('\n')[0]?.replace(/^Invalid TOML document: /, '') ?? ''}`;

/**
 * Refuses other keys than these.
 * @param top - those of the top level, where TOML puts no key that stands below a table's heading
 * @throws Failure `malformed` with the nearest one
 */
export function allowKeys(table: Json, keys: readonly string[], file: string, top: readonly string[] = []): void {
  for (const [key, { place }] of table.entries())
    if (!keys.includes(key))
      throw new Failure('malformed', `${file} has no key ${place}`, {
        hint: top.includes(key)
          ? `${key} is no key of a table: move it above the first line that begins with [`
          : (nearest(key, keys) ?? `it has ${keys.join(', ')}`),
      });
}
