/** The chain's bytes are those of docs/formats.md, as the second implementation computed them. */
import assert from 'node:assert/strict';
import { createPublicKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { auditKeys, isSigned, keyText, privateKeyOf, signerWith } from '../../src/audit/key.ts';
import { coveredBytes, recordHash } from '../../src/audit/record.ts';
import { hex, utf8 } from '../../src/bytes.ts';

interface Vector {
  readonly what: string;
  readonly seed: string;
  readonly before: string;
  readonly records: readonly Readonly<Record<string, string>>[];
  readonly publicKey: string;
  readonly keyId: string;
  readonly hashes: readonly string[];
  readonly signature: string;
}

const { chains }: { chains: readonly Vector[] } = JSON.parse(readFileSync('test/vectors/audit.json', 'utf8'));

for (const vector of chains)
  test(`${vector.what}: hashes, key and signature are those of the vectors`, () => {
    const key = privateKeyOf(Buffer.from(vector.seed, 'hex'));
    const signer = signerWith(key);
    let before: Uint8Array = Buffer.from(vector.before, 'hex');
    const hashes = vector.records.map((fields) => {
      before = recordHash(
        before,
        coveredBytes(new Map(Object.entries(fields).map(([name, value]) => [name, utf8(value)]))),
      );
      return hex(before);
    });
    assert.deepEqual(hashes, vector.hashes);
    assert.equal(signer.keyId, vector.keyId);
    assert.equal(keyText(auditKeys([createPublicKey(key)], [])), `${vector.publicKey}\n`);
    assert.equal(Buffer.from(signer.sign(before)).toString('base64'), vector.signature);
    assert.ok(isSigned(before, Buffer.from(vector.signature, 'base64'), createPublicKey(key)));
  });
