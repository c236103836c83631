/** How a template writes a secret for the place that it is written to. */
import { base64 } from './encoding.ts';

/** How a template can write a secret. `json` and `env` write what stands between double quotes. */
export const escapes = ['base64', 'url', 'json', 'env'] as const;

/** One escape. */
export type Escape = (typeof escapes)[number];

/** Applies `escapes` in order. Takes ownership of `value` and wipes it. */
export function escaped(value: Uint8Array, escapes: readonly Escape[]): Uint8Array {
  return escapes.reduce((bytes, one) => {
    const next = escapers[one](bytes);
    bytes.fill(0);
    return next;
  }, value);
}

/** Replaces each byte by what `replace` returns; keeps it if that is undefined. */
function replaced(bytes: Uint8Array, replace: (byte: number) => string | undefined): Uint8Array {
  const length = bytes.reduce((sum, byte) => sum + (replace(byte)?.length ?? 1), 0);
  const text = new Uint8Array(length);
  let at = 0;
  for (const byte of bytes) {
    const replacement = replace(byte);
    if (replacement === undefined) text[at++] = byte;
    else for (let i = 0; i < replacement.length; i++) text[at++] = replacement.charCodeAt(i);
  }
  return text;
}

const hexadecimal = (byte: number, digits: number): string => byte.toString(16).toUpperCase().padStart(digits, '0');
const unreserved = /^[A-Za-z0-9._~-]$/;

/** Escape a value for the place that it is written to. Text is UTF-8 before and after. */
export const escapers: Readonly<Record<Escape, (bytes: Uint8Array) => Uint8Array>> = {
  base64: (bytes) => base64(bytes),
  /** Percent-encodes all but unreserved characters (RFC 3986 section 2.1), so that the value fits any part of a URL. */
  url: (bytes) =>
    replaced(bytes, (byte) => (unreserved.test(String.fromCharCode(byte)) ? undefined : `%${hexadecimal(byte, 2)}`)),
  /** For between the double quotes of a JSON string (RFC 8259 section 7). */
  json: (bytes) =>
    replaced(bytes, (byte) =>
      byte === 0x22 || byte === 0x5c
        ? `\\${String.fromCharCode(byte)}`
        : byte < 0x20
          ? `\\u${hexadecimal(byte, 4)}`
          : undefined,
    ),
  /**
   * For between double quotes, in EnvironmentFile= (systemd's src/basic/env-file.c) and in a shell: both take a
   * backslash before these four, and only these.
   */
  env: (bytes) =>
    replaced(bytes, (byte) =>
      byte === 0x22 || byte === 0x5c || byte === 0x24 || byte === 0x60 ? `\\${String.fromCharCode(byte)}` : undefined,
    ),
};
