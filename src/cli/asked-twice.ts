import { timingSafeEqual } from 'node:crypto';
import { askSecret } from '../terminal/prompt.ts';

/**
 * Asks for a new secret twice, since nothing of it is shown. The caller wipes it.
 * @param hint - how to give the secret without a terminal
 * @returns undefined if the two entries differ
 * @throws Failure `usage` as {@link askSecret}
 */
export function askTwice(question: string, hint: string): Uint8Array | undefined {
  const first = askSecret(question, hint);
  const second = askSecret(`${question} again`, hint);
  const isSame = first.length === second.length && timingSafeEqual(first, second);
  second.fill(0);
  if (isSame) return first;
  first.fill(0);
  return undefined;
}
