import type { Problem } from './declaration.ts';

/** A problem as compilers print it: `FILE:LINE: error: KEY: message`, and the hint on the next line. */
export function problemText({ file, line, key, message, hint, severity }: Problem): string {
  const place = `${file}${line === undefined ? '' : `:${String(line)}`}`;
  return `${place}: ${severity}: ${key === undefined ? '' : `${key}: `}${message}${hint === undefined ? '' : `\n    ${hint}`}`;
}
