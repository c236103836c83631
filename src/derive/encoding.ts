/** Encoders that write bytes, never strings: a string can't be wiped. */
import { concat, utf8 } from '../bytes.ts';

const hexDigits = utf8('0123456789abcdef');
const base64Digits = utf8('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/');

/** Hexadecimal, in lower case. The caller wipes the result. */
export function hex(bytes: Uint8Array): Uint8Array {
  const text = new Uint8Array(bytes.length * 2);
  bytes.forEach((byte, i) => {
    text[2 * i] = hexDigits[byte >> 4] ?? 0;
    text[2 * i + 1] = hexDigits[byte & 15] ?? 0;
  });
  return text;
}

/** Base64 (RFC 4648 section 4) with padding. The caller wipes the result. */
export function base64(bytes: Uint8Array): Uint8Array {
  const text = new Uint8Array(Math.ceil(bytes.length / 3) * 4).fill(0x3d);
  for (let i = 0, out = 0; i < bytes.length; i += 3, out += 4) {
    const a = bytes[i] ?? 0;
    const b = bytes[i + 1];
    const c = bytes[i + 2];
    text[out] = base64Digits[a >> 2] ?? 0;
    text[out + 1] = base64Digits[((a & 3) << 4) | ((b ?? 0) >> 4)] ?? 0;
    if (b !== undefined) text[out + 2] = base64Digits[((b & 15) << 2) | ((c ?? 0) >> 6)] ?? 0;
    if (c !== undefined) text[out + 3] = base64Digits[c & 63] ?? 0;
  }
  return text;
}

/** PEM (RFC 7468) with lines of `width` characters and a newline at the end. The caller wipes the result. */
export function pem(label: string, content: Uint8Array, width: number): Uint8Array {
  const encoded = base64(content);
  const newline = Uint8Array.of(0x0a);
  const lines = Array.from({ length: Math.ceil(encoded.length / width) }, (_, i) =>
    encoded.subarray(i * width, (i + 1) * width),
  );
  const text = concat(
    utf8(`-----BEGIN ${label}-----\n`),
    ...lines.flatMap((line) => [line, newline]),
    utf8(`-----END ${label}-----\n`),
  );
  encoded.fill(0);
  return text;
}
