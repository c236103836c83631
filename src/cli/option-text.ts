import { hasOwnFlags, type OptionEntry, type Verb } from './manual.ts';

/** Whether an option has one dash, and its value is the next word: `-n N`, and gokey's flags. */
export const isShort = (verb: Verb, name: string): boolean => hasOwnFlags(verb) || name.length === 1;

/** An option's name as it is typed: `--root`, `-n`. */
export const dashed = (verb: Verb, name: string): string => `${isShort(verb, name) ? '-' : '--'}${name}`;

/** An option as it is typed, with its value: `--root=DIR`, `--predict[=ENTRY]`, `-n N`. */
export function written(verb: Verb, { name, value, optional }: OptionEntry): string {
  const typed = dashed(verb, name);
  if (value === undefined) return typed;
  if (isShort(verb, name)) return `${typed} ${value}`;
  return optional === true ? `${typed}[=${value}]` : `${typed}=${value}`;
}
