/** What a terminal would obey: control characters, and those that turn the direction of a text around. */
const obeyed = /[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}]/gu;

/**
 * What somebody else wrote, at most `most` characters of it, without what a terminal would obey. What the cut leaves of
 * a surrogate pair goes too.
 */
export const printable = (text: string, most = 2000): string =>
  text
    .slice(0, most)
    .replaceAll(obeyed, ' ')
    .replaceAll(/\p{Surrogate}/gu, '');

/** JSON, indented, that a terminal shows and a program reads: the same characters as escapes. */
export const printableJson = (value: unknown): string =>
  JSON.stringify(value, undefined, 2).replaceAll(obeyed, (character) =>
    character === '\n' ? character : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
