import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { escapers } from '../../src/derive/escape.ts';
import { recipeValue } from '../../src/derive/value.ts';
import { manifestOf } from '../../src/manifest/manifest.ts';
import { Recipes } from '../../src/manifest/recipes.ts';
import { bytes, hex, text } from '../derive/vectors.ts';

const declared = (secrets: Readonly<Record<string, unknown>>) =>
  manifestOf([{ path: '/etc/auxcred/secrets.d/x.json', text: JSON.stringify({ secret: secrets }) }]);

/** The text of the template `t`, with `value` in place of each secret. */
function filled(template: Readonly<Record<string, unknown>>, value: string): string {
  const { declarations, problems } = declared({
    a: {},
    'b/c': { kind: 'age' },
    'a.public': {},
    t: { kind: 'template', ...template },
  });
  assert.deepEqual(
    problems.filter(({ severity }) => severity === 'error'),
    [],
  );
  const content = declarations.find(({ name }) => name === 't')?.content;
  assert.ok(content?.form === 'template');
  return Buffer.concat(
    content.pieces.map((piece) =>
      typeof piece === 'string'
        ? Buffer.from(piece)
        : piece.escapes.reduce((bytes: Uint8Array, one) => escapers[one](bytes), Buffer.from(value)),
    ),
  ).toString();
}

/** A file of variables, as read by a shell. */
function sourced(shell: string, file: string, name: string): string {
  const { stdout, status } = spawnSync(shell, ['-c', `eval "$(cat)"; printf '%s.' "$${name}"`], {
    input: file,
    encoding: 'utf8',
  });
  assert.equal(status, 0);
  return stdout.slice(0, -1);
}

/** Any value that a vault or a person may supply, except NUL, which no variable can hold. */
const nasty = fc.string({
  unit: fc.constantFrom(
    '"',
    '\\',
    '$',
    '`',
    "'",
    '\n',
    '\t',
    ' ',
    '#',
    '!',
    '{',
    '}',
    '=',
    '$(id)',
    '${x}',
    '%',
    'ä',
    '\u2028',
    'a',
  ),
  maxLength: 12,
});

describe('a template', () => {
  test('fills in secrets, and keeps its own text', () => {
    assert.equal(filled({ content: 'x={{a}} y={{ b/c.public }} {{ "{{" }}a}} {{"}}"}}\n' }, 'V'), 'x=V y=V {{a}} }}\n');
    assert.equal(
      filled({ content: '{{a | url}}{{a|base64}}{{a|json}}{{a|env}}{{a | base64 | json}}' }, 'ä"$'),
      '%C3%A4%22%24w6QiJA=="ä\\"$""ä\\"\\$""w6QiJA=="',
    );
  });

  test('prefers a secret with the whole name over a part of another secret', () => {
    const { declarations } = declared({
      a: { kind: 'age' },
      'a.public': {},
      t: { kind: 'template', content: '{{a.public}}' },
    });
    assert.equal(declarations.length, 3);
    assert.equal(filled({ content: '{{a.public}}' }, 'V'), 'V');
  });

  test('of JSON says what the manifest says, whatever the secret is', () => {
    fc.assert(
      fc.property(nasty, nasty, (value, around) => {
        fc.pre(!around.includes('{') && !around.includes('__proto__'));
        const json = {
          text: `${around}{{a}}${around}`,
          list: [1, 2.5, true, null, '{{a}}', [], {}],
          [around]: { deep: '{{a | base64}}' },
        };
        assert.deepEqual(JSON.parse(filled({ json }, value)), {
          text: `${around}${value}${around}`,
          list: [1, 2.5, true, null, value, [], {}],
          [around]: { deep: Buffer.from(value).toString('base64') },
        });
      }),
    );
  });

  for (const shell of ['dash', 'bash'])
    test(`of variables is read by ${shell} as what the manifest says, whatever the secret is`, () => {
      fc.assert(
        fc.property(nasty, nasty, (value, around) => {
          fc.pre(!around.includes('{') && !around.includes('__proto__'));
          const file = filled({ env: { FIRST: `${around}{{a}}${around}`, PORT: 5432, ON: true } }, value);
          assert.equal(sourced(shell, file, 'FIRST'), `${around}${value}${around}`);
          assert.equal(sourced(shell, file, 'PORT'), '5432');
        }),
        { numRuns: 60 },
      );
    });
});

interface Vectors {
  templates: {
    what: string;
    secrets: Record<string, { kind: string }>;
    values: Record<string, { text: string } | { hex: string }>;
    text?: string;
    hex?: string;
  }[];
  invalid: { what: string; template: Record<string, unknown>; says: string }[];
}
const vectors: Vectors = JSON.parse(readFileSync('test/vectors/templates.json', 'utf8'));

/** What `t` becomes with these values: through recipes, as a machine makes it. */
function made(secrets: Readonly<Record<string, unknown>>, values: Vectors['templates'][number]['values']): Uint8Array {
  const fixed = Object.fromEntries(Object.keys(values).map((name) => [name, { kind: 'fixed' }]));
  const { declarations, problems } = declared({ ...fixed, ...secrets });
  assert.deepEqual(
    problems.filter(({ severity }) => severity === 'error'),
    [],
  );
  const recipes = new Recipes(declarations, {
    host: 'host/web1',
    epochs: new Map([['host/web1', 1]]),
    at: new Date(0),
    fixed: () => ({ sequence: 1, file: '', fingerprint: '' }),
  });
  return recipeValue(recipes.of('t'), {
    seedOf: () => assert.fail('nothing is derived'),
    fixedValue: ({ path }) => {
      const value = values[path] ?? assert.fail(path);
      return 'hex' in value ? bytes(value.hex) : Buffer.from(value.text);
    },
  });
}

describe('the published vectors', () => {
  for (const { what, secrets, values, text: expected, hex: expectedBytes } of vectors.templates)
    test(`have ${what}`, () => {
      const value = made(secrets, values);
      if (expected === undefined) assert.equal(hex(value), expectedBytes);
      else assert.equal(text(value), expected);
    });

  for (const { what, template, says } of vectors.invalid)
    test(`have, as an error, ${what}`, () => {
      const { problems } = declared({
        a: {},
        b: { kind: 'bytes' },
        k: { kind: 'age', rotate: 'monthly', previous: true },
        t: { kind: 'template', ...template, units: ['a.service'] },
      });
      const errors = problems.filter(({ severity }) => severity === 'error');
      assert.equal(errors.length, 1, JSON.stringify(errors));
      assert.ok(errors[0]?.message.includes(says), errors[0]?.message);
    });
});

test('numbers of TOML are those of JSON, and an inexact number is an error', () => {
  const read = (line: string): string[] =>
    manifestOf([
      { path: 'x.toml', text: `[secret.t]\nkind = "template"\nunits = ["a.service"]\n${line}\n` },
    ]).declarations.flatMap(({ content }) => (content.form === 'template' ? content.pieces.map(String) : []));
  assert.deepEqual(read('json = [1.0, -0.0, 0x10, 1_000, 1e-7, 1e21, 9007199254740991]'), [
    '[\n  1,\n  0,\n  16,\n  1000,\n  1e-7,\n  1e+21,\n  9007199254740991\n]\n',
  ]);
  assert.deepEqual(read('env = { A = 1.0, B = -0.0, C = 0o17, D = true }'), ['A="1"\nB="0"\nC="15"\nD="true"\n']);
  for (const bad of ['inf', '-inf', 'nan', '1e20', '9007199254740993']) {
    for (const line of [`json = [${bad}]`, `env = { A = ${bad} }`]) assert.deepEqual(read(line), [], line);
  }
});

test('a manifest with half a surrogate pair is an error, in a text and in a name', () => {
  for (const json of [
    '{"secret":{"t":{"kind":"template","content":"\\ud83d"}}}',
    '{"secret":{"a\\udc00":{}}}',
    '{"secret":{"t":{"kind":"vault","vault":"v","options":{"\\ud800":"x"}}}}',
  ]) {
    const { problems, declarations } = manifestOf([{ path: 'x.json', text: json }]);
    assert.deepEqual(
      [problems.map(({ message }) => message), declarations],
      [['a string in it has half a surrogate pair'], []],
      json,
    );
  }
  const depth = 20_000;
  const { problems } = manifestOf([
    { path: 'x.json', text: `{"a":${'['.repeat(depth)}"\\ud83d"${']'.repeat(depth)}}` },
  ]);
  assert.deepEqual(
    problems.map(({ message }) => message),
    ['a string in it has half a surrogate pair'],
  );
});

describe('circles', () => {
  const template = (content: string) => ({ kind: 'template', content, units: ['a.service'] });
  const messages = (secrets: Readonly<Record<string, unknown>>): string[] =>
    declared(secrets)
      .problems.filter(({ severity }) => severity === 'error')
      .map(({ message }) => message);
  test('are each shown once, with the whole chain', () => {
    assert.deepEqual(
      messages({
        a: template('{{b}}'),
        b: template('{{c}}'),
        c: template('{{a}}'),
        x: template('{{y}}'),
        y: template('{{x}}'),
        z: template('{{a}}'),
      }),
      ['it is made of itself: a -> b -> c -> a', 'it is made of itself: x -> y -> x'],
    );
  });
  test('are all found, and nothing else is reported', () => {
    const names = ['a', 'b', 'c', 'd', 'e', 'f'];
    const graph = fc.tuple(...names.map(() => fc.uniqueArray(fc.constantFrom(...names), { maxLength: 3 })));
    fc.assert(
      fc.property(graph, (edges) => {
        const parts = new Map(names.map((name, i) => [name, edges[i] ?? []]));
        // A secret with no parts left is not on a circle.
        const left = new Set(names);
        for (let before = -1; before !== left.size; ) {
          before = left.size;
          for (const name of left) if (parts.get(name)?.every((part) => !left.has(part)) === true) left.delete(name);
        }
        const secrets = Object.fromEntries(
          [...parts].map(([name, these]) => [name, template(these.map((part) => `{{${part}}}`).join(''))]),
        );
        const found = messages(secrets).map((message) =>
          (/^it is made of itself: (.*)$/.exec(message)?.[1] ?? assert.fail(message)).split(' -> '),
        );
        assert.equal(found.length > 0, left.size > 0);
        for (const circle of found) {
          assert.equal(circle[0], circle.at(-1));
          circle.slice(1).forEach((name, i) => {
            assert.ok(parts.get(circle[i] ?? '')?.includes(name));
          });
        }
      }),
      { numRuns: 500 },
    );
  });
  test('secrets that are used twice are not circles', () => {
    assert.deepEqual(
      messages({ p: {}, a: template('{{p}}{{b}}{{c}}'), b: template('{{p}}'), c: template('{{b}}{{p}}') }),
      [],
    );
  });
});

describe('excessive templates', () => {
  const chain = (length: number): Record<string, unknown> =>
    Object.fromEntries([
      ['t0', {}],
      ...Array.from({ length }, (_, i): [string, unknown] => [
        `t${String(i + 1)}`,
        { kind: 'template', content: `{{t${String(i)}}}`, units: ['a.service'] },
      ]),
    ]);
  const errors = (secrets: Readonly<Record<string, unknown>>): string[] =>
    declared(secrets)
      .problems.filter(({ severity }) => severity === 'error')
      .map(({ key, message }) => `${key ?? ''}: ${message}`);

  test('are refused once, at the first that is nested too deeply, however many there are', () => {
    assert.deepEqual(errors(chain(32)), []);
    for (const length of [33, 20_000])
      assert.deepEqual(errors(chain(length)), ['secret.t33: templates are nested more than 32 deep in it']);
  });

  test('are refused for secrets that stand in them too often, though these have no size yet', () => {
    const doubled = Object.fromEntries(
      Array.from({ length: 30 }, (_, i): [string, unknown] => [
        `t${String(i + 1)}`,
        { kind: 'template', content: `{{t${String(i)}}}`.repeat(2), units: ['a.service'] },
      ]),
    );
    assert.deepEqual(errors({ t0: { kind: 'fixed' }, ...doubled }), [
      'secret.t14: more than 10000 secrets stand in it',
    ]);
  });

  test('are refused for a circle of any length, named without its middle', () => {
    const circle = { ...chain(20_000), t0: { kind: 'template', content: '{{t20000}}' } };
    assert.deepEqual(errors(circle), [
      'secret.t0: it is made of itself: ' +
        `${['t0', ...Array.from({ length: 9 }, (_, i) => `t${String(20_000 - i)}`)].join(' -> ')} -> 19982 more -> ` +
        `${Array.from({ length: 10 }, (_, i) => `t${String(9 - i)}`).join(' -> ')}`,
    ]);
  });

  test('are refused for lists and tables that are nested too deeply, in JSON and in TOML', () => {
    const nested = (depth: number): string => `${'['.repeat(depth)}1${']'.repeat(depth)}`;
    const problems = (path: string, text: string): string[] =>
      manifestOf([{ path, text }]).problems.map(({ message }) => message);
    for (const depth of [64, 65, 20_000]) {
      const found = problems(
        '/a.json',
        `{"secret":{"t":{"kind":"template","units":["a.service"],"json":${nested(depth)}}}}`,
      );
      assert.deepEqual(found, depth === 64 ? [] : ['lists and tables are nested more than 64 deep']);
    }
    assert.match(
      problems('/a.toml', `[secret.t]\nkind = "template"\nunits = ["a.service"]\njson = ${nested(20_000)}\n`).join(),
      /nested/,
    );
    assert.deepEqual(
      problems('/a.toml', `[secret.t]\nkind = "template"\nunits = ["a.service"]\njson.${'a.'.repeat(20_000)}b = 1\n`),
      ['lists and tables are nested more than 64 deep'],
    );
  });
});

test('a secret that is only part of another one needs no unit', () => {
  const { problems } = declared({
    p: {},
    h: { kind: 'crypt', of: 'p' },
    t: { kind: 'template', content: '{{h}}', units: ['a.service'] },
  });
  assert.deepEqual(problems, []);
});

test('a misspelt name has a suggestion', () => {
  const { problems } = declared({
    'db-password': {},
    t: { kind: 'template', content: '{{db-pasword}}', units: ['a.service'] },
  });
  assert.equal(problems.find(({ severity }) => severity === 'error')?.hint, 'did you mean db-password?');
});
