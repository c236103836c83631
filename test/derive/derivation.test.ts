import assert from 'node:assert/strict';
import { createCipheriv, createHmac, hkdfSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { concat, framed, u32be } from '../../src/derive/framing.ts';
import { classOf, type KindOptions } from '../../src/derive/kind.ts';
import { deriveSecret, realmOf, type Recipe } from '../../src/derive/secret.ts';
import { KeyStream } from '../../src/derive/stream.ts';
import { keyId, leafKey, scopeSeed, type ScopeKind, stateKey } from '../../src/derive/tree.ts';

interface Vectors {
  scopes: { parent: string; kind: ScopeKind; name: string; epoch: number; seed: string; keyId: string; stateKey: string }[];
  secrets: { seed: string; name: string; options: KindOptions; period: string; generation: number; realm: { params: string }; leaf: string; value: string }[];
  invalid: { what: string; scope: { parent: string; kind: ScopeKind; name?: string; nameLength?: number; epoch: number }; error: string }[];
}

const vectors: Vectors = JSON.parse(readFileSync('test/vectors/derivation.json', 'utf8'));
const bytes = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, 'hex'));
const hex = (value: Uint8Array): string => Buffer.from(value).toString('hex');
const text = (value: Uint8Array): string => Buffer.from(value).toString('utf8');
const seed = bytes('00'.repeat(31) + '2a');
const alnum = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

test('scope seeds, key ids and state keys are those of the published vectors', () => {
  assert.ok(vectors.scopes.length > 0);
  for (const vector of vectors.scopes) {
    const scope = scopeSeed(bytes(vector.parent), vector.kind, vector.name, vector.epoch);
    assert.equal(hex(scope), vector.seed);
    assert.equal(hex(keyId(scope)), vector.keyId);
    assert.equal(hex(stateKey(scope)), vector.stateKey);
  }
});

test('secrets are those of the published vectors', () => {
  assert.ok(vectors.secrets.length > 100);
  for (const vector of vectors.secrets) {
    assert.equal(realmOf(vector).params, vector.realm.params);
    assert.equal(hex(leafKey(bytes(vector.seed), realmOf(vector))), vector.leaf);
    assert.equal(hex(deriveSecret(bytes(vector.seed), vector)), vector.value, JSON.stringify(vector.options));
  }
});

test('invalid inputs of the published vectors are refused', () => {
  for (const { what, scope, error } of vectors.invalid) {
    assert.throws(() => scopeSeed(bytes(scope.parent), scope.kind, scope.name ?? 'n'.repeat(scope.nameLength ?? 0), scope.epoch), { name: error }, what);
  }
});

test('HKDF is that of RFC 5869 as OpenSSL computes it', () => {
  fc.assert(fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), fc.string(), fc.nat(0xffffffff), (parent, name, epoch) => {
    const expected = hkdfSync('sha256', parent, 'auxcred/v1/node', concat(framed('host'), framed(name), u32be(epoch)), 32);
    assert.equal(hex(scopeSeed(parent, 'host', name, epoch)), hex(new Uint8Array(expected)));
  }));
});

test('the stream is the ChaCha20 keystream as OpenSSL computes it', () => {
  fc.assert(fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), fc.integer({ min: 1, max: 5000 }), (key, length) => {
    const expected = createCipheriv('chacha20', key, new Uint8Array(16)).update(new Uint8Array(length));
    assert.equal(hex(new KeyStream(Uint8Array.from(key)).bytes(length)), hex(expected));
  }), { numRuns: 50 });
});

test('framing never maps two lists of fields to the same bytes', () => {
  const fields = fc.array(fc.string({ maxLength: 4 }), { maxLength: 4 });
  fc.assert(fc.property(fields, fields, (a, b) => {
    const same = JSON.stringify(a) === JSON.stringify(b);
    assert.equal(hex(concat(...a.map(framed))) === hex(concat(...b.map(framed))), same);
  }));
});

const options: fc.Arbitrary<KindOptions> = fc.oneof(
  fc.record({ kind: fc.constant('password' as const), length: fc.integer({ min: 4, max: 64 }), alphabet: fc.constantFrom(alnum, 'ab01', 'AZaz09!#'), require: fc.constantFrom([], ['lower'] as const, ['digit', 'lower'] as const) }),
  fc.record({ kind: fc.constantFrom('hex' as const, 'base64' as const, 'bytes' as const), bytes: fc.integer({ min: 16, max: 64 }) }),
  fc.constant({ kind: 'uuid' as const }),
);
const recipes: fc.Arbitrary<Recipe> = fc.record({ name: fc.constantFrom('a', 'b', 'a/b', 'a_b'), options, period: fc.constantFrom('', '2026', '2026-11'), generation: fc.integer({ min: 1, max: 3 }) });

test('two recipes that differ in anything share no leaf key', () => {
  fc.assert(fc.property(recipes, recipes, (a, b) => {
    const same = JSON.stringify(realmOf(a)) === JSON.stringify(realmOf(b));
    assert.equal(hex(leafKey(seed, realmOf(a))) === hex(leafKey(seed, realmOf(b))), same);
  }), { numRuns: 500 });
});

test('every password has its length, its alphabet and its required classes', () => {
  fc.assert(fc.property(recipes, fc.uint8Array({ minLength: 32, maxLength: 32 }), (recipe, scope) => {
    const { options: wanted } = recipe;
    if (wanted.kind !== 'password') return;
    const value = deriveSecret(scope, recipe);
    assert.equal(value.length, wanted.length);
    assert.ok([...text(value)].every((character) => wanted.alphabet.includes(character)));
    for (const required of wanted.require) assert.ok(value.some((code) => classOf(code) === required));
  }));
});

test('a longer secret of the same name does not begin with the shorter one', () => {
  for (const kind of ['hex', 'bytes', 'base64'] as const) {
    const [short, long] = [32, 48].map((length) => hex(deriveSecret(seed, { name: 'a', options: { kind, bytes: length }, period: '', generation: 1 })));
    assert.ok(short !== undefined && long !== undefined && !long.startsWith(short.slice(0, 16)));
  }
});

test('every character of an alphabet is equally likely', () => {
  const counts = new Map<number, number>();
  const draws = 62 * 2000;
  for (const code of deriveSecret(seed, { name: 'flat', options: { kind: 'password', length: draws, alphabet: alnum, require: [] }, period: '', generation: 1 })) counts.set(code, (counts.get(code) ?? 0) + 1);
  const chiSquare = [...alnum].reduce((sum, character) => sum + ((counts.get(character.charCodeAt(0)) ?? 0) - 2000) ** 2 / 2000, 0);
  assert.ok(chiSquare < 112.7, `chi square ${String(chiSquare)} of 61 degrees of freedom is beyond the 99.99th percentile`);
});

test('uuids are version 4 of RFC 9562', () => {
  const value = text(deriveSecret(seed, { name: 'id', options: { kind: 'uuid' }, period: '', generation: 1 }));
  assert.match(value, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});

test('base64 is that of RFC 4648', () => {
  fc.assert(fc.property(fc.integer({ min: 1, max: 200 }), (length) => {
    const value = text(deriveSecret(seed, { name: 'b', options: { kind: 'base64', bytes: length }, period: '', generation: 1 }));
    assert.equal(Buffer.from(value, 'base64').toString('base64'), value);
    assert.equal(Buffer.from(value, 'base64').length, length);
  }));
});

test('HMAC keys of two purposes differ', () => {
  const key = stateKey(seed);
  assert.notEqual(hex(key), hex(keyId(seed)));
  assert.equal(createHmac('sha256', key).digest().length, 32);
});
