/**
 * The age program and ssh-keygen judge both directions; @noble/curves and OpenSSL judge the conversion between the
 * curves.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { ed25519 } from '@noble/curves/ed25519.js';
import { Stanza as AgeStanza, Encrypter } from 'age-encryption';
import fc from 'fast-check';
import { basePoint, ed25519PublicKey, montgomeryPoint, x25519 } from '../../src/age/curve25519.ts';
import { openAgeFile } from '../../src/age/file.ts';
import { encodeHeader, parseHeader, type Stanza } from '../../src/age/header.ts';
import { parseOpensshKey, type SshKeyPair } from '../../src/age/openssh-key.ts';
import { sshEphemeralSecret, sshSharedSecret, sshStanza, sshUnwrapper } from '../../src/age/ssh-ed25519.ts';
import { Failure } from '../../src/failure.ts';
import { isFailure, latin1, sshPublicKeyIn } from './expect.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const seeds = fc.uint8Array({ minLength: 32, maxLength: 32 });
let folder = '';

const read = (name: string): Buffer => readFileSync(join(folder, name));
const key = (): SshKeyPair => parseOpensshKey(read('key'));
function run(command: string, args: readonly string[], input?: Uint8Array): Buffer {
  const { status, stdout, stderr } = spawnSync(command, args, { input, cwd: folder });
  assert.equal(status, 0, stderr.toString());
  return stdout;
}

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'auxcred-age-'));
  for (const name of ['key', 'other'])
    run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'root@web1 näme', '-f', name]);
  run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', 'passphrase', '-f', 'locked']);
  run('ssh-keygen', ['-q', '-t', 'ecdsa', '-N', '', '-f', 'ecdsa']);
  run('ssh-keygen', ['-q', '-t', 'rsa', '-b', '2048', '-N', '', '-f', 'rsa']);
  run('ssh-keygen', ['-q', '-t', 'rsa', '-b', '2048', '-m', 'PEM', '-N', '', '-f', 'pem']);
});
after(() => {
  rmSync(folder, { recursive: true, force: true });
});

describe('a key file', () => {
  test('holds the key that ssh-keygen wrote', () => {
    const { seed, publicKey } = key();
    assert.equal(hex(ed25519PublicKey(seed)), hex(publicKey));
    for (const line of [run('ssh-keygen', ['-y', '-f', 'key']).toString(), read('key.pub').toString()])
      assert.equal(hex(sshPublicKeyIn(line)), hex(publicKey));
  });

  test('is read with a comment of any length, which changes the padding', () => {
    for (let length = 0; length < 9; length++) {
      run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'c'.repeat(length), '-f', `c${String(length)}`]);
      const name = `c${String(length)}`;
      const line = read(`${name}.pub`).toString();
      assert.equal(hex(parseOpensshKey(read(name)).publicKey), hex(sshPublicKeyIn(line)));
    }
  });

  test('has the padding that OpenSSH writes, and no other', () => {
    const paddings = new Set<number>();
    for (let length = 0; length < 8; length++) {
      const name = `p${String(length)}`;
      const comment = '#'.repeat(length + 1);
      run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', comment, '-f', name]);
      const body = Buffer.from(read(name).toString().split('\n').slice(1, -2).join(''), 'base64');
      const from = body.lastIndexOf(comment) + comment.length;
      paddings.add(body.length - from);
      for (let i = from; i < body.length; i++) {
        const changed = Buffer.from(body);
        changed[i] = 9;
        assert.throws(
          () =>
            parseOpensshKey(
              Buffer.from(
                `-----BEGIN OPENSSH PRIVATE KEY-----\n${changed.toString('base64')}\n` +
                  '-----END OPENSSH PRIVATE KEY-----\n',
              ),
            ),
          isFailure('no-recipient', /it is damaged$/),
        );
      }
    }
    assert.equal(paddings.size, 8);
  });

  test('that is not usable is refused with the reason and a way out', () => {
    const refused = (parse: () => unknown, reason: RegExp): void =>
      assert.throws(
        parse,
        (error) => isFailure('no-recipient', reason)(error) && error instanceof Failure && error.hint !== undefined,
        String(reason),
      );
    refused(() => parseOpensshKey(read('locked')), /it has a passphrase$/);
    refused(() => parseOpensshKey(read('ecdsa')), /it is of type ecdsa-sha2-nistp256$/);
    refused(() => parseOpensshKey(read('rsa')), /it is of type ssh-rsa$/);
    refused(() => parseOpensshKey(read('pem')), /it is not an OpenSSH private key$/);
    refused(() => parseOpensshKey(read('key.pub')), /it is not an OpenSSH private key$/);
    refused(() => parseOpensshKey(new Uint8Array(0)), /it is not an OpenSSH private key$/);
  });

  test('whose halves belong to different keys is refused', () => {
    const bytes = (name: string): Buffer =>
      Buffer.from(read(name).toString().split('\n').slice(1, -2).join(''), 'base64');
    const encoded = (body: Buffer): Buffer =>
      Buffer.from(
        `-----BEGIN OPENSSH PRIVATE KEY-----\n${body.toString('base64')}\n-----END OPENSSH PRIVATE KEY-----\n`,
      );
    const publicHalf = parseOpensshKey(read('other')).publicKey;
    const own = bytes('key');
    assert.equal(hex(parseOpensshKey(encoded(own)).publicKey), hex(key().publicKey));
    const places = [0, 1, 2].map((count) => {
      let at = -1;
      for (let i = 0; i <= count; i++) at = own.indexOf(key().publicKey, at + 1);
      return at;
    });
    assert.ok(places.every((at) => at > 0));
    for (const replaced of [[0], [1], [2], [0, 1], [0, 1, 2]]) {
      const mixed = Buffer.from(own);
      for (const place of replaced) mixed.set(publicHalf, places[place]);
      assert.throws(
        () => parseOpensshKey(encoded(mixed)),
        isFailure('no-recipient', /it is damaged$/),
        replaced.join(),
      );
    }
  });

  test('with damage anywhere gives the same key or a Failure, which repeats nothing of it', () => {
    const whole = read('key');
    const { seed } = key();
    fc.assert(
      fc.property(fc.nat(whole.length - 1), fc.nat(3), fc.uint8Array({ maxLength: 4 }), (at, removed, inserted) => {
        const damaged = Buffer.concat([whole.subarray(0, at), inserted, whole.subarray(at + removed)]);
        try {
          assert.equal(hex(parseOpensshKey(damaged).seed), hex(seed));
        } catch (error) {
          if (
            !isFailure(
              'no-recipient',
              /^the ssh host key is not usable: (it is damaged|it has a passphrase|it does not hold exactly one key|it is not an OpenSSH private key|it is of type [\w@.-]+)$/,
            )(error)
          )
            throw error;
        }
      }),
      { numRuns: 2000 },
    );
    // Each byte inside the base64 too, lengths above all: the private part is never quoted.
    const body = Buffer.from(whole.toString().split('\n').slice(1, -2).join(''), 'base64');
    const privateFrom = body.indexOf(key().publicKey) + 32;
    for (let i = privateFrom; i < body.length; i++) {
      for (const value of [0, 1, 32, 64, 255]) {
        const changed = Buffer.from(body);
        changed[i] = value;
        try {
          assert.equal(
            hex(
              parseOpensshKey(
                Buffer.from(
                  `-----BEGIN OPENSSH PRIVATE KEY-----\n${changed.toString('base64')}\n` +
                    '-----END OPENSSH PRIVATE KEY-----\n',
                ),
              ).seed,
            ),
            hex(seed),
          );
        } catch (error) {
          if (!isFailure('no-recipient', /^the ssh host key is not usable: it is damaged$/)(error)) throw error;
        }
      }
    }
  });
});

describe('from Ed25519 to X25519', () => {
  test('a public key converts to the public key of its converted secret', () => {
    fc.assert(
      fc.property(seeds, (seed) => {
        const secret = createHash('sha512').update(seed).digest().subarray(0, 32);
        assert.equal(
          hex(montgomeryPoint(ed25519PublicKey(seed)) ?? assert.fail()),
          hex(x25519(secret, basePoint) ?? assert.fail()),
        );
      }),
    );
  });

  test('32 bytes are a point here if and only if they are one for @noble/curves', () => {
    const judged = (bytes: Uint8Array): string | undefined => {
      try {
        ed25519.Point.fromBytes(bytes, false);
        return hex(ed25519.utils.toMontgomery(bytes));
      } catch {
        return undefined;
      }
    };
    const outcomes = { point: 0, none: 0 };
    fc.assert(
      fc.property(seeds, (bytes) => {
        // x = 0 with its sign set is left for x25519 to refuse: such points are of low order.
        const point = montgomeryPoint(bytes);
        assert.equal(point && hex(point), judged(bytes));
        outcomes[point ? 'point' : 'none']++;
      }),
      {
        examples: [
          [new Uint8Array(32).fill(255)],
          [Uint8Array.from(Buffer.from('edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f', 'hex'))],
        ],
        numRuns: 300,
      },
    );
    assert.ok(outcomes.point > 50 && outcomes.none > 50, JSON.stringify(outcomes));
  });

  test('points of low order are refused when wrapping, for anyone could open the file', () => {
    const lowOrder = [
      '0100000000000000000000000000000000000000000000000000000000000000',
      'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
      '0000000000000000000000000000000000000000000000000000000000000000',
      '0000000000000000000000000000000000000000000000000000000000000080',
      'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
      'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa',
      '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
      '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85',
    ].map((text) => Buffer.from(text, 'hex'));
    for (const point of lowOrder) {
      assert.ok(ed25519.Point.fromBytes(point, false).isSmallOrder(), hex(point));
      assert.equal(x25519(randomBytes(32), montgomeryPoint(point) ?? assert.fail()), undefined);
    }
    // The first point again, with its sign set; and non-canonical encodings of y = 0 and y = 1.
    const others = [
      '0100000000000000000000000000000000000000000000000000000000000080',
      'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
      'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
    ];
    for (const point of [
      ...lowOrder,
      ...others.map((text) => Buffer.from(text, 'hex')),
      Buffer.alloc(31),
      Buffer.alloc(0),
    ]) {
      assert.throws(() => sshEphemeralSecret(point), isFailure('no-recipient', /not a usable ed25519 key/), hex(point));
      assert.throws(
        () => sshStanza(point, randomBytes(16)),
        isFailure('no-recipient', /not a usable ed25519 key/),
        hex(point),
      );
    }
  });
});

describe('the ssh-ed25519 stanza', () => {
  test('opens what the age program encrypts', async () => {
    for (const size of [0, 1, 65_535, 65_536, 65_537, 131_072, 200_000]) {
      const content = randomBytes(size);
      const file = run('age', ['-R', 'other.pub', '-R', 'key.pub'], content);
      const { plaintext, openedBy } = await openAgeFile(file, [sshUnwrapper(read('key'))]);
      assert.ok(content.equals(plaintext), String(size));
      assert.equal(openedBy, 'ssh host key');
      const header = parseHeader(file);
      assert.equal(latin1(encodeHeader(header)), latin1(file.subarray(0, header.length)));
    }
  });

  test('opens without a compiler, as the broker runs', () => {
    run('age', ['-R', 'key.pub', '-o', 'jitless.age'], Buffer.from('the seeds'));
    const modules = ['file', 'ssh-ed25519'].map((name) => new URL(`../../src/age/${name}.js`, import.meta.url).href);
    const script = `const { readFileSync } = await import('node:fs');
      const [{ openAgeFile }, { sshUnwrapper }] = await Promise.all(${JSON.stringify(modules)}.map((url) => import(url)));
      const { plaintext } = await openAgeFile(readFileSync('jitless.age'), [sshUnwrapper(readFileSync('key'))]);
      console.log(String(plaintext), typeof WebAssembly);`;
    assert.equal(
      run(process.execPath, ['--jitless', '--input-type=module', '-e', script]).toString().trim(),
      'the seeds undefined',
    );
  });

  test('opens with the age program if it was made here', async () => {
    const encrypter = new Encrypter();
    for (const name of ['other.pub', 'key.pub']) {
      const publicKey = sshPublicKeyIn(read(name).toString());
      encrypter.addRecipient({
        wrapFileKey: (fileKey) => {
          const { args, body } = sshStanza(publicKey, fileKey);
          return [new AgeStanza([...args], body)];
        },
      });
    }
    const content = randomBytes(70_000);
    writeFileSync(join(folder, 'file.age'), await encrypter.encrypt(content));
    for (const name of ['key', 'other']) assert.ok(content.equals(run('age', ['-d', '-i', name, 'file.age'])), name);
  });

  test('gives both sides the same secret, a new one each time, and other keys none', () => {
    fc.assert(
      fc.property(seeds, seeds, fc.uint8Array({ minLength: 16, maxLength: 16 }), (seed, otherSeed, fileKey) => {
        fc.pre(hex(seed) !== hex(otherSeed));
        const [pair, other] = [seed, otherSeed].map((bytes) => ({
          seed: bytes,
          publicKey: ed25519PublicKey(bytes),
        }));
        if (!pair || !other) return;
        const { tag, share, secret } = sshEphemeralSecret(pair.publicKey);
        const stanza: Stanza = { args: ['auxcred/tpm2+host', tag, share], body: new Uint8Array(0) };
        assert.equal(hex(sshSharedSecret(pair, stanza) ?? assert.fail()), hex(secret));
        assert.equal(sshSharedSecret(other, stanza), undefined);
        const again = sshEphemeralSecret(pair.publicKey);
        assert.notEqual(again.share, share);
        assert.notEqual(hex(again.secret), hex(secret));
        assert.equal(sshStanza(pair.publicKey, fileKey).body.length, 32);
      }),
      { numRuns: 30 },
    );
  });

  test('is malformed with a share of low order, a body of another length or another number of arguments', async () => {
    const { tag, share } = sshEphemeralSecret(key().publicKey);
    const zero = Buffer.alloc(32).toString('base64').replace('=', '');
    const cases: readonly (readonly [readonly string[], number, RegExp])[] = [
      [[tag, zero], 32, /low order/],
      [[tag, share], 33, /another length/],
      [[tag, share], 31, /another length/],
      [[tag, share], 32, /its own key does not open/],
      [[tag], 32, /without a tag or a share/],
      [[tag, share, 'x'], 32, /without a tag or a share/],
      [[tag, `${share}AAAA`], 32, /without a tag or a share/],
      [['AAAA', share], 32, /without a tag or a share/],
      [[tag, `${share}=`], 32, /base64/],
    ];
    for (const [args, length, reason] of cases) {
      const file = encodeHeader({
        stanzas: [{ args: ['ssh-ed25519', ...args], body: randomBytes(length) }],
        mac: randomBytes(32),
      });
      await assert.rejects(
        openAgeFile(file, [sshUnwrapper(read('key'))]),
        isFailure('malformed', reason),
        args.join(' '),
      );
    }
  });

  test('is not opened if it is for others', async () => {
    const file = run('age', ['-R', 'other.pub'], Buffer.from('x'));
    await assert.rejects(
      openAgeFile(file, [sshUnwrapper(read('key'))]),
      isFailure('no-recipient', /which is for ssh-ed25519$/),
    );
  });

  test('an unusable key file matters only if there is a stanza for one', async () => {
    const file = run('age', ['-R', 'key.pub'], Buffer.from('x'));
    await assert.rejects(
      openAgeFile(file, [sshUnwrapper(read('locked'))]),
      isFailure('no-recipient', /it has a passphrase$/),
    );
    assert.equal(
      await sshUnwrapper(read('locked')).unwrap([{ args: ['auxcred/tpm2'], body: new Uint8Array(0) }]),
      undefined,
    );
  });

  test('no byte of a file can be changed, and no part of it is taken for the whole', async () => {
    const file = new Uint8Array(run('age', ['-R', 'key.pub'], Buffer.from('the seeds')));
    for (let i = 0; i < file.length; i++) {
      await assert.rejects(
        openAgeFile(
          Uint8Array.from(file, (byte, at) => (at === i ? byte ^ 1 : byte)),
          [sshUnwrapper(read('key'))],
        ),
        Failure,
        `byte ${String(i)}`,
      );
      await assert.rejects(
        openAgeFile(file.subarray(0, i), [sshUnwrapper(read('key'))]),
        Failure,
        `length ${String(i)}`,
      );
    }
  });
});
