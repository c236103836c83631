/** What somebody else wrote, at most `most` characters of it, without what a terminal would obey: control characters, and those that turn the direction of a text around. */
export const printable = (text: string, most = 2000): string => text.replaceAll(/[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}]/gu, ' ').slice(0, most);
