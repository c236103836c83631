import { utf8 } from '../bytes.ts';
import { Failure } from '../failure.ts';
import type { GokeyStream } from './stream.ts';

/** gokey's alphabet, in its order: lower case, upper case, digits, then the rest of printable ASCII. */
const alphabet = utf8(
  'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ1234567890`~!@#$%^&*()-_=+[{]}\\|;:\'",<.>/?',
);

/** What every password of gokey has at least; three of the first two, and one of the others. */
const shortest = 8;

/** @throws Failure `usage` for a length that gokey's own rules do not fit into */
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

/** A number below 94: a byte below twice that, halved. */
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
