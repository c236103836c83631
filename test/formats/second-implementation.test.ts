/**
 * docs/formats.md is enough to write auxcred again: test/second-implementation.py, in Python's standard library, checks
 * the vectors and fresh random ones.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { isKeyKind } from '../../src/derive/kind.ts';
import { realmDigest } from '../../src/derive/recipe.ts';
import { derivePublic, deriveSecret, realmOf } from '../../src/derive/secret.ts';
import { fingerprintKey, fixedKey, keyId, leafKey } from '../../src/derive/tree.ts';
import { recipeValue } from '../../src/derive/value.ts';
import { encodeFixed, fingerprintOf } from '../../src/fixed/file.ts';
import { manifestOf } from '../../src/manifest/manifest.ts';
import { Recipes } from '../../src/manifest/recipes.ts';
import { withFingerprint } from '../../src/provision/fingerprint.ts';
import { wordsOf } from '../../src/seeds/words.ts';
import { canonicalJson } from '../../src/system/json.ts';
import { recipes, seeds } from '../derive/arbitraries.ts';
import { hex, text } from '../derive/vectors.ts';

let folder = '';
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'auxcred-second-'));
});
after(() => {
  rmSync(folder, { recursive: true });
});

const judged = (of: string): { status: number | null; output: string } => {
  const { status, stdout, stderr } = spawnSync('python3', ['test/second-implementation.py', of], {
    encoding: 'utf8',
    maxBuffer: 64 << 20,
  });
  return { status, output: stdout + stderr };
};
const hexBytes = (maxLength: number) => fc.uint8Array({ minLength: 1, maxLength }).map(hex);
const draw = <T>(arbitrary: fc.Arbitrary<T>, numRuns: number): T[] => fc.sample(arbitrary, { numRuns });
const put = (name: string, content: unknown): void => {
  writeFileSync(join(folder, name), JSON.stringify(content));
};

test('computes every published vector alike', () => {
  assert.deepEqual(judged('test/vectors'), { status: 0, output: '' });
});

test('notices one wrong character in every file of vectors', () => {
  const copy = join(folder, 'copy');
  mkdirSync(copy);
  const faults = {
    canonical: ['"canonical": "{', '"canonical": "['],
    recipes: ['\\n{\\"counter', '\\n {\\"counter'],
    words: ['abandon art', 'abandon ark'],
    templates: ['"text": "x=V', '"text": "x=W'],
  } as const;
  for (const [name, [good, bad]] of Object.entries(faults)) {
    const vectors = readFileSync(`test/vectors/${name}.json`, 'utf8');
    assert.ok(vectors.includes(good), name);
    writeFileSync(join(copy, `${name}.json`), vectors.replace(good, bad));
  }
  const { status, output } = judged(copy);
  assert.equal(status, 1);
  assert.deepEqual(
    output
      .trim()
      .split('\n')
      .map((line) => line.split('.')[0])
      .sort(),
    Object.keys(faults).sort(),
  );
});

test('agrees with auxcred on random inputs', () => {
  put('kinds.json', {
    secrets: draw(fc.tuple(seeds, recipes), 60).map(([seed, recipe]) => {
      const value = deriveSecret(seed, recipe);
      const half = isKeyKind(recipe.options.kind) ? { public: text(derivePublic(seed, recipe) ?? assert.fail()) } : {};
      return {
        ...recipe,
        seed: hex(seed),
        params: realmOf(recipe).params,
        realmDigest: hex(realmDigest(recipe)),
        leaf: hex(leafKey(seed, realmOf(recipe))),
        ...half,
        ...(recipe.options.kind === 'bytes' ? { hex: hex(value) } : { text: text(value) }),
      };
    }),
  });
  put('fixed.json', {
    secrets: draw(
      fc.record({
        seed: seeds,
        path: fc.constantFrom('a', 'ä/日本', 'a b'),
        sequence: fc.maxSafeNat(),
        nonce: fc.uint8Array({ minLength: 24, maxLength: 24 }),
        value: fc.uint8Array({ minLength: 1, maxLength: 200 }),
      }),
      40,
    ).map(({ seed, path, sequence, nonce, value }) => ({
      seed: hex(seed),
      path,
      sequence,
      nonce: hex(nonce),
      value: hex(value),
      keyId: hex(keyId(seed)),
      key: hex(fixedKey(seed, path)),
      fingerprintKey: hex(fingerprintKey(seed)),
      fingerprint: fingerprintOf(seed, path, value),
      file: hex(encodeFixed(seed, path, sequence, value, nonce)),
    })),
  });
  put('canonical.json', {
    values: draw(fc.jsonValue({ noUnicodeString: false }), 300).map((value) => ({
      json: JSON.stringify(value),
      canonical: canonicalJson(value),
    })),
  });
  put('words.json', { seeds: draw(seeds, 20).map((seed) => ({ seed: hex(seed), words: wordsOf(seed) })) });
  put('recipes.json', {
    fingerprints: draw(
      fc.record({
        seed: seeds.map(hex),
        unit: fc.constantFrom('', 'a.service', 'b@.service'),
        credential: fc.constantFrom('a', 'a.pub'),
        value: hexBytes(300),
      }),
      20,
    ).map((one) => ({
      ...one,
      fingerprint: withFingerprint(Buffer.from(one.seed, 'hex'), (of) =>
        of('release', one.unit, one.credential, Buffer.from(one.value, 'hex')),
      ),
    })),
  });
  put('templates.json', {
    templates: draw(fc.tuple(templates, fc.string({ unit: 'grapheme', maxLength: 20 })), 150).map(
      ([template, value]) => ({
        secrets: { t: { kind: 'template', ...template } },
        values: { a: { text: value } },
        text: filled(template, value),
      }),
    ),
  });
  assert.deepEqual(judged(folder), { status: 0, output: '' });
});

/**
 * Texts with a secret in them, and characters that escapes and JSON care for; two braces in a row only where they are
 * meant.
 */
const texts = fc
  .array(
    fc.constantFrom(
      '{{a}}',
      '{{ a | url }}',
      '{{a|base64}}',
      '{{"{{"}}',
      '{.',
      '}',
      '"',
      '\\',
      '$',
      '`',
      '\n',
      '\t',
      ' ',
      'é',
      '😀',
      '\u2028',
      '/',
      'x',
    ),
    { maxLength: 8 },
  )
  .map((parts) => parts.join(''));
const keys = fc
  .oneof(
    fc.constantFrom('10', '9', '01', '-1', 'b', 'a', 'é', '\n', '"'),
    fc.string({ unit: 'grapheme', maxLength: 4 }),
  )
  .filter((key) => key !== '__proto__');
const numbers = fc
  .oneof(fc.integer(), fc.double({ noNaN: true, noDefaultInfinity: true }))
  .filter((value) => !Number.isInteger(value) || Number.isSafeInteger(value) || Math.abs(value) >= 1e21);
const { json: documents } = fc.letrec<{ json: unknown }>((tie) => ({
  json: fc.oneof(
    { maxDepth: 3 },
    texts,
    numbers,
    fc.boolean(),
    fc.constant(null),
    fc.array(tie('json'), { maxLength: 3 }),
    fc.dictionary(keys, tie('json'), { maxKeys: 4, noNullPrototype: true }),
  ),
}));
const templates = fc.oneof(
  texts.map((content) => ({ content })),
  documents.map((json) => ({ json })),
  fc
    .dictionary(fc.constantFrom('A', 'b_', '_9'), fc.oneof(texts, numbers, fc.boolean()), { noNullPrototype: true })
    .map((env) => ({ env })),
);

function filled(template: Readonly<Record<string, unknown>>, value: string): string {
  const { declarations, problems } = manifestOf([
    {
      path: 'x.json',
      text: JSON.stringify({ secret: { a: { kind: 'fixed' }, t: { kind: 'template', ...template } } }),
    },
  ]);
  assert.deepEqual(
    problems.filter(({ severity }) => severity === 'error'),
    [],
    JSON.stringify(template),
  );
  const made = new Recipes(declarations, {
    host: 'host/web1',
    epochs: new Map([['host/web1', 1]]),
    at: new Date(0),
    fixed: () => ({ sequence: 1, file: '', fingerprint: '' }),
  });
  return text(recipeValue(made.of('t'), { seedOf: () => assert.fail(), fixedValue: () => Buffer.from(value) }));
}
