/** Hashes of crypt(5), checked against libxcrypt's own settings, mkpasswd and perl. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { computeHash, hashSetting } from '../../src/derive/hash.ts';
import { type HashMethod, hashMethods, hashRounds, longestPhrase } from '../../src/derive/hash-methods.ts';
import { openHash, saltOf, sealHash } from '../../src/derive/hash-seal.ts';
import type { Derived, Hashed } from '../../src/derive/recipe.ts';
import { deriveSecret } from '../../src/derive/secret.ts';
import type { Sources } from '../../src/derive/value.ts';
import { Failure } from '../../src/failure.ts';
import { cryptHash } from '../../src/system/crypt.ts';
import { bind } from '../../src/system/ffi.ts';
import { isFailure } from '../age/expect.ts';
import { alnum, passphrases, passwords, seeds } from './arbitraries.ts';
import { Folder } from './folder.ts';
import { bytes, hashVectors, hex, text } from './vectors.ts';

const seed = bytes(`${'00'.repeat(31)}2a`);
const hashed = (of: Omit<Derived, 'form'>): Derived => ({ form: 'derived', ...of });
const salts = fc.uint8Array({ minLength: 16, maxLength: 16 });
let folder: Folder;
before(() => {
  folder = new Folder();
});
after(() => {
  folder.remove();
});

const from = (scope: Uint8Array): Sources => ({
  seedOf: () => scope,
  fixedValue: () => assert.fail('no secret is fixed'),
});

test('salts, settings and hashes are those of the published vectors', () => {
  for (const method of hashMethods)
    assert.ok(hashVectors.hashes.filter((vector) => vector.method === method).length > 10);
  for (const vector of hashVectors.hashes) {
    const recipe = {
      form: 'crypt',
      name: vector.name,
      method: vector.method,
      rounds: vector.rounds,
      of: hashed(vector.of),
    } as const;
    const scope = bytes(vector.seed);
    assert.equal(text(deriveSecret(scope, vector.of)), vector.phrase);
    assert.equal(hex(saltOf(scope, recipe)), vector.salt);
    assert.equal(hashSetting(vector.method, vector.rounds, bytes(vector.salt)), vector.setting);
    assert.equal(computeHash(from(scope), recipe), vector.sealed);
    assert.equal(text(openHash(scope, { ...recipe, sealed: vector.sealed })), vector.hash);
  }
});

test('sealed hashes of the published vectors that belong to something else, or were changed, do not open', () => {
  assert.ok(hashVectors.invalid.length > 0);
  for (const { what, seed: scope, name, method, rounds, of, sealed, failure } of hashVectors.invalid) {
    assert.throws(
      () => openHash(bytes(scope), { form: 'crypt', name, method, rounds, of: hashed(of), sealed }),
      isFailure(failure),
      what,
    );
  }
});

test("what libcrypt can't hash is a failure of the system, without the phrase in it", () => {
  assert.ok(hashVectors.unhashable.length > 0);
  for (const { what, phrase, setting, failure } of hashVectors.unhashable) {
    assert.throws(
      () => cryptHash(Buffer.from(phrase), setting),
      (error) => error instanceof Failure && error.code === failure && !error.message.includes(phrase),
      what,
    );
  }
});

test('libcrypt hashes phrases up to the longest that the manifest allows, and no longer ones', () => {
  for (const method of ['yescrypt', 'sha512-crypt'] as const) {
    const setting = hashSetting(method, hashRounds[method].least, new Uint8Array(16));
    assert.match(text(cryptHash(new Uint8Array(longestPhrase[method]).fill(0x61), setting)), /^\$/);
    assert.throws(() => cryptHash(new Uint8Array(longestPhrase[method] + 1).fill(0x61), setting), isFailure('system'));
  }
  const bcrypt = hashSetting('bcrypt', hashRounds.bcrypt.least, new Uint8Array(16));
  const [whole, longer] = [0, 1].map((more) =>
    text(cryptHash(new Uint8Array(longestPhrase.bcrypt + more).fill(0x61), bcrypt)),
  );
  assert.equal(whole, longer);
});

test('a phrase that is longer than its method can read is not hashed', () => {
  for (const method of hashMethods) {
    const of = hashed({
      scope: 'host/web1',
      epoch: 1,
      name: 'a',
      options: { kind: 'password', length: longestPhrase[method] + 1, alphabet: alnum, require: [] },
      period: '',
      generation: 1,
    });
    assert.throws(
      () => computeHash(from(seed), { form: 'crypt', name: 'h', method, rounds: hashRounds[method].least, of }),
      (error) =>
        error instanceof Failure &&
        error.message.includes(`a has more than the ${String(longestPhrase[method])} bytes that ${method} reads`),
    );
  }
});

test('settings equal those of crypt_gensalt(3) for the same salt, at every cost', () => {
  const { crypt_gensalt_rn: generate } = bind('libcrypt.so.1', { crypt_gensalt_rn: 'p:slpipi' });
  const judged = (method: HashMethod, rounds: number, salt: Uint8Array): string => {
    const output = new Uint8Array(192);
    const prefix = { yescrypt: '$y$', 'sha512-crypt': '$6$', bcrypt: '$2b$' }[method];
    assert.notEqual(generate(prefix, rounds, salt, salt.length, output, output.length), 0n);
    return text(output.subarray(0, output.indexOf(0)));
  };
  const costs = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i);
  const { yescrypt, bcrypt, 'sha512-crypt': sha512 } = hashRounds;
  fc.assert(
    fc.property(salts, fc.integer({ min: sha512.least, max: sha512.most }), (salt, any) => {
      for (const rounds of costs(yescrypt.least, yescrypt.most))
        assert.equal(hashSetting('yescrypt', rounds, salt), judged('yescrypt', rounds, salt));
      for (const rounds of costs(bcrypt.least, bcrypt.most))
        assert.equal(hashSetting('bcrypt', rounds, salt), judged('bcrypt', rounds, salt));
      for (const rounds of [sha512.least, sha512.usual - 1, sha512.usual, sha512.usual + 1, sha512.most, any])
        assert.equal(hashSetting('sha512-crypt', rounds, salt), judged('sha512-crypt', rounds, salt));
    }),
    { numRuns: 50 },
  );
});

/** Each with a cost for which mkpasswd takes a moment, and the lowest. */
const judgedCosts: readonly (readonly [HashMethod, string, number])[] = [
  ...[1, 2, 3, 4, 5].map((rounds) => ['yescrypt', 'yescrypt', rounds] as const),
  ...[1000, 4999, 5000, 5001, 20000].map((rounds) => ['sha512-crypt', 'sha512crypt', rounds] as const),
  // mkpasswd raises bcrypt's cost to 5; perl checks 4.
  ...[5, 8].map((rounds) => ['bcrypt', 'bcrypt', rounds] as const),
];

test('mkpasswd makes the same hash of the same phrase, cost and salt', () => {
  for (const [method, name, rounds] of judgedCosts) {
    const [phrase = ''] = fc.sample(
      fc.string({ unit: fc.constantFrom(...alnum, ' ', '$', 'é', '"'), minLength: 1, maxLength: 60 }),
      1,
    );
    const [salt = new Uint8Array(16)] = fc.sample(salts, 1);
    const setting = hashSetting(method, rounds, salt);
    const ours = text(cryptHash(Buffer.from(phrase), setting));
    // A salt that begins with a dollar goes to crypt(3) as it is: the whole setting.
    assert.equal(
      folder.run('mkpasswd', ['--stdin', `--method=${name}`, `--salt=${setting}`], `${phrase}\n`).toString(),
      `${ours}\n`,
    );
    if (method === 'yescrypt') continue;
    // These two methods also take the cost and the bare salt.
    const bare = setting.slice(setting.lastIndexOf('$') + 1);
    assert.equal(
      folder
        .run('mkpasswd', ['--stdin', `--method=${name}`, `--rounds=${String(rounds)}`, `--salt=${bare}`], `${phrase}\n`)
        .toString()
        .replace('rounds=5000$', ''),
      `${ours}\n`,
    );
  }
});

test('mkpasswd writes costs of yescrypt alike', () => {
  for (const rounds of [1, 2, 3, 4, 5]) {
    const [, , , parameters] =
      /^(\$)(y)\$(.{3})\$/.exec(
        folder.run('mkpasswd', ['--stdin', '--method=yescrypt', `--rounds=${String(rounds)}`], 'phrase\n').toString(),
      ) ?? [];
    assert.equal(hashSetting('yescrypt', rounds, new Uint8Array(16)).slice(3, 6), parameters);
  }
});

test('perl makes the same hashes, and every hash verifies its phrase and no other', () => {
  const cases = fc
    .sample(fc.tuple(seeds, fc.oneof(passwords, passphrases), fc.constantFrom(...hashMethods)), 40)
    .map(([scope, options, method]) => {
      const of: Derived = {
        form: 'derived',
        scope: 'host/web1',
        epoch: 1,
        name: 'login',
        options,
        period: '',
        generation: 1,
      };
      return { scope, of, method, phrase: text(deriveSecret(scope, of)) };
    })
    .filter(({ phrase }) => phrase.length <= 72)
    .map(({ scope, of, method, phrase }) => {
      const recipe: Hashed = { form: 'crypt', name: 'hash', method, rounds: hashRounds[method].least, of, sealed: '' };
      return { phrase, hash: text(openHash(scope, { ...recipe, sealed: computeHash(from(scope), recipe) })) };
    });
  const judge = (phrases: readonly string[]): string[] =>
    folder
      .run(
        'perl',
        ['-ne', 'chomp; my ($phrase, $setting) = split /\\t/; print crypt($phrase, $setting), "\\n"'],
        cases.map(({ hash }, i) => `${phrases[i] ?? ''}\t${hash}\n`).join(''),
      )
      .toString()
      .trimEnd()
      .split('\n');
  assert.deepEqual(
    judge(cases.map(({ phrase }) => phrase)),
    cases.map(({ hash }) => hash),
  );
  judge(cases.map(({ phrase }) => `x${phrase.slice(1)}y`)).forEach((other, i) => {
    assert.notEqual(other, cases[i]?.hash);
  });
});

test('a sealed hash opens again, and its bytes are nowhere in it', () => {
  const recipe: Hashed = {
    form: 'crypt',
    name: 'hash',
    method: 'yescrypt',
    rounds: 1,
    of: {
      form: 'derived',
      scope: 'host/web1',
      epoch: 1,
      name: 'login',
      options: { kind: 'uuid' },
      period: '',
      generation: 1,
    },
    sealed: '',
  };
  fc.assert(
    fc.property(seeds, fc.uint8Array({ minLength: 16, maxLength: 120 }), (scope, hash) => {
      const sealed = sealHash(scope, recipe, Uint8Array.from(hash));
      assert.deepEqual(new Uint8Array(openHash(scope, { ...recipe, sealed })), hash);
      assert.ok(!Buffer.from(sealed, 'base64').includes(Buffer.from(hash)));
      assert.throws(() => openHash(seed, { ...recipe, sealed }), isFailure('malformed'));
    }),
    { numRuns: 50 },
  );
});
