/** Characters that a terminal acts on: control characters, and those that change the direction of text. */
const obeyed = /[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}]/gu;

/**
 * Makes untrusted text safe for a terminal: removes the characters that it would act on, and all after the first
 * `most`. Also removes a surrogate pair that this cuts in half.
 */
export const printable = (text: string, most = 2000): string =>
  text
    .slice(0, most)
    .replaceAll(obeyed, ' ')
    .replaceAll(/\p{Surrogate}/gu, '');

/** Indented JSON that is safe for a terminal: escapes the same characters. */
export const printableJson = (value: unknown): string =>
  JSON.stringify(value, undefined, 2).replaceAll(obeyed, (character) =>
    character === '\n' ? character : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
