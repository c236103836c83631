import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { Stanza as AgeStanza, Decrypter, Encrypter, generateX25519Identity, identityToRecipient } from 'age-encryption';
import fc from 'fast-check';
import { openAgeFile, type Unwrapper } from '../../src/age/file.ts';
import { encodeHeader, parseHeader, type Stanza } from '../../src/age/header.ts';
import { x25519Unwrapper } from '../../src/age/x25519.ts';
import { Failure, type FailureCode } from '../../src/failure.ts';
import { isFailure, latin1 } from './expect.ts';

const content = Buffer.from('the seeds');
let identity = '';
/** For `identity`, for another one, and with a stanza of a type that nobody knows. */
let file: Uint8Array = new Uint8Array(0);
let fileKey: Uint8Array = new Uint8Array(0);

before(async () => {
  identity = await generateX25519Identity();
  const encrypter = new Encrypter();
  encrypter.addRecipient(await identityToRecipient(await generateX25519Identity()));
  encrypter.addRecipient({
    wrapFileKey: (key) => {
      fileKey = key.slice();
      return [new AgeStanza(['example.org/unknown', 'x', 'y'], randomBytes(48))];
    },
  });
  encrypter.addRecipient(await identityToRecipient(identity));
  file = await encrypter.encrypt(content);
});

const unwrapper = (name: string, unwrap: () => Uint8Array | undefined): Unwrapper => ({
  name,
  unwrap: async () => {
    const key = await Promise.resolve().then(unwrap);
    return key && { fileKey: key };
  },
});
const failing = (name: string, code: FailureCode, hint?: string): Unwrapper =>
  unwrapper(name, () => {
    throw new Failure(code, `${name} does not work`, hint === undefined ? {} : { hint });
  });
const blind = unwrapper('blind', () => undefined);

describe('an age identity', () => {
  test('opens what the age library encrypts, among other recipients and unknown ones', async () => {
    for (const text of [`# made by age-keygen\n\n${identity}\n`, `${identity}\r\n`, identity]) {
      const { plaintext, openedBy } = await openAgeFile(file, [x25519Unwrapper(Buffer.from(text))]);
      assert.ok(content.equals(plaintext));
      assert.equal(openedBy, 'age host key');
    }
    const decrypter = new Decrypter();
    decrypter.addIdentity(identity);
    assert.ok(content.equals(await decrypter.decrypt(file)));
  });

  test('opens payloads with sizes around every chunk boundary', async () => {
    for (const size of [0, 1, 65_535, 65_536, 65_537, 131_071, 131_072, 131_073, 1_000_000]) {
      const large = randomBytes(size);
      const encrypter = new Encrypter();
      encrypter.addRecipient(await identityToRecipient(identity));
      const { plaintext } = await openAgeFile(await encrypter.encrypt(large), [x25519Unwrapper(identity)]);
      assert.ok(large.equals(plaintext), String(size));
    }
  });

  test('has to be whole and the only one, and is never quoted', async () => {
    const other = identity.replace(/.$/, (last) => (last === 'Q' ? 'P' : 'Q'));
    for (const damaged of [
      '',
      'AGE-SECRET-KEY-1',
      'AGE-SECRET-KEY-PQ-1',
      identity.toLowerCase(),
      other,
      identity.slice(0, -1),
      `${identity}Q`,
      `${identity} `,
      ` ${identity}`,
      `${identity}\n${identity}`,
      identity.replace('KEY', 'key'),
    ]) {
      await assert.rejects(
        openAgeFile(file, [x25519Unwrapper(damaged)]),
        (error) => isFailure('no-recipient', /^the age identity of this machine is damaged$/)(error),
        JSON.stringify(damaged),
      );
    }
  });

  test('does not stop another way in if it is damaged', async () => {
    const { openedBy } = await openAgeFile(file, [x25519Unwrapper('damaged'), x25519Unwrapper(identity)]);
    assert.equal(openedBy, 'age host key');
    const forOthers = encodeHeader({
      stanzas: [{ args: ['example.org/unknown'], body: new Uint8Array(0) }],
      mac: new Uint8Array(32),
    });
    await assert.rejects(
      openAgeFile(forOthers, [x25519Unwrapper('damaged')]),
      isFailure('no-recipient', /which is for example.org\/unknown$/),
    );
  });

  test('does not survive the change of any one character', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat(identity.length - 1),
        fc.constantFrom(...'QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L1bio\0\x80ÿ'),
        async (at, character) => {
          fc.pre(identity[at] !== character);
          await assert.rejects(
            openAgeFile(file, [
              x25519Unwrapper(Buffer.from(identity.slice(0, at) + character + identity.slice(at + 1), 'latin1')),
            ]),
            isFailure('no-recipient'),
          );
        },
      ),
    );
  });
});

describe('several ways in', () => {
  test('are tried in order, and the first that works is named', async () => {
    const { openedBy } = await openAgeFile(file, [
      blind,
      failing('tpm2', 'pcr-mismatch'),
      unwrapper('second', () => fileKey.slice()),
      unwrapper('third', () => assert.fail('asked')),
    ]);
    assert.equal(openedBy, 'second');
  });

  test('if only one was meant and failed, its code and hint are kept', async () => {
    await assert.rejects(
      openAgeFile(file, [blind, failing('tpm2', 'pcr-mismatch', 'seal again'), blind]),
      (error) =>
        isFailure('pcr-mismatch', /^tpm2 does not work$/)(error) &&
        error instanceof Failure &&
        error.hint === 'seal again',
    );
  });

  test('if several failed, each is named with its reason and its hint', async () => {
    await assert.rejects(
      openAgeFile(file, [
        failing('tpm2', 'pcr-mismatch', 'seal again'),
        failing('ssh host key', 'malformed', 'restore it'),
      ]),
      (error) =>
        isFailure('no-recipient', /tpm2: tpm2 does not work; ssh host key: ssh host key does not work$/)(error) &&
        error instanceof Failure &&
        error.hint === 'seal again; or restore it',
    );
    await assert.rejects(
      openAgeFile(file, [failing('a', 'tpm'), failing('b', 'tpm')]),
      (error) => error instanceof Failure && error.hint !== undefined,
    );
  });

  test('if there are none, the message says in part whom the file is for', async () => {
    await assert.rejects(
      openAgeFile(file, [blind]),
      isFailure('no-recipient', /which is for X25519, example.org\/unknown$/),
    );
    const stanzas = Array.from(
      { length: 100 },
      (_, i): Stanza => ({ args: [`${String(i)}${'x'.repeat(5000)}`], body: new Uint8Array(0) }),
    );
    await assert.rejects(
      openAgeFile(encodeHeader({ stanzas, mac: new Uint8Array(32) }), []),
      (error) => isFailure('no-recipient')(error) && String(error).length < 600,
    );
  });

  test('a defect is not mistaken for a key that is not meant', async () => {
    await assert.rejects(
      openAgeFile(file, [
        unwrapper('broken', () => {
          throw new TypeError('defect');
        }),
        x25519Unwrapper(identity),
      ]),
      TypeError,
    );
  });

  test('a wrong file key ends it, and every file key is wiped', async () => {
    const asked = unwrapper('second', () => assert.fail('asked after a wrong file key'));
    for (const [key, message] of [
      [new Uint8Array(16).fill(7), /its header was changed/],
      [new Uint8Array(15).fill(7), /file key of another length/],
      [new Uint8Array(0), /file key of another length/],
    ] as const) {
      await assert.rejects(openAgeFile(file, [unwrapper('first', () => key), asked]), isFailure('malformed', message));
      assert.ok(key.every((byte) => byte === 0));
    }
    const right = fileKey.slice();
    await openAgeFile(file, [unwrapper('first', () => right)]);
    assert.ok(right.every((byte) => byte === 0));
    const cut = fileKey.slice();
    await assert.rejects(
      openAgeFile(file.subarray(0, -1), [unwrapper('first', () => cut)]),
      isFailure('malformed', /its payload was changed or cut off/),
    );
    assert.ok(cut.every((byte) => byte === 0));
  });
});

describe('whatever the bytes', () => {
  const open = async (bytes: Uint8Array) => await openAgeFile(bytes, [x25519Unwrapper(identity)]);

  test('no byte of a file can be changed, and no part of it is taken for the whole', async () => {
    for (let i = 0; i < file.length; i++) {
      await assert.rejects(
        open(Uint8Array.from(file, (byte, at) => (at === i ? byte ^ 1 : byte))),
        Failure,
        `byte ${String(i)}`,
      );
      await assert.rejects(open(file.subarray(0, i)), Failure, `length ${String(i)}`);
    }
    await assert.rejects(open(Buffer.concat([file, Buffer.alloc(1)])), isFailure('malformed'));
  });

  test('an edited file does not open, wherever it was edited', async () => {
    const piece = fc.oneof(
      fc.uint8Array({ maxLength: 40 }),
      fc.constantFrom('\n', '-> ', '--- ', '=', '\r', ' ', '-> X25519 ').map((text) => Buffer.from(text)),
      fc.tuple(fc.nat(file.length), fc.nat(200)).map(([from, length]) => file.subarray(from, from + length)),
    );
    await fc.assert(
      fc.asyncProperty(fc.nat(file.length), fc.nat(120), piece, async (at, removed, inserted) => {
        const edited = Buffer.concat([file.subarray(0, at), inserted, file.subarray(at + removed)]);
        fc.pre(!edited.equals(file));
        await assert.rejects(open(edited), Failure);
      }),
      { numRuns: 2000 },
    );
  });

  test('chunks can be neither swapped, repeated nor left out', async () => {
    const encrypter = new Encrypter();
    encrypter.addRecipient(await identityToRecipient(identity));
    const large = await encrypter.encrypt(randomBytes(3 * 65_536));
    const start = parseHeader(large).length + 16;
    const head = large.subarray(0, start);
    const chunks = [0, 1, 2].map((i) => large.subarray(start + i * 65_552, start + (i + 1) * 65_552));
    const joined = (...order: readonly number[]): Uint8Array =>
      Buffer.concat([head, ...order.map((i) => chunks[i] ?? assert.fail())]);
    assert.equal((await open(joined(0, 1, 2))).plaintext.length, 3 * 65_536);
    for (const order of [[], [0], [2], [0, 1], [0, 2], [1, 0, 2], [0, 1, 1, 2], [0, 1, 2, 2], [0, 1, 2, 0]])
      await assert.rejects(open(joined(...order)), isFailure('malformed'), order.join());
  });

  test('they cause nothing but a Failure, and a header that parses encodes back to them', async () => {
    const piece = fc.constantFrom(
      'age-encryption.org/v1\n',
      '-> X25519 ',
      '-> ssh-ed25519 ',
      '-> scrypt',
      'AAAA',
      '\n',
      '--- ',
      ' ',
      '=',
      '\r\n',
      'TEiF0ypqr+bpvcqXNyCVJpL7OuwPdVwPL7KQEbFDOCc',
      'A'.repeat(64),
      'QA',
      'QQ',
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof({ weight: 4, arbitrary: piece }, fc.string()), { maxLength: 14 }),
        fc.boolean(),
        async (pieces, magic) => {
          const bytes = Buffer.from((magic ? 'age-encryption.org/v1\n' : '') + pieces.join(''), 'latin1');
          await assert.rejects(open(bytes), Failure);
          try {
            const header = parseHeader(bytes);
            assert.equal(latin1(encodeHeader(header)), latin1(bytes.subarray(0, header.length)));
          } catch (error) {
            if (!(error instanceof Failure)) throw error;
          }
        },
      ),
      { numRuns: 3000 },
    );
  });

  test('a header survives being written and read, whatever its stanzas', () => {
    const argument = fc.string({
      unit: fc.integer({ min: 0x21, max: 0x7e }).map((code) => String.fromCharCode(code)),
      minLength: 1,
      maxLength: 80,
    });
    const stanza = fc.record({
      args: fc.array(argument, { minLength: 1, maxLength: 4 }),
      body: fc.uint8Array({ maxLength: 200 }),
    });
    fc.assert(
      fc.property(
        fc.array(stanza, { minLength: 1, maxLength: 5 }),
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        (stanzas, mac) => {
          const bytes = encodeHeader({ stanzas, mac });
          const header = parseHeader(Buffer.concat([bytes, Buffer.from('payload')]));
          assert.equal(header.length, bytes.length);
          assert.deepEqual(
            header.stanzas.map(({ args, body }) => [args, latin1(body)]),
            stanzas.map(({ args, body }) => [args, latin1(body)]),
          );
          assert.equal(latin1(header.mac), latin1(mac));
        },
      ),
    );
  });

  test('a header without an end is given up after 1 MiB', () => {
    const start = 'age-encryption.org/v1\n-> x\n';
    assert.throws(
      () => parseHeader(Buffer.from(start + 'A'.repeat(2 ** 21))),
      isFailure('malformed', /longer than 1 MiB/),
    );
    assert.throws(
      () => parseHeader(Buffer.from(start + `${'A'.repeat(64)}\n`.repeat(20_000))),
      isFailure('malformed', /longer than 1 MiB/),
    );
    assert.throws(() => parseHeader(Buffer.from(start)), isFailure('malformed', /cut off/));
  });
});

test('the reader works without a compiler, as the broker runs it', () => {
  const modules = ['file', 'x25519'].map((name) => new URL(`../../src/age/${name}.js`, import.meta.url).href);
  const script = `const [{ openAgeFile }, { x25519Unwrapper }] = await Promise.all(${JSON.stringify(modules)}.map((url) => import(url)));
    const [file, identity] = process.env.AGE_TEST.split(' ');
    const { plaintext } = await openAgeFile(Buffer.from(file, 'base64'), [x25519Unwrapper(identity)]);
    console.log(String(plaintext), typeof WebAssembly);`;
  const { stdout, stderr } = spawnSync(process.execPath, ['--jitless', '--input-type=module', '-e', script], {
    encoding: 'utf8',
    env: { AGE_TEST: `${Buffer.from(file).toString('base64')} ${identity}` },
  });
  assert.equal(stdout.trim(), 'the seeds undefined', stderr);
});
