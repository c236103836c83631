import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { inflateSync } from 'node:zlib';
import { Decrypter, Encrypter, generateX25519Identity, identityToRecipient, Stanza as AgeStanza } from 'age-encryption';
import * as vectors from 'cctv-age';
import fc from 'fast-check';
import { openAgeFile } from '../../src/age/file.ts';
import { encodeHeader, parseHeader } from '../../src/age/header.ts';
import { parseOpensshKey } from '../../src/age/openssh-key.ts';
import { sshEphemeralSecret, sshSharedSecret, sshStanza, sshUnwrapper } from '../../src/age/ssh-ed25519.ts';
import { decryptPayload } from '../../src/age/stream.ts';
import { x25519Unwrapper } from '../../src/age/x25519.ts';
import { Failure } from '../../src/failure.ts';

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');
const isFailure = (...codes: string[]) => (error: unknown): boolean => error instanceof Failure && codes.includes(error.code);

/** A vector: `key: value` lines, an empty line, then the file. */
function parseVector(bytes: Uint8Array): { fields: Map<string, string>; file: Uint8Array } {
  const end = Buffer.from(bytes).indexOf('\n\n');
  const fields = new Map(text(bytes.subarray(0, end)).split('\n').map((line): [string, string] => [line.slice(0, line.indexOf(': ')), line.slice(line.indexOf(': ') + 2)]));
  const body = bytes.subarray(end + 2);
  return { fields, file: fields.get('compressed') === 'zlib' ? new Uint8Array(inflateSync(body)) : body };
}

const all = Object.entries(vectors).map(([name, bytes]) => ({ name, ...parseVector(bytes) }));
const isArmored = ({ fields }: (typeof all)[number]): boolean => fields.get('armored') === 'yes';
const isPassphrase = ({ fields }: (typeof all)[number]): boolean => fields.has('passphrase');
const isHybrid = ({ fields }: (typeof all)[number]): boolean => fields.get('identity')?.startsWith('AGE-SECRET-KEY-PQ-') ?? false;
const ours = all.filter((vector) => !isArmored(vector) && !isPassphrase(vector) && !isHybrid(vector));

/** What the reader may say for each class of failure in the vectors. */
const codeOf: Readonly<Record<string, string>> = { 'header failure': 'malformed', 'HMAC failure': 'malformed', 'payload failure': 'malformed', 'no match': 'no-recipient' };

describe('age\'s own vectors (C2SP CCTV)', () => {
  test('none is left out without saying so: armor, passphrases and post-quantum keys have no place in seeds.age', () => {
    assert.equal(ours.length + all.filter((vector) => isArmored(vector) || isPassphrase(vector) || isHybrid(vector)).length, all.length);
    assert.ok(ours.length >= 50, String(ours.length));
  });

  for (const { name, fields, file } of ours)
    test(name, async () => {
      const expected = fields.get('expect') ?? '';
      const open = async () => await openAgeFile(file, fields.has('identity') ? [x25519Unwrapper(fields.get('identity') ?? '')] : []);
      if (expected === 'success') {
        const { plaintext } = await open();
        assert.equal(createHash('sha256').update(plaintext).digest('hex'), fields.get('payload'));
      } else {
        await assert.rejects(open, isFailure(codeOf[expected] ?? expected));
      }
    });

  test('every valid header encodes back to its own bytes', () => {
    let count = 0;
    for (const vector of all) {
      if (isArmored(vector) || vector.fields.get('expect') === 'header failure') continue;
      const header = parseHeader(vector.file);
      assert.equal(text(encodeHeader(header)), text(vector.file.subarray(0, header.length)), vector.name);
      count++;
    }
    assert.ok(count > 40);
  });

  test('every payload with a known file key decrypts, and no other does', () => {
    for (const { name, fields, file } of all.filter((vector) => !isArmored(vector) && vector.fields.has('file key') && ['success', 'payload failure'].includes(vector.fields.get('expect') ?? ''))) {
      const open = (): Uint8Array => decryptPayload(file.subarray(parseHeader(file).length), Buffer.from(fields.get('file key') ?? '', 'hex'));
      if (fields.get('expect') === 'success') assert.equal(createHash('sha256').update(open()).digest('hex'), fields.get('payload'), name);
      else assert.throws(open, isFailure('malformed'), name);
    }
  });
});

describe('with an ssh host key', () => {
  let folder = '';
  const key = (): ReturnType<typeof parseOpensshKey> => parseOpensshKey(readFileSync(join(folder, 'key')));
  const run = (command: string, args: readonly string[], input?: Uint8Array): Buffer => {
    const { status, stdout, stderr } = spawnSync(command, args, { input, cwd: folder });
    assert.equal(status, 0, stderr.toString());
    return stdout;
  };
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'age-'));
    for (const name of ['key', 'other']) run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'root@web1', '-f', name]);
    run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', 'passphrase', '-f', 'locked']);
    run('ssh-keygen', ['-q', '-t', 'ecdsa', '-N', '', '-f', 'ecdsa']);
  });
  after(() => { rmSync(folder, { recursive: true }); });

  test('the public half is the one that ssh-keygen derives', () => {
    const line = run('ssh-keygen', ['-y', '-f', 'key']).toString().split(' ')[1] ?? '';
    assert.equal(Buffer.from(line, 'base64').subarray(-32).toString('hex'), Buffer.from(key().publicKey).toString('hex'));
  });

  test('keys that are not usable are refused with the reason', () => {
    for (const [name, reason] of [['locked', /it has a passphrase/], ['ecdsa', /it is of type ecdsa/], ['key.pub', /it is not an OpenSSH private key/]] as const) {
      assert.throws(() => parseOpensshKey(readFileSync(join(folder, name))), (error) => isFailure('no-recipient')(error) && reason.test(String(error)), name);
    }
    const good = readFileSync(join(folder, 'key'), 'latin1').split('\n');
    fc.assert(fc.property(fc.nat(300), fc.base64String({ maxLength: 8 }), (at, noise) => {
      const body = good.slice(1, -2).join('');
      const damaged = [good[0], body.slice(0, at) + noise + body.slice(at + noise.length), ...good.slice(-2)].join('\n');
      try {
        parseOpensshKey(Buffer.from(damaged, 'latin1'));
      } catch (error) {
        assert.ok(error instanceof Failure, String(error));
      }
    }));
  });

  test('what the age program encrypts opens', async () => {
    for (const size of [0, 1, 65535, 65536, 65537, 131072, 200_000]) {
      const content = randomBytes(size);
      const file = run('age', ['-R', 'other.pub', '-R', 'key.pub'], content);
      const { plaintext, openedBy } = await openAgeFile(file, [sshUnwrapper(key())]);
      assert.ok(content.equals(plaintext), String(size));
      assert.equal(openedBy, 'ssh host key');
    }
  });

  test('what is wrapped here opens with the age program', async () => {
    const encrypter = new Encrypter();
    encrypter.addRecipient({ wrapFileKey: (fileKey) => { const { args, body } = sshStanza(key().publicKey, fileKey); return [new AgeStanza([...args], body)]; } });
    writeFileSync(join(folder, 'file.age'), await encrypter.encrypt('content'));
    assert.equal(run('age', ['-d', '-i', 'key', 'file.age']).toString(), 'content');
  });

  test('both sides of an agreement get the same secret, and other keys none', () => {
    const { tag, share, secret } = sshEphemeralSecret(key().publicKey);
    const stanza = { args: ['auxcred/tpm2+host', tag, share], body: new Uint8Array(0) };
    assert.deepEqual(sshSharedSecret(key(), stanza), secret);
    assert.equal(sshSharedSecret(parseOpensshKey(readFileSync(join(folder, 'other'))), stanza), undefined);
    assert.throws(() => sshSharedSecret(key(), { ...stanza, args: ['x', tag, Buffer.alloc(32).toString('base64').replace('=', '')] }), isFailure('malformed'));
  });

  test('a file for others is for others', async () => {
    const file = run('age', ['-R', 'other.pub'], Buffer.from('x'));
    await assert.rejects(openAgeFile(file, [sshUnwrapper(key())]), (error) => isFailure('no-recipient')(error) && /which is for ssh-ed25519/.test(String(error)));
  });

  test('no byte of a file can be changed, and no part of it is taken for the whole', async () => {
    const file = new Uint8Array(run('age', ['-R', 'key.pub'], Buffer.from('the seeds')));
    for (let i = 0; i < file.length; i++) {
      const changed = Uint8Array.from(file, (byte, at) => (at === i ? byte ^ 1 : byte));
      await assert.rejects(openAgeFile(changed, [sshUnwrapper(key())]), Failure, `byte ${String(i)}`);
      await assert.rejects(openAgeFile(file.subarray(0, i), [sshUnwrapper(key())]), Failure, `length ${String(i)}`);
    }
    await assert.rejects(openAgeFile(Buffer.concat([file, Buffer.alloc(1)]), [sshUnwrapper(key())]), isFailure('malformed'));
  });
});

describe('with an age identity', () => {
  test('what the age library encrypts opens, beside other recipients', async () => {
    const identity = await generateX25519Identity();
    const encrypter = new Encrypter();
    encrypter.addRecipient(await identityToRecipient(await generateX25519Identity()));
    encrypter.addRecipient(await identityToRecipient(identity));
    const file = await encrypter.encrypt('content');
    const { plaintext } = await openAgeFile(file, [x25519Unwrapper(`# made by age-keygen\n${identity}\n`)]);
    assert.equal(text(plaintext), 'content');
    const decrypter = new Decrypter();
    decrypter.addIdentity(identity);
    assert.equal(await decrypter.decrypt(file, 'text'), 'content');
  });

  test('a damaged identity is refused', () => {
    for (const identity of ['', 'AGE-SECRET-KEY-1', 'age-secret-key-1egtzvffv20835nwyv6270lxyvk2vknx2mmdkwyklmgr48uawx40q2p2lm0', 'AGE-SECRET-KEY-1EGTZVFFV20835NWYV6270LXYVK2VKNX2MMDKWYKLMGR48UAWX40Q2P2LM1']) assert.throws(() => x25519Unwrapper(identity), isFailure('no-recipient'), identity);
  });
});

test('no bytes make the reader throw anything but a Failure', async () => {
  const piece = fc.constantFrom('age-encryption.org/v1\n', '-> X25519 ', '-> ssh-ed25519 ', 'AAAA', '\n', '--- ', ' ', '=', '\r\n', 'TEiF0ypqr+bpvcqXNyCVJpL7OuwPdVwPL7KQEbFDOCc');
  await fc.assert(fc.asyncProperty(fc.array(fc.oneof(piece, fc.string()), { maxLength: 12 }), async (pieces) => {
    await assert.rejects(openAgeFile(Buffer.from(pieces.join(''), 'latin1'), []), Failure);
  }), { numRuns: 500 });
});

test('the reader works without a compiler, as the broker runs it', () => {
  const script = 'import { openAgeFile } from "./build/src/age/file.js"; import { x25519Unwrapper } from "./build/src/age/x25519.js"; import * as v from "cctv-age";' +
    'const bytes = v.x25519; const end = Buffer.from(bytes).indexOf("\\n\\n"); const identity = /identity: (.*)/.exec(Buffer.from(bytes).toString("latin1"))[1];' +
    'console.log((await openAgeFile(bytes.subarray(end + 2), [x25519Unwrapper(identity)])).openedBy)';
  const { stdout, stderr } = spawnSync(process.execPath, ['--jitless', '--input-type=module', '-e', script], { encoding: 'utf8' });
  assert.equal(stdout.trim(), 'age host key', stderr);
});
