import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import {
  Decrypter,
  Encrypter,
  generateHybridIdentity,
  generateX25519Identity,
  identityToRecipient,
} from 'age-encryption';
import { parseHeader } from '../../src/age/header.ts';
import { decryptWith, encryptTo, type Identities } from '../../src/age/identities.ts';
import { isFailure } from './expect.ts';

let folder = '';
const at = (path: string): string => join(folder, path);
const content = Buffer.from('a seed');
const keys = (...identities: readonly string[]): Identities => ({
  identities: identities.map(at),
  passphrase: () => Promise.resolve('wrong'),
});
/** A file, what opens it and what does not. */
const kinds = new Map<string, { readonly file: Uint8Array; readonly right: Identities; readonly wrong: Identities }>();

async function ageKey(name: string, identity: Promise<string>): Promise<string> {
  writeFileSync(at(name), `${await identity}\n`);
  return await identityToRecipient(await identity);
}
function sshKey(name: string): string {
  assert.equal(spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', at(name)]).status, 0);
  return readFileSync(at(`${name}.pub`), 'utf8').trim();
}

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'identities-'));
  const [x25519, hybrid, ssh] = [
    await ageKey('x25519', generateX25519Identity()),
    await ageKey('hybrid', generateHybridIdentity()),
    sshKey('ssh'),
  ];
  await ageKey('other', generateX25519Identity());
  await ageKey('other-hybrid', generateHybridIdentity());
  sshKey('other-ssh');
  const encrypted = async (set: (encrypter: Encrypter) => void): Promise<Uint8Array> => {
    const encrypter = new Encrypter();
    encrypter.setScryptWorkFactor(10);
    set(encrypter);
    return await encrypter.encrypt(content);
  };
  kinds.set('an age identity', {
    file: await encryptTo({ recipients: [x25519] }, content),
    right: keys('other', 'x25519'),
    wrong: keys('other', 'ssh'),
  });
  kinds.set('a post-quantum one', {
    file: await encrypted((encrypter) => {
      encrypter.addRecipient(hybrid);
    }),
    right: keys('hybrid'),
    wrong: keys('other-hybrid'),
  });
  kinds.set('an ssh key', {
    file: await encryptTo({ recipients: [ssh] }, content),
    right: keys('ssh'),
    wrong: keys('other-ssh'),
  });
  kinds.set('a passphrase', {
    file: await encrypted((encrypter) => {
      encrypter.setPassphrase('right');
    }),
    right: { identities: [], passphrase: () => Promise.resolve('right') },
    wrong: keys(),
  });
});
after(() => {
  rmSync(folder, { recursive: true });
});

test('the age library opens what is encrypted to a passphrase, whose work factor is that of age', async () => {
  const file = await encryptTo({ passphrase: 'correct horse' }, content);
  assert.deepEqual(
    parseHeader(file).stanzas.map(({ args }) => [args[0], args[2]]),
    [['scrypt', '18']],
  );
  const decrypter = new Decrypter();
  decrypter.addPassphrase('correct horse');
  assert.ok(content.equals(await decrypter.decrypt(file)));
});

describe('a file for', () => {
  for (const kind of ['an age identity', 'a post-quantum one', 'an ssh key', 'a passphrase'])
    test(`${kind}: a wrong key and damage are told apart`, async () => {
      const { file, right, wrong } = kinds.get(kind) ?? assert.fail(kind);
      const open = async (identities: Identities, bytes: Uint8Array): Promise<Uint8Array> =>
        await decryptWith(identities, 'seed.age', bytes);
      assert.ok(content.equals(await open(right, file)));
      await assert.rejects(
        open(wrong, file),
        (error) =>
          isFailure('no-recipient', /seed\.age/)(error) &&
          error instanceof Error &&
          'hint' in error &&
          /the file is damaged: restore it from a backup$/.test(String(error.hint)),
      );

      const flipped = (offset: number): Uint8Array =>
        Uint8Array.from(file, (byte, i) => (i === (offset + file.length) % file.length ? byte ^ 1 : byte));
      const { length } = parseHeader(file);
      const damages = new Map([
        ['its MAC', flipped(length - 10)],
        ['its salt', flipped(length + 2)],
        ['its payload', flipped(-3)],
        ['the end is gone', file.subarray(0, -1)],
        ['the payload is gone', file.subarray(0, length)],
        ['cut in its header', file.subarray(0, 40)],
        ['empty', new Uint8Array(0)],
        ['text', Buffer.from('not an age file\n')],
      ]);
      for (const [damage, bytes] of damages)
        await assert.rejects(
          open(right, bytes),
          isFailure('malformed', /^seed\.age is damaged: not a valid age file: /),
          damage,
        );
    });

  test('an ssh key: its own stanza is damaged, whatever other keys are tried', async () => {
    const { file } = kinds.get('an ssh key') ?? assert.fail();
    const stanza = Buffer.from(file).indexOf('\n', Buffer.from(file).indexOf('-> ')) + 1;
    const damaged = Uint8Array.from(file, (byte, i) => (i === stanza ? (byte === 0x41 ? 0x42 : 0x41) : byte));
    await assert.rejects(
      decryptWith(keys('other', 'ssh', 'other-ssh'), 'seed.age', damaged),
      isFailure('malformed', /^seed\.age is damaged: .*that its own key does not open$/),
    );
  });
});

test('a passphrase opens whatever the work factor', async () => {
  for (const logN of [1, 2, 10]) {
    const encrypter = new Encrypter();
    encrypter.setScryptWorkFactor(logN);
    encrypter.setPassphrase('right');
    const right: Identities = { identities: [], passphrase: () => Promise.resolve('right') };
    assert.ok(content.equals(await decryptWith(right, 'seed.age', await encrypter.encrypt(content))), String(logN));
  }
});
