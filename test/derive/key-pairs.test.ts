/** Key pairs, checked by the programs that use them. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, test } from 'node:test';
import type { KindOptions } from '../../src/derive/kind.ts';
import { derivePublic, deriveSecret } from '../../src/derive/secret.ts';
import { Folder } from './folder.ts';
import { bytes, text } from './vectors.ts';

const seed = bytes(`${'00'.repeat(31)}2a`);
let folder: Folder;
before(() => {
  folder = new Folder();
});
after(() => {
  folder.remove();
});

interface Pair {
  readonly secret: string;
  readonly half: string;
}

function pairOf(options: KindOptions, name: string): Pair {
  const derivation = { name, options, period: '', generation: 1 };
  const half = derivePublic(seed, derivation);
  assert.ok(half);
  return { secret: text(deriveSecret(seed, derivation)), half: text(half) };
}

const names = ['a', 'b', 'c', 'd', 'e', 'f'];
const comments = ['a', 'root@web1', 'a comment with spaces', 'x'.repeat(200), '"\'$`\\#'];

test('ssh-keygen reads an ssh key and gives the same public half, comment and fingerprint', () => {
  for (const comment of [...comments, ...Array.from({ length: 8 }, (_, i) => 'c'.repeat(i + 1))]) {
    const { secret, half } = pairOf({ kind: 'ssh-ed25519', comment }, 'login');
    const file = folder.write('ssh', secret);
    folder.write('ssh.pub', `${half}\n`);
    assert.equal(folder.run('ssh-keygen', ['-y', '-P', '', '-f', file]).toString(), `${half}\n`);
    const [, blob = ''] = half.split(' ');
    const fingerprint = createHash('sha256').update(Buffer.from(blob, 'base64')).digest('base64').replaceAll('=', '');
    const shown = `256 SHA256:${fingerprint} ${comment === '' ? 'no comment' : comment} (ED25519)\n`;
    for (const path of [file, 'ssh.pub']) assert.equal(folder.run('ssh-keygen', ['-l', '-f', path]).toString(), shown);
  }
});

test('ssh-keygen verifies with the public half what it signed with the private one', () => {
  for (const name of names) {
    const { secret, half } = pairOf({ kind: 'ssh-ed25519', comment: name }, name);
    const file = folder.write('signer', secret);
    folder.write('allowed', `${name} ${half}\n`);
    folder.write('signature', folder.run('ssh-keygen', ['-Y', 'sign', '-q', '-n', 'file', '-f', file], 'message'));
    folder.run('ssh-keygen', ['-Y', 'verify', '-n', 'file', '-I', name, '-f', 'allowed', '-s', 'signature'], 'message');
  }
});

test('ssh-keygen writes the same private key where it changes only the comment', () => {
  const { secret } = pairOf({ kind: 'ssh-ed25519', comment: 'one' }, 'login');
  const file = folder.write('commented', secret);
  folder.run('ssh-keygen', ['-c', '-C', 'two', '-P', '', '-f', file]);
  const public_ = folder.run('ssh-keygen', ['-y', '-P', '', '-f', file]).toString();
  assert.equal(public_, `${pairOf({ kind: 'ssh-ed25519', comment: 'two' }, 'login').half}\n`);
});

test('wg reads a WireGuard key and gives the same public half, and takes preshared keys', () => {
  for (const name of names) {
    const { secret, half } = pairOf({ kind: 'wireguard' }, name);
    assert.equal(folder.run('wg', ['pubkey'], secret).toString(), `${half}\n`);
    // It checks the form of a key before it computes the public one.
    folder.run(
      'wg',
      ['pubkey'],
      deriveSecret(seed, { name, options: { kind: 'wireguard-psk' }, period: '', generation: 1 }),
    );
  }
});

test('age-keygen reads an age identity and gives the same recipient, and age opens what it encrypted to that', () => {
  for (const name of names) {
    const { secret, half } = pairOf({ kind: 'age' }, name);
    const file = folder.write('identity', secret);
    assert.equal(folder.run('age-keygen', ['-y', file]).toString(), `${half}\n`);
    const encrypted = folder.run('age', ['--encrypt', '--recipient', half], `for ${name}`);
    assert.equal(folder.run('age', ['--decrypt', '--identity', file], encrypted).toString(), `for ${name}`);
  }
});

test('openssl reads PEM keys, writes them as they are, and gives the same public half', () => {
  for (const kind of ['ed25519', 'x25519', 'ec-p256'] as const) {
    for (const name of names) {
      const { secret, half } = pairOf({ kind }, name);
      assert.equal(folder.run('openssl', ['pkey'], secret).toString(), secret);
      assert.equal(folder.run('openssl', ['pkey', '-pubout'], secret).toString(), half);
      assert.equal(folder.run('openssl', ['pkey', '-pubin'], half).toString(), half);
      if (kind === 'ec-p256') {
        assert.match(folder.run('openssl', ['pkey', '-check', '-noout'], secret).toString(), /valid/);
        assert.match(folder.run('openssl', ['pkey', '-pubin', '-pubcheck', '-noout'], half).toString(), /valid/);
      }
    }
  }
});

test('openssl verifies with the public half what it signed with the private one, and agrees on a shared secret', () => {
  folder.write('message', 'message');
  for (const [kind, raw] of [
    ['ed25519', ['-rawin']],
    ['ec-p256', ['-rawin', '-digest', 'sha256']],
  ] as const) {
    const { secret, half } = pairOf({ kind }, 'sign');
    folder.write('private.pem', secret);
    folder.write('public.pem', half);
    folder.write(
      'signature.bin',
      folder.run('openssl', ['pkeyutl', '-sign', '-inkey', 'private.pem', '-in', 'message', ...raw]),
    );
    folder.run('openssl', [
      'pkeyutl',
      '-verify',
      '-pubin',
      '-inkey',
      'public.pem',
      '-in',
      'message',
      '-sigfile',
      'signature.bin',
      ...raw,
    ]);
  }
  const [one, other] = [pairOf({ kind: 'x25519' }, 'one'), pairOf({ kind: 'x25519' }, 'other')];
  const agreed = (mine: Pair, theirs: Pair): string => {
    folder.write('mine.pem', mine.secret);
    folder.write('theirs.pem', theirs.half);
    return folder
      .run('openssl', ['pkeyutl', '-derive', '-inkey', 'mine.pem', '-peerkey', 'theirs.pem'])
      .toString('hex');
  };
  assert.equal(agreed(one, other), agreed(other, one));
});
