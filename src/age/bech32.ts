/**
 * Bech32 (BIP 173, without its limit of 90 characters), in which age writes its keys. Works on bytes, because strings
 * can't be wiped.
 */
const digits = 'qpzry9x8gf2tvdw0s3jn54khce6mua7l';
const generators = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3];
const checksumLength = 6;

function absorb(sum: number, value: number): number {
  const top = sum >>> 25;
  let next = ((sum & 0x1ffffff) << 5) ^ value;
  generators.forEach((generator, i) => {
    if ((top >>> i) & 1) next ^= generator;
  });
  return next;
}

/**
 * Decodes `text` (ASCII), which must begin with `prefix` and be in its case throughout. The caller wipes `text` and the
 * result.
 * @returns the bytes; undefined if the prefix, a character, the checksum or the padding is wrong
 */
export function decodeBech32(prefix: string, text: Uint8Array): Uint8Array | undefined {
  const human = Buffer.from(`${prefix}1`);
  const alphabet = prefix === prefix.toUpperCase() ? digits.toUpperCase() : digits;
  if (text.length < human.length + checksumLength || !human.equals(text.subarray(0, human.length))) return undefined;
  const values = Uint8Array.from(
    text.subarray(human.length),
    (character) => alphabet.indexOf(String.fromCharCode(character)) & 0xff,
  );
  try {
    if (values.includes(0xff) || values.reduce(absorb, checksumOf(prefix)) !== 1) return undefined;
    return fromFiveBits(values.subarray(0, -checksumLength));
  } finally {
    values.fill(0);
  }
}

/** Encodes `bytes` behind `prefix`, in the prefix's case. The caller wipes `bytes` and the result. */
export function encodeBech32(prefix: string, bytes: Uint8Array): Uint8Array {
  const alphabet = Buffer.from(prefix === prefix.toUpperCase() ? digits.toUpperCase() : digits);
  const values = toFiveBits(bytes);
  let sum = values.reduce(absorb, checksumOf(prefix));
  for (let i = 0; i < checksumLength; i++) sum = absorb(sum, 0);
  const checksum = sum ^ 1;
  const human = Buffer.from(`${prefix}1`);
  const text = new Uint8Array(human.length + values.length + checksumLength);
  text.set(human);
  values.forEach((value, i) => {
    text[human.length + i] = alphabet[value] ?? 0;
  });
  for (let i = 0; i < checksumLength; i++)
    text[human.length + values.length + i] = alphabet[(checksum >>> (5 * (checksumLength - 1 - i))) & 31] ?? 0;
  values.fill(0);
  return text;
}

/** The checksum's state after the prefix. */
function checksumOf(prefix: string): number {
  const codes = Buffer.from(prefix.toLowerCase());
  return [...codes.map((code) => code >> 5), 0, ...codes.map((code) => code & 31)].reduce(absorb, 1);
}

function toFiveBits(bytes: Uint8Array): Uint8Array {
  const values = new Uint8Array(Math.ceil((bytes.length * 8) / 5));
  let buffer = 0;
  let bits = 0;
  let length = 0;
  for (const byte of bytes) {
    buffer = ((buffer << 8) | byte) & 0xfff;
    for (bits += 8; bits >= 5; ) {
      bits -= 5;
      values[length++] = (buffer >> bits) & 31;
    }
  }
  if (bits > 0) values[length] = (buffer << (5 - bits)) & 31;
  return values;
}

function fromFiveBits(values: Uint8Array): Uint8Array | undefined {
  const bytes = new Uint8Array(Math.floor((values.length * 5) / 8));
  let buffer = 0;
  let bits = 0;
  let length = 0;
  for (const value of values) {
    buffer = ((buffer << 5) | value) & 0xfff;
    bits += 5;
    if (bits < 8) continue;
    bits -= 8;
    bytes[length++] = buffer >> bits;
  }
  if (bits < 5 && (buffer & ((1 << bits) - 1)) === 0) return bytes;
  bytes.fill(0);
  return undefined;
}
