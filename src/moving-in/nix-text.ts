/** A string of Nix, in which `${` begins an expression. */
export const nixText = (text: string): string => `"${text.replaceAll(/["\\]/g, '\\$&').replaceAll('${', '\\${')}"`;
