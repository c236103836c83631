/** The kinds of secret that can be derived, and the options of each. */

/** The classes that a password can be required to hold, in no order that matters. */
export const characterClasses = ['lower', 'upper', 'digit', 'symbol'] as const;
/** A class of characters that a password can be required to hold. */
export type CharacterClass = (typeof characterClasses)[number];

/**
 * The options of a kind, defaults filled in.
 *
 * A later version adds an option as an optional property that is absent at its default, so that the `params` of secrets
 * declared without it stay the same, and so do the secrets (docs/formats.md, Realm).
 */
export type KindOptions =
  | {
      readonly kind: 'password';
      /** In characters. */
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
      /** Says whose key it is. Not part of the realm: another comment leaves the key as it is. */
      readonly comment: string;
    };

/** Kinds with a public half. */
export const keyKinds = ['ssh-ed25519', 'wireguard', 'age', 'ed25519', 'x25519', 'ec-p256'] as const;
/** A kind with a public half. */
export type KeyKind = (typeof keyKinds)[number];

/** All kinds. */
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
/** One kind of derived secret. */
export type KindName = (typeof kindNames)[number];

/** Whether `kind` has a public half. */
export const isKeyKind = (kind: string): kind is KeyKind => keyKinds.some((known) => known === kind);

/** The class of an ASCII character. */
export function classOf(code: number): CharacterClass {
  if (code >= 0x61 && code <= 0x7a) return 'lower';
  if (code >= 0x41 && code <= 0x5a) return 'upper';
  return code >= 0x30 && code <= 0x39 ? 'digit' : 'symbol';
}
