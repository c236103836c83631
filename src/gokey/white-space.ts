/** The white space of Go's unicode.IsSpace, in UTF-8. */
const spaces = [
  '\t',
  '\n',
  '\v',
  '\f',
  '\r',
  ' ',
  '\u0085',
  '\u00a0',
  '\u1680',
  ...Array.from('\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000'),
].map((space) => Buffer.from(space));

/**
 * Removes the white space around the bytes as Go's strings.TrimSpace does. Bytes that are not UTF-8 stay.
 * Takes ownership of `bytes` and wipes them. The caller wipes the result.
 */
export function trimSpace(bytes: Uint8Array): Uint8Array {
  const isAt = (space: Uint8Array, offset: number): boolean => space.every((byte, i) => bytes[offset + i] === byte);
  let [start, end] = [0, bytes.length];
  const lengthAt = (offsetOf: (space: Uint8Array) => number): number =>
    spaces.find((space) => space.length <= end - start && isAt(space, offsetOf(space)))?.length ?? 0;
  for (let more = -1; more !== 0; start += more) more = lengthAt(() => start);
  for (let more = -1; more !== 0; end -= more) more = lengthAt((space) => end - space.length);
  const trimmed = Uint8Array.from(bytes.subarray(start, end));
  bytes.fill(0);
  return trimmed;
}
