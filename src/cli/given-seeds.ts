/** Seeds that the user supplies: 24 words, 32 bytes, or scopes from the operator. */
import { seedLength } from '../derive/tree.ts';
import { parseScopes } from '../seeds/payload.ts';
import type { Scope } from '../seeds/scope.ts';
import { mostWordBytes, seedOfWords } from '../seeds/words.ts';
import { readInput } from '../system/input.ts';

/** The seed that `--seed-file=` names; `-` is standard input. The caller wipes it. @throws Failure `usage` */
export function seedIn(file: string): Uint8Array {
  const bytes = readInput(file, mostWordBytes);
  if (bytes.length === seedLength) return bytes;
  try {
    return seedOfWords(new TextDecoder().decode(bytes));
  } finally {
    bytes.fill(0);
  }
}

/** The scopes that `--scopes=` names; `-` is standard input. The caller wipes them. @throws Failure `malformed` */
export function scopesIn(file: string): Scope[] {
  const bytes = readInput(file, mostScopeBytes);
  try {
    return parseScopes(bytes, file === '-' ? 'standard input' : file);
  } finally {
    bytes.fill(0);
  }
}

/** Maximum size of a scopes file, enough for thousands of groups. */
const mostScopeBytes = 1 << 20;
