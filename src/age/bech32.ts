/** Bech32 (BIP 173, without its limit of 90 characters), as age writes its keys. Decoding only. */
const digits = 'qpzry9x8gf2tvdw0s3jn54khce6mua7l';
const generators = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3];

function checksum(values: readonly number[]): number {
  let sum = 1;
  for (const value of values) {
    const top = sum >>> 25;
    sum = ((sum & 0x1ffffff) << 5) ^ value;
    generators.forEach((generator, i) => { if ((top >>> i) & 1) sum ^= generator; });
  }
  return sum;
}

/** The bytes behind `prefix`, which is given in the case that the text has to have; undefined where the text is anything else. */
export function decodeBech32(prefix: string, text: string): Uint8Array | undefined {
  const upper = prefix === prefix.toUpperCase();
  if (text !== (upper ? text.toUpperCase() : text.toLowerCase()) || !text.startsWith(`${prefix}1`)) return undefined;
  const human = [...prefix.toLowerCase()].map((character) => character.charCodeAt(0));
  const values = [...text.slice(prefix.length + 1).toLowerCase()].map((character) => digits.indexOf(character));
  if (values.length < 6 || values.includes(-1)) return undefined;
  if (checksum([...human.map((code) => code >> 5), 0, ...human.map((code) => code & 31), ...values]) !== 1) return undefined;
  const bytes: number[] = [];
  let buffer = 0;
  let bits = 0;
  for (const value of values.slice(0, -6)) {
    buffer = ((buffer << 5) | value) & 0xfff;
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      bytes.push((buffer >> bits) & 0xff);
    }
  }
  return bits < 5 && (buffer & ((1 << bits) - 1)) === 0 ? Uint8Array.from(bytes) : undefined;
}
