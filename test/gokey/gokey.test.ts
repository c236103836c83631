/** gokey's own passwords and keys, judged by what the program prints: published in test/vectors/gokey.json, and asked here and now. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createCipheriv, pbkdf2Sync, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { gokey, type GokeyRequest, type GokeyType, gokeyTypes } from '../../src/gokey/gokey.ts';
import { makeSeedFile } from '../../src/gokey/seed-file.ts';
import { Failure } from '../../src/failure.ts';
import { isFailure } from '../age/expect.ts';
import { newGokey, oldGokey } from './programs.ts';

interface Case { gokey: string; master: string; realm: string; type: string; length?: number; seed?: string; skip?: number; unsafe: boolean; status: number; output?: string }
const vectors: { seeds: Record<string, { master: string; base64: string }>; cases: Case[] } = JSON.parse(readFileSync('test/vectors/gokey.json', 'utf8'));

const utf8 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const seedNamed = (name: string): Uint8Array => new Uint8Array(Buffer.from(vectors.seeds[name]?.base64 ?? '', 'base64'));
const isType = (text: string): text is GokeyType => gokeyTypes.some((type) => type === text);

/** A seed file with this body. */
function sealedSeed(master: string, body: Uint8Array, nonce: Uint8Array = new Uint8Array(randomBytes(12))): Uint8Array {
  const cipher = createCipheriv('aes-256-gcm', pbkdf2Sync(master, nonce, 4096, 32, 'sha256'), nonce);
  return new Uint8Array(Buffer.concat([nonce, cipher.update(body), cipher.final(), cipher.getAuthTag()]));
}

let folder = '';
before(() => { folder = mkdtempSync(join(tmpdir(), 'gokey-')); });
after(() => { rmSync(folder, { recursive: true }); });
const at = (name: string): string => join(folder, name);
const file = (name: string, content: Uint8Array | string): string => {
  writeFileSync(at(name), content);
  return at(name);
};

describe('gokey', () => {
  test('is the program, byte for byte, in every published case', () => {
    assert.ok(vectors.cases.filter(({ gokey: version, seed }) => version.startsWith('0.2') && seed !== undefined).length > 100);
    assert.ok(vectors.cases.filter(({ gokey: version }) => version === '0.1.2').length > 50);
    for (const one of vectors.cases) {
      if (!isType(one.type)) continue;
      const request: GokeyRequest = { masterPassword: utf8(one.master), realm: one.realm, type: one.type, allowUnsafe: one.unsafe, ...(one.length === undefined ? {} : { length: one.length }), ...(one.seed === undefined ? {} : { seed: seedNamed(one.seed) }) };
      if (one.status === 0) assert.equal(Buffer.from(gokey(request)).toString('base64'), one.output, JSON.stringify(one));
      else assert.throws(() => gokey(request), Failure, JSON.stringify(one));
    }
  });

  test('needs the seed file\'s secret part: versions before 0.2.0 did not (CVE-2025-13353)', () => {
    const nonce = new Uint8Array(12).fill(1);
    const body = new Uint8Array(randomBytes(228));
    const made = (content: Uint8Array): string => hex(gokey({ masterPassword: utf8('m'), realm: 'r', type: 'raw', allowUnsafe: false, seed: sealedSeed('m', content, nonce) }));
    for (const bit of [0, 100 * 8, 228 * 8 - 1]) assert.notEqual(made(body), made(body.map((byte, i) => (i === bit >> 3 ? byte ^ (1 << (bit & 7)) : byte))));
    assert.equal(made(body), made(body));
  });

  test('refuses a wrong master password, a seed that is none, and what gokey refuses', () => {
    const request: GokeyRequest = { masterPassword: utf8('m'), realm: 'r', type: 'pass', allowUnsafe: false };
    const seed = sealedSeed('m', new Uint8Array(10));
    assert.throws(() => gokey({ ...request, seed, masterPassword: utf8('n') }), isFailure('no-recipient', /^the master password does not open the seed file$/));
    for (let length = 0; length < 28; length++) assert.throws(() => gokey({ ...request, seed: seed.slice(0, length) }), isFailure('usage', /at least 28 bytes/));
    assert.throws(() => gokey({ ...request, realm: '' }), isFailure('usage', /^no realm provided$/));
    assert.throws(() => gokey({ ...request, length: 7 }), isFailure('usage', /^invalid password specification$/));
    assert.throws(() => gokey({ ...request, type: 'ec256' }), isFailure('usage', /without strong seed is not allowed/));
    fc.assert(fc.property(fc.uint8Array({ minLength: 28, maxLength: 80 }), (garbage) => { assert.throws(() => gokey({ ...request, seed: garbage }), isFailure('no-recipient')); }), { numRuns: 30 });
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
        assert.equal(hex(gokey({ masterPassword: utf8('ein Paßwort'), realm: 'example.com', type, allowUnsafe: false, seed: new Uint8Array(readFileSync(at(seed))) })), hex(stdout), `${seed} ${type}`);
      }
    }
  });

  test('is the program here and now: without a seed both versions, with one the new', async () => {
    const [programs, seed] = [[oldGokey, await newGokey()], sealedSeed('m', new Uint8Array(randomBytes(64)))];
    const realms = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 30 }).filter((text) => !text.includes('\0') && !/\p{Surrogate}/u.test(text));
    const lengths = fc.oneof(fc.constant(undefined), fc.integer({ min: 8, max: 200 }));
    for (const [realm, type, length, seeded] of fc.sample(fc.tuple(realms, fc.constantFrom(...gokeyTypes), lengths, fc.boolean()), 60)) {
      const sized = type === 'pass' || type === 'raw' ? length : undefined;
      const expected = hex(gokey({ masterPassword: utf8('m'), realm, type, allowUnsafe: true, ...(sized === undefined ? {} : { length: sized }), ...(seeded ? { seed } : {}) }));
      for (const program of seeded ? programs.slice(1) : programs) {
        const { status, stdout } = spawnSync(program, ['-P', file('m', 'm'), `-r=${realm}`, '-t', type, '-u', ...(sized === undefined ? [] : ['-l', String(sized)]), ...(seeded ? ['-s', file('seed', seed)] : [])]);
        assert.equal(status, 0);
        assert.equal(hex(stdout), expected, `${program} ${JSON.stringify(realm)} ${type}`);
      }
    }
  });
});

describe('auxcred gokey', () => {
  const environment = (more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv => ({ PATH: process.env['PATH'], ...more });
  const run = (args: readonly string[], more?: NodeJS.ProcessEnv): { status: number | null; stdout: string; stderr: string } => spawnSync(process.execPath, ['dist/auxcred.cjs', 'gokey', ...args], { encoding: 'latin1', env: environment(more), input: '' });

  test('takes gokey\'s flags, and gives its bytes and its exit statuses', async () => {
    const program = await newGokey();
    const master = file('master', ' pw with spaces \n');
    const seed = file('seed', sealedSeed('pw with spaces', new Uint8Array(randomBytes(40))));
    const skipped = file('skipped', Buffer.concat([Buffer.alloc(9), readFileSync(seed)]));
    for (const args of [
      ['-P', master, '-r', 'x'], [`-P=${master}`, '-r=x', '-l=20'], [`--P=${master}`, '--r', 'x', '--t', 'raw', '--u'], ['-P', master, '-r', 'x', '-u=false', '-t', 'ec256'], ['-P', master, '-r', 'x', '-u=true', '-t', 'ec256'],
      ['-P', master, '-r', 'x', '-s', seed], ['-P', master, '-r', 'x', '-s', skipped, '-skip', '9'], ['-P', master, '-r', 'x', '-s', skipped], ['-P', master, '-r', 'x', '-s', seed, '-skip', '-1'], ['-P', master, '-r', 'x', '-s', seed, '-skip', '9999'], ['-P', master, '-r', 'x', '-skip', '-1'],
      ['-P', master], ['-P', master, '-r', 'x', '-l', '7'], ['-P', master, '-r', 'x', '-l', '0'], ['-P', master, '-r', 'x', '-l', 'abc'], ['-P', master, '-r', 'x', '-t', 'raw'], ['-P', master, '-r', 'x', '-t', 'foo'], ['-P', master, '-r', 'x', '-t', 'ed25519', '-u', '-l', '5'],
      ['-P', at('missing'), '-r', 'x'], ['-P', master, '-r', 'x', '-s', at('missing')], ['-P', master, '-r', 'x', '-zz'], ['-P', master, '-r', 'x', '-u=maybe'], ['-P', master, '-r'], ['-P', master, '-r', 'x', 'more', '-l', 'abc'],
    ]) {
      const [theirs, ours] = [spawnSync(program, args, { encoding: 'latin1', env: environment(), input: '' }), run(args)];
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

  test('refuses -p with the reason, and RSA with the way out', () => {
    const refused = run(['-p', 'pw', '-r', 'x']);
    assert.equal(refused.status, 2);
    assert.match(refused.stderr, /-p would show the master password to every process/);
    assert.ok(!refused.stderr.includes('pw:'));
    const { status, stderr } = run(['-P', file('plain', 'pw'), '-r', 'x', '-t', 'rsa4096', '-u']);
    assert.equal(status, 1);
    assert.match(stderr, /get = \["gokey", "-P", "FILE", "-s", "SEED", "-r", "\{name\}", "-t", "rsa4096"\]/);
  });
});
