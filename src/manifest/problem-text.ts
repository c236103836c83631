import { printable } from '../system/printable.ts';
import type { Problem } from './declaration.ts';

/**
 * A problem as compilers print it: `FILE:LINE: error: KEY: message`, and the hint on the next line. File names and keys
 * may be anybody's, so nothing in it is left that a terminal acts on.
 */
export function problemText({ file, line, key, message, hint, severity }: Problem): string {
  const place = `${file}${line === undefined ? '' : `:${String(line)}`}`;
  const text = `${place}: ${severity}: ${key === undefined ? '' : `${key}: `}${message}`;
  return [text, ...(hint === undefined ? [] : [`    ${hint}`])].map((one) => printable(one, one.length)).join('\n');
}
