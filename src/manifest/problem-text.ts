import type { Problem } from './declaration.ts';

/** `FILE:LINE: error: what is wrong (the way out)`. */
export function problemText({ file, line, key, message, hint, severity }: Problem): string {
  const place = `${file}${line === undefined ? '' : `:${String(line)}`}`;
  return `${place}: ${severity}: ${key === undefined ? '' : `${key}: `}${message}${hint === undefined ? '' : `\n    ${hint}`}`;
}
