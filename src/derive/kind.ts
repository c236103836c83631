/** The kinds of secret that can be derived, and the options that shape each: defaults filled in, ready to derive. */

export const characterClasses = ['lower', 'upper', 'digit', 'symbol'] as const;
/** A class of characters that a password can be required to hold. */
export type CharacterClass = (typeof characterClasses)[number];

export type KindOptions =
  | {
      readonly kind: 'password';
      /** Characters. */
      readonly length: number;
      /** ASCII, each character once, in code-point order. */
      readonly alphabet: string;
      /** At least one character of each of these. */
      readonly require: readonly CharacterClass[];
    }
  | {
      readonly kind: 'hex' | 'base64' | 'bytes';
      /** Random bytes, before they are encoded. */
      readonly bytes: number;
    }
  | { readonly kind: 'uuid' };

export const kindNames = ['password', 'hex', 'base64', 'bytes', 'uuid'] as const satisfies readonly KindOptions['kind'][];
export type KindName = (typeof kindNames)[number];

/** The class of an ASCII character. */
export function classOf(code: number): CharacterClass {
  if (code >= 0x61 && code <= 0x7a) return 'lower';
  if (code >= 0x41 && code <= 0x5a) return 'upper';
  return code >= 0x30 && code <= 0x39 ? 'digit' : 'symbol';
}
