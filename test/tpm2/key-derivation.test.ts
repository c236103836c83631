import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createECDH, createPrivateKey, createPublicKey, diffieHellman, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { agreedSeed, keyOf } from '../../src/tpm2/duplicate.ts';
import { kdfa, kdfe } from '../../src/tpm2/key-derivation.ts';
import { hex } from './sealing.ts';

interface Vectors {
  readonly kdfa: readonly {
    name: string;
    key: string;
    label: string;
    contextU: string;
    contextV: string;
    bits: number;
    result: string;
  }[];
  readonly secretSharing: readonly {
    name: string;
    label: string;
    ephemeralPrivate: string;
    publicKey: string;
    secret: string;
    ciphertext: string;
  }[];
}
const vectors: Vectors = JSON.parse(readFileSync('test/vectors/tpm2.json', 'utf8'));

describe('published vectors', () => {
  const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'));
  for (const { name, key, label, contextU, contextV, bits, result } of vectors.kdfa)
    test(`KDFa ${name}`, () => {
      assert.equal(hex(kdfa(bytes(key), label, [bytes(contextU), bytes(contextV)], bits / 8)), result);
    });
  for (const { name, label, ephemeralPrivate, publicKey, secret: expected, ciphertext } of vectors.secretSharing)
    test(`secret sharing ${name} ${label}`, () => {
      const point = createECDH('prime256v1');
      point.setPrivateKey(bytes(ephemeralPrivate));
      const coordinates = point.getPublicKey().subarray(1);
      const part = (from: number): string => coordinates.subarray(from, from + 32).toString('base64url');
      const jwk = { kty: 'EC', crv: 'P-256', x: part(0), y: part(32) };
      const privateKey = createPrivateKey({
        format: 'jwk',
        key: { ...jwk, d: Buffer.from(bytes(ephemeralPrivate)).toString('base64url') },
      });
      const unique = [bytes(publicKey).slice(-66, -34), bytes(publicKey).slice(-32)];
      const theirs = keyOf({ unique });
      assert.equal(
        hex(
          kdfe(diffieHellman({ privateKey, publicKey: theirs }), label, [
            coordinates.subarray(0, 32),
            unique[0] ?? assert.fail(),
          ]),
        ),
        expected,
      );
      if (label !== 'DUPLICATE') return;
      const { seed, encryptedSeed } = agreedSeed({ unique }, theirs, {
        privateKey,
        publicKey: createPublicKey({ format: 'jwk', key: jwk }),
      });
      assert.equal(hex(seed), expected);
      assert.equal(hex(encryptedSeed.subarray(2)), ciphertext);
    });
});

describe("key derivation is OpenSSL's own", () => {
  const openssl = (length: number, kdf: string, ...options: readonly string[]): string => {
    const { status, stdout, stderr } = spawnSync('openssl', [
      'kdf',
      '-keylen',
      String(length),
      ...options.flatMap((option) => ['-kdfopt', option]),
      '-binary',
      kdf,
    ]);
    assert.equal(status, 0, stderr.toString());
    return stdout.toString('hex');
  };
  const bytes = (length: number): Uint8Array => new Uint8Array(randomBytes(length));

  test('KDFa: SP 800-108', () => {
    for (const length of [16, 32])
      for (const label of ['STORAGE', 'INTEGRITY', 'x'])
        for (const [u, v] of [
          [0, 0],
          [34, 0],
          [0, 16],
          [34, 34],
        ] as const) {
          const [key, left, right] = [bytes(32), bytes(u), bytes(v)];
          const context = hex(left) + hex(right);
          const told = openssl(
            length,
            'KBKDF',
            'mac:HMAC',
            'digest:SHA256',
            'mode:COUNTER',
            `hexkey:${hex(key)}`,
            `salt:${label}`,
            ...(context === '' ? [] : [`hexinfo:${context}`]),
          );
          assert.equal(hex(kdfa(key, label, [left, right], length)), told);
        }
    assert.throws(() => kdfa(bytes(32), 'STORAGE', [bytes(0), bytes(0)], 33), RangeError);
  });

  test('KDFe: SP 800-56A in one step', () => {
    for (let i = 0; i < 5; i++) {
      const [z, u, v] = [bytes(32), bytes(32), bytes(32)];
      assert.equal(
        hex(kdfe(z, 'DUPLICATE', [u, v])),
        openssl(
          32,
          'SSKDF',
          'digest:SHA256',
          `hexkey:${hex(z)}`,
          `hexinfo:${Buffer.from('DUPLICATE\0').toString('hex')}${hex(u)}${hex(v)}`,
        ),
      );
    }
  });
});
