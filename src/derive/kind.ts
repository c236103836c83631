/** The kinds of secret that can be derived, and the options that shape each: defaults filled in, ready to derive. */

export const characterClasses = ['lower', 'upper', 'digit', 'symbol'] as const;
/** A class of characters that a password can be required to hold. */
export type CharacterClass = (typeof characterClasses)[number];

/**
 * An option that a kind gets later is an optional property, and absent at its default: `params` then stays what it is for every secret
 * that was declared without it, and so does the secret (docs/formats.md, Realm).
 */
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
      readonly kind: 'passphrase';
      readonly words: number;
      /** Printable ASCII between two words; may be empty. */
      readonly separator: string;
      /** Whether each word begins with a capital. */
      readonly capitalize: boolean;
    }
  | {
      readonly kind: 'hex' | 'base64' | 'bytes';
      /** Random bytes, before they are encoded. */
      readonly bytes: number;
    }
  | { readonly kind: 'uuid' | 'wireguard-psk' }
  | { readonly kind: Exclude<KeyKind, 'ssh-ed25519'> }
  | {
      readonly kind: 'ssh-ed25519';
      /** Says whose key it is; another comment is still the same key. */
      readonly comment: string;
    };

/** Kinds with a public half. */
export const keyKinds = ['ssh-ed25519', 'wireguard', 'age', 'ed25519', 'x25519', 'ec-p256'] as const;
export type KeyKind = (typeof keyKinds)[number];

export const kindNames = [
  'password',
  'passphrase',
  'hex',
  'base64',
  'bytes',
  'uuid',
  'wireguard-psk',
  ...keyKinds,
] as const satisfies readonly KindOptions['kind'][];
export type KindName = (typeof kindNames)[number];

export const isKeyKind = (kind: string): kind is KeyKind => keyKinds.some((known) => known === kind);

/** The class of an ASCII character. */
export function classOf(code: number): CharacterClass {
  if (code >= 0x61 && code <= 0x7a) return 'lower';
  if (code >= 0x41 && code <= 0x5a) return 'upper';
  return code >= 0x30 && code <= 0x39 ? 'digit' : 'symbol';
}
