import { printable } from './printable.ts';

/** A word as a POSIX shell reads it back, whatever is in it; without anything that a terminal would obey. */
export function shellWord(text: string): string {
  if (/^[\w@%+=:,./-]+$/.test(text)) return text;
  if (printable(text, text.length) === text) return `'${text.replaceAll("'", "'\\''")}'`;
  // printf(1): %b reads \0 and three octal digits.
  const bytes = [...Buffer.from(text)].map((byte) =>
    /[\w@%+=:,./ -]/.test(String.fromCharCode(byte))
      ? String.fromCharCode(byte)
      : `\\0${byte.toString(8).padStart(3, '0')}`,
  );
  return `"$(printf %b '${bytes.join('')}')"`;
}

/** A command line of these words. */
export const commandLine = (...words: readonly string[]): string => words.map(shellWord).join(' ');
