import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { hkdf } from '@noble/hashes/hkdf.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { utf8ToBytes } from '@noble/hashes/utils.js';
import fc from 'fast-check';
import { concat, framed, u32be } from '../../src/bytes.ts';
import { type KindOptions, keyKinds } from '../../src/derive/kind.ts';
import { deriveSecret, realmOf } from '../../src/derive/secret.ts';
import { keyId, leafKey, releaseFingerprintKey, scopeSeed, stateKey } from '../../src/derive/tree.ts';
import { seeds } from './arbitraries.ts';
import { bytes, derivationVectors, hex } from './vectors.ts';

test('scope seeds, key ids and the keys of snapshots and releases are those of the published vectors', () => {
  assert.ok(derivationVectors.scopes.length > 0);
  for (const vector of derivationVectors.scopes) {
    const scope = scopeSeed(bytes(vector.parent), vector.kind, vector.name, vector.epoch);
    assert.equal(hex(scope), vector.seed);
    assert.equal(hex(keyId(scope)), vector.keyId);
    assert.equal(hex(stateKey(scope)), vector.stateKey);
    assert.equal(hex(releaseFingerprintKey(scope)), vector.releaseKey);
  }
});

test("scopes of the published vectors that can't be are refused", () => {
  assert.ok(derivationVectors.invalid.length > 0);
  for (const { what, scope, error } of derivationVectors.invalid) {
    assert.throws(
      () => scopeSeed(bytes(scope.parent), scope.kind, scope.name ?? 'n'.repeat(scope.nameLength ?? 0), scope.epoch),
      { name: error },
      what,
    );
  }
});

test('HKDF is that of RFC 5869 as another library computes it', () => {
  const texts = fc.oneof(fc.constantFrom('bytes=32\n', 'x'.repeat(5000)), fc.string());
  fc.assert(
    fc.property(seeds, fc.string({ unit: 'binary' }), fc.nat(0xffffffff), texts, (parent, name, epoch, params) => {
      const judged = (salt: string, info: Uint8Array, length: number): string =>
        hex(hkdf(sha256, parent, utf8ToBytes(salt), info, length));
      assert.equal(
        hex(scopeSeed(parent, 'host', name, epoch)),
        judged('auxcred/v1/node', concat(framed('host'), framed(name), u32be(epoch)), 32),
      );
      assert.equal(
        hex(leafKey(parent, { type: 'hex', name, period: '2026', generation: epoch, params })),
        judged(
          'auxcred/v1/leaf',
          concat(framed('hex'), framed(name), framed('2026'), u32be(epoch), framed(params)),
          32,
        ),
      );
      assert.equal(hex(keyId(parent)), judged('auxcred/v1/id', new Uint8Array(0), 16));
      assert.equal(hex(stateKey(parent)), judged('auxcred/v1/state', new Uint8Array(0), 32));
    }),
  );
});

test('framing never maps two lists of fields to the same bytes', () => {
  const fields = fc.array(fc.string({ maxLength: 4 }), { maxLength: 4 });
  fc.assert(
    fc.property(fields, fields, (a, b) => {
      const same = JSON.stringify(a) === JSON.stringify(b);
      assert.equal(hex(concat(...a.map(framed))) === hex(concat(...b.map(framed))), same);
    }),
  );
});

describe('what a host holds', () => {
  const fleet = bytes('f1'.repeat(32));
  const kinds: readonly KindOptions[] = [
    { kind: 'bytes', bytes: 32 },
    { kind: 'bytes', bytes: 16 },
    { kind: 'hex', bytes: 32 },
    { kind: 'base64', bytes: 32 },
    { kind: 'wireguard-psk' },
    { kind: 'uuid' },
    { kind: 'password', length: 32, alphabet: '0123456789abcdef', require: [] },
    { kind: 'passphrase', words: 6, separator: '-', capitalize: false },
    ...keyKinds.map((kind) => (kind === 'ssh-ed25519' ? { kind, comment: '' } : { kind })),
  ];
  const scopes = [
    ['host', 'web1'],
    ['host', 'web2'],
    ['group', 'db'],
    ['group', 'cache'],
  ] as const;
  const names = ['', 'host', 'group', 'web2', 'cache', 'host/web2', 'group/cache'];

  /** A seed, the seeds below it, and everything that `depth` steps of any derivation make from them. */
  function* reachable(seed: Uint8Array, depth: number): Generator<string> {
    yield hex(seed);
    yield hex(keyId(seed));
    yield hex(stateKey(seed));
    for (const name of names) {
      for (const number of [1, 2]) {
        for (const options of kinds) {
          const derivation = { name, options, period: '', generation: number };
          yield hex(leafKey(seed, realmOf(derivation)));
          if (options.kind === 'bytes') yield hex(deriveSecret(seed, derivation));
        }
      }
    }
    if (depth === 0) return;
    const below = [stateKey(seed), leafKey(seed, { type: 'bytes', name: '', period: '', generation: 1, params: '' })];
    for (const next of below) yield* reachable(next, depth - 1);
    for (const [kind, name] of scopes)
      for (const epoch of [1, 2]) yield* reachable(scopeSeed(seed, kind, name, epoch), depth - 1);
  }

  const others = [
    scopeSeed(fleet, 'host', 'web1', 2),
    scopeSeed(fleet, 'host', 'web2', 1),
    scopeSeed(fleet, 'host', 'web2', 2),
    scopeSeed(fleet, 'group', 'db', 2),
    scopeSeed(fleet, 'group', 'cache', 1),
  ];
  const foreign = new Set(
    others.flatMap((seed) => [...reachable(seed, 0)]).concat(hex(fleet), hex(keyId(fleet)), hex(stateKey(fleet))),
  );

  test('leads to the fleet seed, another scope or another epoch by no derivation', () => {
    const own = [scopeSeed(fleet, 'host', 'web1', 1), scopeSeed(fleet, 'group', 'db', 1)];
    for (const found of own.flatMap((seed) => [...reachable(seed, 1)])) assert.ok(!foreign.has(found));
  });

  test('is less than the fleet seed, which leads to all of them', () => {
    const found = new Set(reachable(fleet, 1));
    for (const key of foreign) assert.ok(found.has(key));
  });
});
