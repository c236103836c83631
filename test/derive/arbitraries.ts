/** Values for property tests: few per field, so that two draws often differ in only one field. */
import fc from 'fast-check';
import { characterClasses, classOf, type KindOptions, keyKinds } from '../../src/derive/kind.ts';
import type { Derived } from '../../src/derive/recipe.ts';

export const alnum = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
export const printable = Array.from({ length: 94 }, (_, i) => String.fromCharCode(0x21 + i)).join('');

export const seeds = fc.uint8Array({ minLength: 32, maxLength: 32 });

const alphabets = fc.constantFrom(alnum, printable, 'ab', '01ab', '!09AZaz', 'xy');

/** Passwords that some strings satisfy. */
export const passwords: fc.Arbitrary<Extract<KindOptions, { kind: 'password' }>> = alphabets.chain((alphabet) => {
  const present = characterClasses.filter((wanted) =>
    [...alphabet].some((character) => classOf(character.charCodeAt(0)) === wanted),
  );
  return fc.record({
    kind: fc.constant('password' as const),
    length: fc.integer({ min: 4, max: 40 }),
    alphabet: fc.constant(alphabet),
    require: fc.subarray([...present]),
  });
});

export const passphrases: fc.Arbitrary<Extract<KindOptions, { kind: 'passphrase' }>> = fc.record({
  kind: fc.constant('passphrase' as const),
  words: fc.integer({ min: 1, max: 12 }),
  separator: fc.constantFrom('', '-', ' ', '. ', '='),
  capitalize: fc.boolean(),
});

export const options: fc.Arbitrary<KindOptions> = fc.oneof(
  passwords,
  passphrases,
  fc.record({
    kind: fc.constantFrom('hex' as const, 'base64' as const, 'bytes' as const),
    bytes: fc.constantFrom(1, 16, 32, 33, 64),
  }),
  fc.record({ kind: fc.constantFrom('uuid' as const, 'wireguard-psk' as const) }),
  fc.record({ kind: fc.constantFrom(...keyKinds.filter((kind) => kind !== 'ssh-ed25519')) }),
  fc.record({ kind: fc.constant('ssh-ed25519' as const), comment: fc.constantFrom('', 'root@web1') }),
);

export const recipes: fc.Arbitrary<Derived> = fc.record({
  form: fc.constant('derived' as const),
  scope: fc.constantFrom('host/web1', 'host/web2', 'group/web1'),
  epoch: fc.integer({ min: 1, max: 2 }),
  name: fc.constantFrom('a', 'b', 'a/b', 'a_b'),
  options,
  period: fc.constantFrom('', '2026', '2026-11'),
  generation: fc.integer({ min: 1, max: 3 }),
});
