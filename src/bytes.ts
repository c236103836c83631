/**
 * Bytes, and length-prefixed framing: `LP(x) = u16be(byte length) || x`. Two different lists of fields never
 * concatenate to the same bytes. Every key derivation input here relies on that.
 */

const encoder = new TextEncoder();

/** The UTF-8 bytes of `text`. */
export const utf8 = (text: string): Uint8Array => encoder.encode(text);

/** Lower-case hexadecimal. */
export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** Base64 (RFC 4648 section 4) with padding. */
export const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');

/** Whether both are there and have the same bytes. Not in constant time: nobody may learn a secret by measuring it. */
export const sameBytes = (one: Uint8Array | undefined, other: Uint8Array | undefined): boolean =>
  one !== undefined && other !== undefined && Buffer.compare(one, other) === 0;

/** Joins all parts in one array. */
export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    joined.set(part, offset);
    offset += part.length;
  }
  return joined;
}

/** `value` as 4 bytes, most significant first. @throws RangeError outside 0..2^32-1 */
export function u32be(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  if (!Number.isInteger(value) || value < 0 || value > 0xffffffff)
    throw new RangeError(`not an unsigned 32-bit number: ${String(value)}`);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
}

/** `LP(field)`: two bytes of length, then the field's bytes (text as UTF-8). @throws RangeError over 65535 bytes */
export function framed(field: string | Uint8Array): Uint8Array {
  const bytes = typeof field === 'string' ? utf8(field) : field;
  if (bytes.length > 0xffff)
    throw new RangeError(`a field of ${String(bytes.length)} bytes does not fit its length prefix`);
  return concat(Uint8Array.of(bytes.length >> 8, bytes.length & 0xff), bytes);
}
