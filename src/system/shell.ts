import { printable } from './printable.ts';

/** Quotes any text as one word of a POSIX shell, safe for a terminal. */
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

/** Joins words into a shell command line. */
export const commandLine = (...words: readonly string[]): string => words.map(shellWord).join(' ');
