/** Seeds that a person brings: 24 words or 32 bytes, or scopes from the operator. */
import { seedLength } from '../derive/tree.ts';
import { parseScopes } from '../seeds/payload.ts';
import type { Scope } from '../seeds/scope.ts';
import { mostWordBytes, seedOfWords } from '../seeds/words.ts';
import { readInput } from '../system/input.ts';

/** What `--seed-file=` names, `-` for standard input. The caller wipes the seed. @throws Failure `usage` */
export function seedIn(file: string): Uint8Array {
  const bytes = readInput(file, mostWordBytes);
  if (bytes.length === seedLength) return bytes;
  try {
    return seedOfWords(new TextDecoder().decode(bytes));
  } finally {
    bytes.fill(0);
  }
}

/** What `--scopes=` names, `-` for standard input. The caller wipes the scopes. @throws Failure `malformed` */
export function scopesIn(file: string): Scope[] {
  const bytes = readInput(file, mostScopeBytes);
  try {
    return parseScopes(bytes, file === '-' ? 'standard input' : file);
  } finally {
    bytes.fill(0);
  }
}

/** The most bytes of a file of scopes: those of thousands of groups. */
const mostScopeBytes = 1 << 20;
