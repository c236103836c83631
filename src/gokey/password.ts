import { utf8 } from '../bytes.ts';
import { Failure } from '../failure.ts';
import type { GokeyStream } from './stream.ts';

/** gokey's alphabet, in its order: lower case, upper case, digits, then the rest of printable ASCII. */
const alphabet = utf8(
  'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ1234567890`~!@#$%^&*()-_=+[{]}\\|;:\'",<.>/?',
);

/** The fewest characters of a password: three lower-case, three upper-case, a digit and one more. */
const shortest = 8;

/**
 * Draws a password of `length` characters. The caller wipes it.
 * @throws Failure `usage` for a length that is too short for gokey's rules
 */
export function drawPassword(stream: GokeyStream, length: number): Uint8Array {
  if (length < shortest)
    throw new Failure('usage', 'invalid password specification', {
      hint: `gokey's passwords have at least ${String(shortest)} characters`,
    });
  for (;;) {
    const password = new Uint8Array(length);
    for (let i = 0; i < length; i++) password[i] = alphabet[draw(stream)] ?? 0;
    if (isCompliant(password)) return password;
    password.fill(0);
  }
}

/** Draws a number below 94: half of a byte that is below 188. */
function draw(stream: GokeyStream): number {
  for (;;) {
    const byte = stream.byte();
    if (byte < 2 * alphabet.length) return byte >> 1;
  }
}

function isCompliant(password: Uint8Array): boolean {
  const count = (from: number, to: number): number =>
    password.reduce((sum, byte) => sum + (byte >= from && byte <= to ? 1 : 0), 0);
  const [lower, upper, digits] = [count(0x61, 0x7a), count(0x41, 0x5a), count(0x30, 0x39)];
  return lower >= 3 && upper >= 3 && digits >= 1 && password.length - lower - upper - digits >= 1;
}
