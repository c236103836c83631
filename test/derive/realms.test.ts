import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { hashMethods } from '../../src/derive/hash-methods.ts';
import { saltOf } from '../../src/derive/hash-seal.ts';
import { type KindOptions, keyKinds } from '../../src/derive/kind.ts';
import { type Derived, realmDigest } from '../../src/derive/recipe.ts';
import { realmOf } from '../../src/derive/secret.ts';
import { leafKey, scopeSeed } from '../../src/derive/tree.ts';
import { canonicalJson } from '../../src/system/json.ts';
import { alnum, recipes, seeds } from './arbitraries.ts';
import { bytes, hex } from './vectors.ts';

const fleet = bytes(`${'00'.repeat(31)}2a`);
const scopeOf = ({ scope, epoch }: Derived): Uint8Array => {
  const [kind = '', name = ''] = scope.split('/');
  return scopeSeed(fleet, kind === 'host' ? 'host' : 'group', name, epoch);
};
const keyOf = (recipe: Derived): string => hex(leafKey(scopeOf(recipe), realmOf(recipe)));

/** What a recipe's key depends on: everything but an ssh key's comment. */
const meaning = (recipe: Derived): string =>
  canonicalJson(
    recipe.options.kind === 'ssh-ed25519' ? { ...recipe, options: { ...recipe.options, comment: '' } } : recipe,
  );

const every: readonly KindOptions[] = [
  ...[31, 32].map((length): KindOptions => ({ kind: 'password', length, alphabet: alnum, require: [] })),
  { kind: 'password', length: 32, alphabet: alnum.slice(1), require: [] },
  { kind: 'password', length: 32, alphabet: alnum, require: ['digit'] },
  { kind: 'password', length: 32, alphabet: alnum, require: ['digit', 'lower'] },
  ...['-', '', '--'].flatMap((separator) =>
    [true, false].map((capitalize): KindOptions => ({ kind: 'passphrase', words: 6, separator, capitalize })),
  ),
  { kind: 'passphrase', words: 7, separator: '-', capitalize: false },
  ...(['hex', 'base64', 'bytes'] as const).flatMap((kind) =>
    [16, 32].map((length): KindOptions => ({ kind, bytes: length })),
  ),
  { kind: 'uuid' },
  { kind: 'wireguard-psk' },
  ...keyKinds.map((kind): KindOptions => (kind === 'ssh-ed25519' ? { kind, comment: '' } : { kind })),
];

test('no two of all combinations of scope, epoch, kind, options, name, period and generation share a key or a digest', () => {
  const keys = new Set<string>();
  const digests = new Set<string>();
  let count = 0;
  for (const scope of ['host/web1', 'host/web2', 'group/web1']) {
    for (const epoch of [1, 2]) {
      const seed = scopeOf({
        form: 'derived',
        scope,
        epoch,
        name: '',
        options: { kind: 'uuid' },
        period: '',
        generation: 1,
      });
      for (const options of every) {
        for (const name of ['a', 'b', 'a/b', 'uuid']) {
          for (const period of ['', '2026', '2026-11']) {
            for (const generation of [1, 2]) {
              const recipe: Derived = { form: 'derived', scope, epoch, name, options, period, generation };
              keys.add(hex(leafKey(seed, realmOf(recipe))));
              // The check numbers, which occur twice in an OpenSSH key, have a stream of their own.
              if (options.kind === 'ssh-ed25519')
                keys.add(hex(leafKey(seed, { ...realmOf(recipe), type: 'ssh-ed25519-check' })));
              digests.add(hex(realmDigest(recipe)));
              count += 1;
            }
          }
        }
      }
    }
  }
  assert.equal(digests.size, count);
  assert.equal(keys.size, count + count / every.length);
});

test('two recipes share a key and a digest only if they agree in all but a comment', () => {
  fc.assert(
    fc.property(recipes, recipes, (a, b) => {
      const same = meaning(a) === meaning(b);
      assert.equal(keyOf(a) === keyOf(b), same);
      assert.equal(hex(realmDigest(a)) === hex(realmDigest(b)), same);
    }),
    { numRuns: 500 },
  );
});

test('a change of one field is another key and another digest, a change of comment is neither', () => {
  fc.assert(
    fc.property(recipes, (recipe) => {
      const others: Derived[] = [
        { ...recipe, scope: `${recipe.scope}0` },
        { ...recipe, epoch: recipe.epoch + 1 },
        { ...recipe, name: `${recipe.name}0` },
        { ...recipe, period: `${recipe.period}0` },
        { ...recipe, generation: recipe.generation + 1 },
      ];
      for (const other of others) {
        assert.notEqual(keyOf(other), keyOf(recipe));
        assert.notEqual(hex(realmDigest(other)), hex(realmDigest(recipe)));
      }
      if (recipe.options.kind !== 'ssh-ed25519') return;
      const renamed: Derived = { ...recipe, options: { ...recipe.options, comment: 'other' } };
      assert.equal(keyOf(renamed), keyOf(recipe));
      assert.equal(hex(realmDigest(renamed)), hex(realmDigest(recipe)));
    }),
  );
});

test('two realms of any texts share a key only if they are the same, whichever field a text stands in', () => {
  const part = fc.constantFrom('', 'a', 'b', 'ab', 'a=', 'a=b\n', '\0', '\0\x01a', 'é');
  const realms = fc.record({
    type: part,
    name: part,
    period: part,
    generation: fc.constantFrom(0, 1, 0x61, 0x10061),
    params: part,
  });
  fc.assert(
    fc.property(seeds, realms, realms, (seed, a, b) => {
      assert.equal(hex(leafKey(seed, a)) === hex(leafKey(seed, b)), JSON.stringify(a) === JSON.stringify(b));
    }),
    { numRuns: 500 },
  );
});

test('the order in which options and classes are written makes no difference', () => {
  const one = realmOf({
    name: 'a',
    options: { kind: 'password', length: 8, alphabet: '01ab', require: ['lower', 'digit'] },
    period: '',
    generation: 1,
  });
  const other = realmOf({
    generation: 1,
    period: '',
    options: { require: ['digit', 'lower'], alphabet: '01ab', length: 8, kind: 'password' },
    name: 'a',
  });
  assert.deepEqual(one, other);
});

test('every hash of every secret has a salt of its own', () => {
  const salts = new Set<string>();
  let count = 0;
  for (const name of ['a', 'b']) {
    for (const method of hashMethods) {
      for (const rounds of [5, 6]) {
        for (const generation of [1, 2]) {
          for (const of of ['a', 'b']) {
            const recipe: Derived = {
              form: 'derived',
              scope: 'host/web1',
              epoch: 1,
              name: of,
              options: { kind: 'uuid' },
              period: '',
              generation,
            };
            salts.add(hex(saltOf(scopeOf(recipe), { form: 'crypt', name, method, rounds, of: recipe })));
            count += 1;
          }
        }
      }
    }
  }
  assert.equal(salts.size, count);
});
