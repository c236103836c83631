/** Reads DER (X.690, section 8.1) out of untrusted bytes. */

/** One value. */
export interface DerValue {
  readonly tag: number;
  readonly content: Uint8Array;
  /** With its tag and length. */
  readonly whole: Uint8Array;
}

/** The values that follow each other in `bytes`, up to the first that does not fit. Lengths have at most 4 bytes. */
export function derValuesIn(bytes: Uint8Array): DerValue[] {
  const values: DerValue[] = [];
  for (let offset = 0; offset + 2 <= bytes.length; ) {
    const [tag = 0, first = 0] = bytes.subarray(offset, offset + 2);
    const more = first >= 0x80 ? first - 0x80 : 0;
    const start = offset + 2 + more;
    if (more > 4 || start > bytes.length) return values;
    const length = more === 0 ? first : bytes.subarray(offset + 2, start).reduce((sum, byte) => sum * 256 + byte, 0);
    const end = start + length;
    if (end > bytes.length) return values;
    values.push({ tag, content: bytes.subarray(start, end), whole: bytes.subarray(offset, end) });
    offset = end;
  }
  return values;
}
