/**
 * gokey's own passwords and keys, compared with the program's output: as published in test/vectors/gokey.json, and of a
 * program that runs here.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { createCipheriv, pbkdf2Sync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { lstatSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { Failure } from '../../src/failure.ts';
import { parseFlags } from '../../src/gokey/flags.ts';
import { type GokeyRequest, type GokeyType, gokey, gokeyTypes } from '../../src/gokey/gokey.ts';
import { makeSeedFile } from '../../src/gokey/seed-file.ts';
import { trimSpace } from '../../src/gokey/white-space.ts';
import { isFailure } from '../age/expect.ts';
import * as cli from '../cli.ts';
import { newGokey, oldGokey } from './programs.ts';

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

const utf8 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const seedNamed = (name: string): Uint8Array =>
  new Uint8Array(Buffer.from(vectors.seeds[name]?.base64 ?? '', 'base64'));
const isType = (text: string): text is GokeyType => gokeyTypes.some((type) => type === text);

/** A seed file with this body. */
function sealedSeed(master: string, body: Uint8Array, nonce: Uint8Array = new Uint8Array(randomBytes(12))): Uint8Array {
  const cipher = createCipheriv('aes-256-gcm', pbkdf2Sync(master, nonce, 4096, 32, 'sha256'), nonce);
  return new Uint8Array(Buffer.concat([nonce, cipher.update(body), cipher.final(), cipher.getAuthTag()]));
}

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

let folder = '';
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'gokey-'));
});
after(() => {
  rmSync(folder, { recursive: true });
});
const at = (name: string): string => join(folder, name);
const file = (name: string, content: Uint8Array | string): string => {
  writeFileSync(at(name), content);
  return at(name);
};

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

describe('auxcred gokey', () => {
  const environment = (more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv => ({ PATH: process.env['PATH'], ...more });
  const run = (args: readonly string[], more?: NodeJS.ProcessEnv): cli.Said =>
    cli.auxcred(['gokey', ...args], { env: environment(more), encoding: 'latin1' });

  test("takes gokey's flags, and gives its bytes and its exit statuses", async () => {
    const program = await newGokey();
    const master = file('master', ' pw with spaces \n');
    const seed = file('seed', sealedSeed('pw with spaces', new Uint8Array(randomBytes(40))));
    const skipped = file('skipped', Buffer.concat([Buffer.alloc(9), readFileSync(seed)]));
    for (const args of [
      ['-P', master, '-r', 'x'],
      [`-P=${master}`, '-r=x', '-l=20'],
      [`--P=${master}`, '--r', 'x', '--t', 'raw', '--u'],
      ['-P', master, '-r', 'x', '-u=false', '-t', 'ec256'],
      ['-P', master, '-r', 'x', '-u=true', '-t', 'ec256'],
      ['-P', master, '-r', 'x', '-s', seed],
      ['-P', master, '-r', 'x', '-s', skipped, '-skip', '9'],
      ['-P', master, '-r', 'x', '-s', skipped],
      ['-P', master, '-r', 'x', '-s', seed, '-skip', '-1'],
      ['-P', master, '-r', 'x', '-s', seed, '-skip', '9999'],
      ['-P', master, '-r', 'x', '-skip', '-1'],
      ['-P', master],
      ['-P', master, '-r', 'x', '-l', '7'],
      ['-P', master, '-r', 'x', '-l', '0'],
      ['-P', master, '-r', 'x', '-l', 'abc'],
      ['-P', master, '-r', 'x', '-t', 'raw'],
      ['-P', master, '-r', 'x', '-t', 'foo'],
      ['-P', master, '-r', 'x', '-t', 'ed25519', '-u', '-l', '5'],
      ['-P', at('missing'), '-r', 'x'],
      ['-P', master, '-r', 'x', '-s', at('missing')],
      ['-P', master, '-r', 'x', '-zz'],
      ['-P', master, '-r', 'x', '-u=maybe'],
      ['-P', master, '-r'],
      ['-P', master, '-r', 'x', 'more', '-l', 'abc'],
      ...['010', '0x10', '1_0', '0b1001', '08', '1__0', '+12', '9223372036854775808'].map((length) => [
        '-P',
        master,
        '-r',
        'x',
        '-l',
        length,
      ]),
      ['-P', master, '-r', 'x', '-s', skipped, '-skip', '011'],
      ['-P', master, '-r', 'x', '-=x'],
      ['-P', master, '-r', 'x', '---u'],
      ['-P', master, '-r', 'x', '--', '-l', 'abc'],
      ['-h'],
      ['--help'],
      ['-P', master, '-zz', '-h'],
    ]) {
      const [theirs, ours] = [
        spawnSync(program, args, { encoding: 'latin1', env: environment(), input: '' }),
        run(args),
      ];
      assert.equal(ours.status, theirs.status, `${args.join(' ')}: ${ours.stderr}`);
      if (theirs.status === 0) assert.equal(ours.stdout, theirs.stdout, args.join(' '));
      else assert.equal(ours.stdout, '');
    }
  });

  test('takes the master password from GOKEY_ROOT_PASS, and writes files that only their owner may read', () => {
    const fromFile = run(['-P', file('plain', 'pw'), '-r', 'x']).stdout;
    assert.equal(run(['-r', 'x'], { GOKEY_ROOT_PASS: 'pw' }).stdout, fromFile);
    assert.equal(run(['-r', 'x', '-o', at('out')], { GOKEY_ROOT_PASS: 'pw' }).stdout, '');
    assert.equal(readFileSync(at('out'), 'latin1'), fromFile);
    assert.equal(statSync(at('out')).mode & 0o777, 0o600);
  });

  test('uses GOKEY_ROOT_PASS if the file is empty, and makes a seed file whatever the given length, as the program does', async () => {
    const program = await newGokey();
    const args = ['-P', file('empty', ' \n'), '-r', 'x'];
    const theirs = spawnSync(program, args, {
      encoding: 'latin1',
      env: environment({ GOKEY_ROOT_PASS: 'pw' }),
      input: '',
    });
    assert.equal(theirs.status, 0);
    assert.deepEqual(
      [run(args, { GOKEY_ROOT_PASS: 'pw' }).stdout, run(['-r', 'x'], { GOKEY_ROOT_PASS: 'pw' }).stdout],
      [theirs.stdout, theirs.stdout],
    );
    const { status, stdout } = run(['-P', file('plain', 'pw'), '-t', 'seed', '-l', '5']);
    assert.deepEqual([status, stdout.length], [0, 256]);
  });

  test('refuses a realm or a password in the environment that was not UTF-8', () => {
    for (const said of [
      run(['-P', file('plain', 'pw'), '-r', 'a\ufffd']),
      run(['-r', 'a'], { GOKEY_ROOT_PASS: '\ufffd' }),
    ]) {
      assert.deepEqual([said.status, said.stdout], [1, '']);
      assert.match(said.stderr, /is not UTF-8\n$/);
    }
    const raw = spawnSync(
      'sh',
      ['-c', 'exec "$0" dist/auxcred.cjs gokey -P "$1" -r "$(printf "\\377")"', process.execPath, at('plain')],
      { encoding: 'latin1', env: environment(), input: '' },
    );
    assert.deepEqual([raw.status, raw.stdout], [1, '']);
  });

  test('writes through links and to pipes, and replaces nothing but files', async () => {
    const expected = run(['-P', file('plain', 'pw'), '-r', 'x']).stdout;
    file('target', 'a longer text that has to go');
    symlinkSync('target', at('link'));
    assert.equal(run(['-P', at('plain'), '-r', 'x', '-o', at('link')]).status, 0);
    assert.ok(lstatSync(at('link')).isSymbolicLink());
    assert.equal(readFileSync(at('target'), 'latin1'), expected);
    assert.equal(spawnSync('mkfifo', [at('fifo')]).status, 0);
    const reader = spawn('cat', [at('fifo')], { stdio: ['ignore', 'pipe', 'inherit'] });
    const read = once(reader.stdout, 'data');
    assert.equal(run(['-P', at('plain'), '-r', 'x', '-o', at('fifo')]).status, 0);
    assert.deepEqual(await read, [Buffer.from(expected, 'latin1')]);
    assert.ok(lstatSync(at('fifo')).isFIFO());
  });

  test('asks twice unless there is a seed file, and again if nothing or something else was entered', () => {
    /** Standard output goes to a file, so that only the questions are on the terminal. */
    const typed = (args: string, keys: string): { status: number | null; terminal: string; stdout: string } => {
      const { status, stdout } = spawnSync(
        'script',
        ['-qec', `'${process.execPath}' dist/auxcred.cjs gokey ${args} > '${at('typed')}'`, '/dev/null'],
        { input: keys, env: environment(), encoding: 'utf8' },
      );
      return { status, terminal: stdout, stdout: readFileSync(at('typed'), 'latin1') };
    };
    const questions = (terminal: string): number => terminal.split('master password').length - 1;
    const expected = run(['-P', file('plain', 'hunter2'), '-r', 'x']).stdout;
    const twice = typed('-r x', 'hunter2\nhunter2\n');
    assert.deepEqual([twice.status, twice.stdout, questions(twice.terminal)], [0, expected, 2]);
    assert.equal(typed('-r x', '\nhunter2\nhunter2\n').stdout, expected);
    const other = typed('-r x', 'hunter2\nhunter3\nhunter2\nhunter2\n');
    assert.deepEqual([other.status, other.stdout], [0, expected]);
    assert.match(other.terminal, /the two passwords differ: try again/);
    const seed = file('seed', sealedSeed('hunter2', new Uint8Array(randomBytes(40))));
    const once_ = typed(`-r x -s '${seed}'`, 'hunter2\n');
    assert.deepEqual(
      [once_.status, once_.stdout, questions(once_.terminal)],
      [0, run(['-P', at('plain'), '-r', 'x', '-s', seed]).stdout, 1],
    );
    const wrong = typed(`-r x -s '${seed}'`, 'hunter3\n');
    assert.deepEqual([wrong.status, wrong.stdout], [1, '']);
    assert.match(wrong.terminal, /the master password does not open the seed file/);
    const left = typed('-r x', '\n\n\u0004');
    assert.deepEqual([left.status, left.stdout], [1, '']);
  });

  test('refuses -p with the reason, and RSA with a hint', () => {
    const refused = run(['-p', 'pw', '-r', 'x']);
    assert.equal(refused.status, 2);
    assert.match(refused.stderr, /-p would show the master password to every process/);
    assert.ok(!refused.stderr.includes('pw:'));
    const { status, stderr } = run(['-P', file('plain', 'pw'), '-r', 'x', '-t', 'rsa4096', '-u']);
    assert.equal(status, 1);
    assert.match(stderr, /get = \["gokey", "-P", "FILE", "-s", "SEED", "-r", "\{name\}", "-t", "rsa4096"\]/);
  });
});
