/**
 * gokey's own passwords and keys, compared with the program's output: as published in test/vectors/gokey.json, and of a
 * program that runs here.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createCipheriv, pbkdf2Sync, randomBytes } from 'node:crypto';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Failure } from '../../src/failure.ts';
import { parseFlags } from '../../src/gokey/flags.ts';
import { type GokeyRequest, type GokeyType, gokey, gokeyTypes } from '../../src/gokey/gokey.ts';
import { makeSeedFile } from '../../src/gokey/seed-file.ts';
import { trimSpace } from '../../src/gokey/white-space.ts';
import { isFailure } from '../age/expect.ts';
import { newGokey, oldGokey } from './programs.ts';
import { at, file, folder, hex, sealedSeed, useFolder, utf8 } from './seed-files.ts';

useFolder();

interface Case {
  gokey: string;
  master: string;
  realm: string;
  type: string;
  length?: number;
  seed?: string;
  skip?: number;
  unsafe: boolean;
  status: number;
  output?: string;
}
const vectors: { seeds: Record<string, { master: string; base64: string }>; cases: Case[] } = JSON.parse(
  readFileSync('test/vectors/gokey.json', 'utf8'),
);

const seedNamed = (name: string): Uint8Array =>
  new Uint8Array(Buffer.from(vectors.seeds[name]?.base64 ?? '', 'base64'));
const isType = (text: string): text is GokeyType => gokeyTypes.some((type) => type === text);

/**
 * Another body of 32 bytes that gets the same GCM tag: a change d of its first block is undone by d * H in the second
 * (NIST SP 800-38D section 6.4). Otherwise a changed body changes the tag, and with it also what versions before 0.2.0
 * make.
 */
function sameTag(master: string, nonce: Uint8Array, body: Uint8Array): Uint8Array {
  const block = createCipheriv('aes-256-ecb', pbkdf2Sync(master, nonce, 4096, 32, 'sha256'), null).update(
    new Uint8Array(16),
  );
  const change = randomBytes(16);
  let product = 0n;
  for (
    let bit = 127n, power = BigInt(`0x${hex(block)}`);
    bit >= 0n;
    bit--, power = (power >> 1n) ^ ((power & 1n) * (0xe1n << 120n))
  ) {
    if ((BigInt(`0x${hex(change)}`) >> bit) & 1n) product ^= power;
  }
  const changes = Buffer.concat([change, Buffer.from(product.toString(16).padStart(32, '0'), 'hex')]);
  return body.map((byte, i) => byte ^ (changes[i] ?? 0));
}

describe('gokey', () => {
  test('equals the program, byte for byte, in every published case', () => {
    assert.ok(
      vectors.cases.filter(({ gokey: version, seed }) => version.startsWith('0.2') && seed !== undefined).length > 100,
    );
    assert.ok(vectors.cases.filter(({ gokey: version }) => version === '0.1.2').length > 50);
    for (const one of vectors.cases) {
      if (!isType(one.type)) continue;
      const request: GokeyRequest = {
        masterPassword: utf8(one.master),
        realm: one.realm,
        type: one.type,
        allowUnsafe: one.unsafe,
        ...(one.length === undefined ? {} : { length: one.length }),
        ...(one.seed === undefined ? {} : { seed: seedNamed(one.seed) }),
      };
      if (one.status === 0)
        assert.equal(Buffer.from(gokey(request)).toString('base64'), one.output, JSON.stringify(one));
      else assert.throws(() => gokey(request), Failure, JSON.stringify(one));
    }
  });

  test("needs the seed file's secret part: versions before 0.2.0 did not (CVE-2025-13353)", async () => {
    const nonce = new Uint8Array(randomBytes(12));
    const body = new Uint8Array(randomBytes(32));
    const seeds = [sealedSeed('m', body, nonce), sealedSeed('m', sameTag('m', nonce, body), nonce)];
    const [one, other] = seeds;
    assert.ok(one && other);
    assert.notEqual(hex(one), hex(other));
    assert.deepEqual(
      [hex(one.subarray(0, 12)), hex(one.subarray(-16))],
      [hex(other.subarray(0, 12)), hex(other.subarray(-16))],
    );
    const made = seeds.map((seed) =>
      hex(gokey({ masterPassword: utf8('m'), realm: 'r', type: 'raw', allowUnsafe: false, seed })),
    );
    assert.notEqual(made[0], made[1]);
    const by = (program: string): string[] =>
      seeds.map((seed) =>
        hex(spawnSync(program, ['-P', file('m', 'm'), '-s', file('seed', seed), '-r', 'r', '-t', 'raw']).stdout),
      );
    assert.deepEqual(by(await newGokey()), made);
    const [before, same] = by(oldGokey);
    assert.equal(before?.length, 64);
    assert.equal(before, same);
    assert.ok(before !== made[0] && before !== made[1]);
  });

  test('refuses a wrong master password, an invalid seed, and what gokey refuses', () => {
    const request: GokeyRequest = { masterPassword: utf8('m'), realm: 'r', type: 'pass', allowUnsafe: false };
    const seed = sealedSeed('m', new Uint8Array(10));
    assert.throws(
      () => gokey({ ...request, seed, masterPassword: utf8('n') }),
      isFailure('no-recipient', /^the master password does not open the seed file$/),
    );
    for (let length = 0; length < 28; length++)
      assert.throws(() => gokey({ ...request, seed: seed.slice(0, length) }), isFailure('usage', /at least 28 bytes/));
    assert.throws(() => gokey({ ...request, realm: '' }), isFailure('usage', /^no realm provided$/));
    assert.throws(() => gokey({ ...request, length: 7 }), isFailure('usage', /^invalid password specification$/));
    assert.throws(() => gokey({ ...request, type: 'ec256' }), isFailure('usage', /without strong seed is not allowed/));
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 28, maxLength: 80 }), (garbage) => {
        assert.throws(() => gokey({ ...request, seed: garbage }), isFailure('no-recipient'));
      }),
      { numRuns: 30 },
    );
  });

  test('makes seed files that gokey 0.2.0 reads, and reads those that it makes', async () => {
    const program = await newGokey();
    const master = file('master', 'ein Paßwort');
    writeFileSync(at('ours'), makeSeedFile(utf8('ein Paßwort')));
    assert.equal(statSync(at('ours')).size, 256);
    assert.equal(spawnSync(program, ['-P', master, '-t', 'seed', '-o', at('theirs')]).status, 0);
    for (const seed of ['ours', 'theirs']) {
      for (const type of gokeyTypes) {
        const { status, stdout } = spawnSync(program, ['-P', master, '-s', at(seed), '-r', 'example.com', '-t', type]);
        assert.equal(status, 0);
        assert.equal(
          hex(
            gokey({
              masterPassword: utf8('ein Paßwort'),
              realm: 'example.com',
              type,
              allowUnsafe: false,
              seed: new Uint8Array(readFileSync(at(seed))),
            }),
          ),
          hex(stdout),
          `${seed} ${type}`,
        );
      }
    }
  });

  test('equals the program that runs here: without a seed both versions, with one the new', async () => {
    const programs = [oldGokey, await newGokey()];
    const realms = fc
      .string({ unit: 'grapheme', minLength: 1, maxLength: 30 })
      .filter((text) => !text.includes('\0') && !/\p{Surrogate}/u.test(text));
    const lengths = fc.oneof(fc.constant(undefined), fc.integer({ min: 8, max: 200 }));
    const masters = realms.filter(
      (text) => text.trim() === text && text !== '' && !/^[\u0085\ufeff]|[\u0085\ufeff]$/u.test(text),
    );
    for (const [master, realm, type, length, seeded] of fc.sample(
      fc.tuple(masters, realms, fc.constantFrom(...gokeyTypes), lengths, fc.boolean()),
      60,
    )) {
      const seed = sealedSeed(master, new Uint8Array(randomBytes(64)));
      const sized = type === 'pass' || type === 'raw' ? length : undefined;
      const expected = hex(
        gokey({
          masterPassword: utf8(master),
          realm,
          type,
          allowUnsafe: true,
          ...(sized === undefined ? {} : { length: sized }),
          ...(seeded ? { seed } : {}),
        }),
      );
      for (const program of seeded ? programs.slice(1) : programs) {
        const { status, stdout } = spawnSync(program, [
          '-P',
          file('m', master),
          `-r=${realm}`,
          '-t',
          type,
          '-u',
          ...(sized === undefined ? [] : ['-l', String(sized)]),
          ...(seeded ? ['-s', file('seed', seed)] : []),
        ]);
        assert.equal(status, 0);
        assert.equal(hex(stdout), expected, `${program} ${JSON.stringify([master, realm])} ${type}`);
      }
    }
  });

  test("trims white space around a password in a file as the program does, including Unicode's, and keeps the rest", async () => {
    const program = await newGokey();
    const pieces = [
      ...'\t\n\v\f\r \u0085\u00a0\u1680\u2000\u200a\u200b\u2028\u2029\u202f\u205f\u3000\ufeff\u180e\0',
      'p',
      'ß',
    ].map((text) => Buffer.from(text));
    const broken = [[0xc2], [0xa0], [0x85], [0xe2, 0x80], [0x80], [0xff], [0xe3]].map((bytes) => Buffer.from(bytes));
    for (const around of fc.sample(
      fc.tuple(
        fc.array(fc.constantFrom(...pieces, ...broken), { maxLength: 4 }),
        fc.array(fc.constantFrom(...pieces, ...broken), { maxLength: 4 }),
      ),
      150,
    )) {
      const content = Buffer.concat([...around[0], Buffer.from('x'), ...around[1]]);
      const { status, stdout } = spawnSync(program, ['-P', file('spaced', content), '-r', 'r']);
      assert.equal(status, 0);
      assert.equal(
        hex(
          gokey({ masterPassword: trimSpace(Uint8Array.from(content)), realm: 'r', type: 'pass', allowUnsafe: false }),
        ),
        hex(stdout),
        hex(content),
      );
    }
  });

  test('reads flags and numbers as Go does', async () => {
    const program = await newGokey();
    const master = file('plain', 'pw');
    const word = fc.constantFrom(
      '-P',
      '-r',
      '-s',
      '-t',
      '-l',
      '-skip',
      '-o',
      '-u',
      '--u',
      '-u=0',
      '-u=F',
      '-u=no',
      '-u=',
      '--',
      '-',
      '-=',
      '---u',
      '--=u',
      '-h',
      '--help',
      '-hh',
      '-l=9',
      '-l=',
      '-skip=0x1',
      '-r=a=b',
      '-r=',
      '--r=',
      'word',
      '',
      '=',
    );
    const number = fc
      .tuple(
        fc.constantFrom('', '', '+', '-'),
        fc.constantFrom('', '0', '0', '0x', '0X', '0o', '0O', '0b', '0B'),
        fc.array(fc.constantFrom(...'0011234567789_fF'), { maxLength: 4 }),
      )
      .map(([sign, base, digits]) => `-l=${sign}${base}${digits.join('')}`);
    const limits = [
      '9223372036854775807',
      '9223372036854775808',
      '-9223372036854775808',
      '-9223372036854775809',
      '0x7fffffffffffffff',
      '0x8000000000000000',
    ].map((text) => [`-skip=${text}`]);
    const outcome = (args: readonly string[]): 'mistake' | 'help' | 'flags' => {
      try {
        return parseFlags(args) ? 'flags' : 'help';
      } catch (error) {
        assert.ok(error instanceof Failure);
        return 'mistake';
      }
    };
    for (const some of [...limits, ...fc.sample(fc.array(word, { maxLength: 5 }), 300)]) {
      const args = [...some, '-P', master];
      // -o writes to files with these names.
      const { status, stderr } = spawnSync(program, args, { cwd: folder, env: {}, encoding: 'utf8', input: '' });
      assert.equal(
        outcome(args),
        status === 2 ? 'mistake' : stderr.startsWith('Usage of ') ? 'help' : 'flags',
        args.join(' '),
      );
    }
    for (const length of fc.sample(number, 200)) {
      const args = [length, '-P', master, '-r', 'r', '-t', 'raw', '-u'];
      const { status, stdout } = spawnSync(program, args, { env: {}, input: '' });
      if (status === 2) assert.equal(outcome(args), 'mistake', length);
      else assert.equal(Math.max(0, parseFlags(args)?.l ?? -1), status === 0 ? stdout.length : 0, length);
    }
  });
});
