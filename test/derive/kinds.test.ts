import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { drawKey } from '../../src/derive/key-pair.ts';
import { classOf, isKeyKind, keyKinds, kindNames } from '../../src/derive/kind.ts';
import { realmDigest } from '../../src/derive/recipe.ts';
import { derivePublic, deriveSecret, realmOf } from '../../src/derive/secret.ts';
import { KeyStream } from '../../src/derive/stream.ts';
import { leafKey } from '../../src/derive/tree.ts';
import { wordAt, wordCount } from '../../src/derive/words.ts';
import { manifestOf } from '../../src/manifest/manifest.ts';
import { Recipes } from '../../src/manifest/recipes.ts';
import { options, passphrases, passwords, seeds } from './arbitraries.ts';
import { bytes, derivationVectors, hex, kindVectors, spelt, text, wordVectors } from './vectors.ts';

const seed = bytes(`${'00'.repeat(31)}2a`);
const once = { name: 'a', period: '', generation: 1 };

test('secrets are those of the first published vectors', () => {
  assert.ok(derivationVectors.secrets.length > 100);
  for (const vector of derivationVectors.secrets) {
    assert.equal(realmOf(vector).params, vector.realm.params);
    assert.equal(hex(leafKey(bytes(vector.seed), realmOf(vector))), vector.leaf);
    assert.equal(hex(deriveSecret(bytes(vector.seed), vector)), vector.value, JSON.stringify(vector.options));
  }
});

test("every kind's private and public halves are those of the published vectors", () => {
  for (const vector of kindVectors.secrets) {
    const { scope, epoch, name, options: shape, period, generation } = vector;
    const what = JSON.stringify({ name, shape, period, generation });
    assert.equal(realmOf(vector).params, vector.params, what);
    assert.equal(hex(leafKey(bytes(vector.seed), realmOf(vector))), vector.leaf, what);
    assert.equal(
      hex(realmDigest({ form: 'derived', scope, epoch, name, options: shape, period, generation })),
      vector.realmDigest,
      what,
    );
    const value = deriveSecret(bytes(vector.seed), vector);
    if (vector.hex === undefined) assert.equal(text(value), vector.text, what);
    else assert.equal(hex(value), vector.hex, what);
    const half = derivePublic(bytes(vector.seed), vector);
    assert.equal(half && text(half), vector.public, what);
  }
});

test('the published vectors have every kind, and draws that were thrown away', () => {
  const published = kindVectors.secrets.map((vector) => vector.options.kind);
  for (const kind of kindNames) assert.ok(published.filter((other) => other === kind).length >= 7, kind);
  for (const kind of ['password', 'passphrase'])
    assert.ok(kindVectors.secrets.some((vector) => vector.options.kind === kind && (vector.thrownAway ?? 0) > 1));
});

test('bad inputs of the published vectors are refused', () => {
  assert.ok(kindVectors.invalid.length > 0);
  for (const { what, seed: scope, name, options: shape, period, generation, error } of kindVectors.invalid) {
    const known = shape.kind === 'passphrase' ? { ...shape, separator: spelt(shape.separator) } : shape;
    const derivation = { name: spelt(name), options: known, period: spelt(period), generation };
    assert.throws(() => deriveSecret(bytes(scope), derivation), { name: error }, what);
    if (isKeyKind(known.kind)) assert.throws(() => derivePublic(bytes(scope), derivation), { name: error }, what);
  }
});

test('an option at its default leaves params as they were when its kind was published, so that no secret changes', () => {
  assert.deepEqual(
    kindVectors.defaults.map(({ kind }) => kind),
    [...kindNames],
  );
  for (const { kind, name, host, seed: scope, ...expected } of kindVectors.defaults) {
    const declarations = manifestOf([
      { path: 'x.json', text: JSON.stringify({ secret: { [name]: { kind, units: ['a.service'] } } }) },
    ]).declarations;
    const recipe = new Recipes(declarations, {
      host: `host/${host}`,
      epochs: new Map([[`host/${host}`, 1]]),
      at: new Date(0),
      fixed: () => assert.fail(),
    }).of(name);
    assert.ok(recipe.form === 'derived');
    assert.deepEqual(
      recipe.options,
      expected.options,
      `${kind}: an option that it gets later is absent at its default (docs/formats.md, Realm)`,
    );
    assert.equal(realmOf(recipe).params, expected.params, kind);
    assert.equal(hex(deriveSecret(bytes(scope), recipe)), expected.value, kind);
  }
});

test('only key pairs have a public half', () => {
  fc.assert(
    fc.property(options, (shape) => {
      assert.equal(derivePublic(seed, { ...once, options: shape }) !== undefined, isKeyKind(shape.kind));
    }),
    { numRuns: 50 },
  );
});

test('deriving changes neither the seed nor an earlier result', () => {
  fc.assert(
    fc.property(seeds, options, (scope, shape) => {
      const given = Uint8Array.from(scope);
      const [first, second] = [
        deriveSecret(given, { ...once, options: shape }),
        deriveSecret(given, { ...once, options: shape }),
      ];
      assert.deepEqual(given, scope);
      assert.deepEqual(first, second);
      assert.ok(first.some((byte) => byte !== 0) || first.length < 16);
    }),
    { numRuns: 50 },
  );
});

test('every password has its length, its alphabet and its required classes', () => {
  fc.assert(
    fc.property(seeds, passwords, (scope, wanted) => {
      const value = deriveSecret(scope, { ...once, options: wanted });
      assert.equal(value.length, wanted.length);
      assert.ok([...text(value)].every((character) => wanted.alphabet.includes(character)));
      for (const required of wanted.require) assert.ok(value.some((code) => classOf(code) === required));
    }),
    { numRuns: 300 },
  );
});

test('every passphrase has its words between its separators', () => {
  const words = new Set(Array.from({ length: wordCount }, (_, i) => wordAt(i)));
  const capitals = new Set([...words].map((word) => `${word.charAt(0).toUpperCase()}${word.slice(1)}`));
  fc.assert(
    fc.property(seeds, passphrases, (scope, wanted) => {
      const value = text(deriveSecret(scope, { ...once, options: wanted }));
      // No word begins with another one, so a phrase can be read in at most one way, whatever separates its words.
      let rest = value;
      for (let i = 0; i < wanted.words; i++) {
        if (i > 0) assert.ok(rest.startsWith(wanted.separator));
        if (i > 0) rest = rest.slice(wanted.separator.length);
        const word = [3, 4, 5, 6, 7, 8, 9]
          .map((length) => rest.slice(0, length))
          .find((start) => (wanted.capitalize ? capitals : words).has(start));
        assert.ok(word !== undefined, `${value} at ${rest}`);
        rest = rest.slice(word.length);
      }
      assert.equal(rest, '');
    }),
  );
});

test("the list of words is the EFF's, as it is published", () => {
  const { words, sha256 } = wordVectors.lists.find(({ list }) => list === 'eff') ?? assert.fail();
  const dice = (index: number): string =>
    index
      .toString(6)
      .padStart(5, '0')
      .replaceAll(/\d/g, (digit) => String(Number(digit) + 1));
  const file = Array.from({ length: wordCount }, (_, i) => `${dice(i)}\t${wordAt(i)}\n`).join('');
  assert.deepEqual([wordCount, createHash('sha256').update(file).digest('hex')], [words, sha256]);
});

test('capitals and separators give the same kind of words, but other secrets', () => {
  const phrase = (separator: string, capitalize: boolean): string =>
    text(deriveSecret(seed, { ...once, options: { kind: 'passphrase', words: 6, separator, capitalize } }));
  assert.notEqual(phrase('-', true).toLowerCase(), phrase('-', false));
  assert.notEqual(phrase('_', false).replaceAll('_', '-'), phrase('-', false));
});

test('a longer secret of the same name does not begin with the shorter one', () => {
  for (const kind of ['hex', 'bytes', 'base64'] as const) {
    const [short, long] = [32, 48].map((length) =>
      hex(deriveSecret(seed, { ...once, options: { kind, bytes: length } })),
    );
    assert.ok(short !== undefined && long !== undefined && !long.startsWith(short.slice(0, 16)));
  }
});

test('uuids are version 4 of RFC 9562', () => {
  fc.assert(
    fc.property(seeds, (scope) => {
      assert.match(
        text(deriveSecret(scope, { ...once, options: { kind: 'uuid' } })),
        /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
      );
    }),
  );
});

test('base64 is that of RFC 4648, and hex lower case', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 200 }), (length) => {
      const value = text(deriveSecret(seed, { ...once, options: { kind: 'base64', bytes: length } }));
      assert.equal(Buffer.from(value, 'base64').toString('base64'), value);
      assert.equal(Buffer.from(value, 'base64').length, length);
      assert.match(
        text(deriveSecret(seed, { ...once, options: { kind: 'hex', bytes: length } })),
        new RegExp(`^[0-9a-f]{${String(2 * length)}}$`),
      );
    }),
  );
});

test("an ssh key's comment says whose key it is, and changes nothing else of it", () => {
  const [one, other] = ['', 'root@web1'].map((comment) =>
    text(derivePublic(seed, { ...once, options: { kind: 'ssh-ed25519', comment } }) ?? new Uint8Array(0)),
  );
  assert.equal(other, `${String(one)} root@web1`);
});

/** A stream with chosen bytes, since a P-256 key is rarely out of range. */
class ChosenStream extends KeyStream {
  readonly #keys: readonly string[];
  #next = 0;
  constructor(keys: readonly string[]) {
    super(new Uint8Array(32));
    this.#keys = keys;
  }

  override bytes(length: number): Uint8Array {
    const key = bytes(this.#keys[this.#next++] ?? '');
    assert.equal(key.length, length);
    return key;
  }
}

test("a P-256 key is redrawn until it lies between 0 and the curve's order", () => {
  const order = 'ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551';
  const outside = ['00'.repeat(32), order, `${order.slice(0, -1)}2`, 'ff'.repeat(32)];
  const inside = [
    `${'00'.repeat(31)}01`,
    `${order.slice(0, -1)}0`,
    `ffffffff00000000fffffffffffffffe${'ff'.repeat(16)}`,
  ];
  for (const key of inside) {
    assert.equal(hex(drawKey(new ChosenStream([key, 'aa'.repeat(32)]), 'ec-p256')), key);
    assert.equal(hex(drawKey(new ChosenStream([...outside, key]), 'ec-p256')), key);
  }
});

test('keys of Curve25519 are clamped where their programs keep them so', () => {
  for (const kind of keyKinds) {
    const key = drawKey(new ChosenStream(['ff'.repeat(32), 'aa'.repeat(32)]), kind);
    const wanted =
      kind === 'wireguard' || kind === 'x25519'
        ? `f8${'ff'.repeat(30)}7f`
        : kind === 'ec-p256'
          ? 'aa'.repeat(32)
          : 'ff'.repeat(32);
    assert.equal(hex(key), wanted, kind);
  }
});
