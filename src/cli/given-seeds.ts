/** Seeds that the user supplies: 24 words, 32 bytes, or scopes from the operator. */
import { concat, utf8 } from '../bytes.ts';
import { seedLength } from '../derive/tree.ts';
import { parseScopes } from '../seeds/payload.ts';
import type { Scope } from '../seeds/scope.ts';
import { mostWordBytes, seedOfWords } from '../seeds/words.ts';
import { readInput } from '../system/input.ts';
import { isTerminal } from '../system/terminals.ts';
import { askSecret } from '../terminal/prompt.ts';

/**
 * The seed that `--seed-file=` names; `-` is standard input. The caller wipes it.
 * @throws Failure `usage`
 */
export function seedIn(file: string): Uint8Array {
  const bytes = wordsIn(file, '--seed-file=FILE reads them from a file');
  if (bytes.length === seedLength) return bytes;
  try {
    return seedOfWords(new TextDecoder().decode(bytes));
  } finally {
    bytes.fill(0);
  }
}

/**
 * What a file has in place of 24 words; `-` is standard input, which is asked for them if it is a terminal. The caller
 * wipes it.
 * @throws Failure `usage`
 */
export const wordsIn = (file: string, hint: string): Uint8Array =>
  file === '-' && isTerminal(0) ? askWords(hint) : readInput(file, mostWordBytes);

/** Asks until there are 24 words, on any number of lines. Lines left unread would end up in the shell's history. */
function askWords(hint: string): Uint8Array {
  const lines: Uint8Array[] = [];
  try {
    for (let count = 0; count < 24; ) {
      const line = askSecret(count === 0 ? '24 words' : `24 words, from word ${String(count + 1)} on`, hint);
      lines.push(line, utf8(' '));
      const more = new TextDecoder().decode(line).match(/\S+/g)?.length ?? 0;
      if (more === 0) break;
      count += more;
    }
    return concat(...lines);
  } finally {
    for (const line of lines) line.fill(0);
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
