/** TOML that people write: parsed strictly, with failures that name the line or the key. */
import { parse, TomlError } from 'smol-toml';
import { Failure } from '../failure.ts';
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

/** The way out if the line where the parser stopped has a value that lacks its quotes; undefined otherwise. */
export function quotesFor(line: string): string | undefined {
  const [, key, value = ''] = /^\s*([\w-]+)\s*=\s*([\w.@/+:-]+)\s*(#|$)/.exec(line) ?? [];
  return key && `${key} = ${/^(true|false)$/i.test(value) ? value.toLowerCase() : `"${value}"`}`;
}
