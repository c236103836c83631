import assert from 'node:assert/strict';
import { createDecipheriv, createHash } from 'node:crypto';
import { test } from 'node:test';
import { Failure } from '../../src/failure.ts';
import { HostSecret } from '../../src/system/host-credential.ts';

/** Bytes that could be systemd's file: 16 of a machine, then 4096 of the key. */
const file = Uint8Array.from({ length: 4112 }, (_, i) => (i * 7) % 256);
const secret = new HostSecret(file);

test('an encrypted credential is byte for byte what systemd reads', () => {
  // systemd-creds decrypts what this code makes, on each version that is booted; this keeps it so.
  const sealed = secret.encryptWith('db-password', Buffer.from('correct horse'), {
    from: 1700000000000,
    until: 1700000060000,
    iv: Buffer.from('000102030405060708090a0b', 'hex'),
  });
  assert.equal(
    sealed.toString(),
    'Whxqht+dQJax1aZeCGLxmiAAAAABAAAADAAAABAAAAAAAQIDBAUGBwgJCgsAAAAANVUMSVTk9pkiPJHFGfNPtSVVapRnE/RF8kCyCJgUrGm7Vn9Of04cUVG5OVotdU6FUYNBXm2IEIMWyuEDcw==',
  );
});

test('its parts are where the format puts them, and it opens for its name and for a minute', () => {
  for (const [name, length] of [
    ['a', 0],
    ['abcd', 1],
    ['abcde', 131072],
    ['x'.repeat(255), 700_000],
  ] as const) {
    const value = Buffer.alloc(length, 'z');
    const before = Date.now();
    const answer = secret.encrypt(name, value, 60_000);
    const whole = Buffer.from(answer.toString(), 'base64');
    const decipher = createDecipheriv(
      'aes-256-gcm',
      createHash('sha256').update(file.subarray(16)).digest(),
      whole.subarray(32, 44),
      { authTagLength: 16 },
    );
    decipher.setAAD(whole.subarray(0, 48));
    decipher.setAuthTag(whole.subarray(-16));
    const plain = Buffer.concat([decipher.update(whole.subarray(48, -16)), decipher.final()]);
    const from = Number(plain.readBigUInt64LE(0));
    assert.ok(from >= before * 1000 && from <= Date.now() * 1000);
    assert.equal(Number(plain.readBigUInt64LE(8)) - from, 60_000_000);
    assert.equal(plain.subarray(20, 20 + plain.readUInt32LE(16)).toString(), name);
    assert.ok(plain.subarray(Math.ceil((20 + name.length) / 8) * 8).equals(value));
  }
});

test('no two of them are alike', () => {
  assert.equal(
    new Set(Array.from({ length: 100 }, () => secret.encrypt('a', Buffer.from('x'), 60_000).toString())).size,
    100,
  );
});

test('an invalid host secret is refused, and the hint says how systemd makes one', () => {
  for (const bytes of ['missing', '', 'x'.repeat(4096), 'x'.repeat(4113)]) {
    assert.throws(
      () => new HostSecret(Buffer.from(bytes)),
      (error) =>
        error instanceof Failure &&
        /host secret is missing: \/var\/lib\/systemd\/credential\.secret/.test(error.message),
    );
  }
});
