/** TOML that people write: parsed strictly, with failures that name the line or the key. */
import { parse, TomlError } from 'smol-toml';
import { Failure } from '../failure.ts';
import { nearest } from '../nearest.ts';
import { Json } from './json.ts';

/** Parses TOML. @throws Failure `malformed` that names the line */
export function tomlIn(bytes: Uint8Array, file: string, hint: string): Json {
  try {
    return Json.of(parse(new TextDecoder().decode(bytes)), file, hint);
  } catch (error) {
    if (error instanceof TomlError)
      throw new Failure('malformed', `${file}:${String(error.line)}: it is not TOML`, { hint });
    throw error;
  }
}

/** Refuses other keys than these. @throws Failure `malformed` with the nearest one */
export function allowKeys(table: Json, keys: readonly string[], file: string): void {
  for (const [key] of table.entries())
    if (!keys.includes(key))
      throw new Failure('malformed', `${file} has no key ${key} there`, {
        hint: nearest(key, keys) ?? `it has ${keys.join(', ')}`,
      });
}
