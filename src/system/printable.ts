/** Characters that a terminal acts on: control characters, and those that change the direction of text. */
const obeyed = /[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}]/gu;

/** Whether a text is printable ASCII, as most are. For others V8 collects Unicode's properties, which takes 1 ms. */
export const isPlain = (text: string): boolean => /^[ -~]*$/.test(text);

/**
 * Makes untrusted text safe for a terminal: removes the characters that it would act on, and all after the first
 * `most`. Also removes a surrogate pair that this cuts in half.
 */
export function printable(text: string, most = 2000): string {
  const shown = text.slice(0, most);
  return isPlain(shown) ? shown : shown.replaceAll(obeyed, ' ').replaceAll(/\p{Surrogate}/gu, '');
}

/** Indented JSON that is safe for a terminal: escapes the same characters. */
export const printableJson = (value: unknown): string =>
  JSON.stringify(value, undefined, 2).replaceAll(obeyed, (character) =>
    character === '\n' ? character : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
