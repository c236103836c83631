/** The values of recipes, and escapes, checked by the programs that read them. */
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { type Escape, escapers } from '../../src/derive/escape.ts';
import { computeHash } from '../../src/derive/hash.ts';
import { type KindOptions, keyKinds } from '../../src/derive/kind.ts';
import {
  type Composed,
  type Derived,
  type Fixed,
  type Hashed,
  ingredients,
  kindOf,
  nameOf,
  type Recipe,
  sameRecipe,
} from '../../src/derive/recipe.ts';
import { derivePublic, deriveSecret } from '../../src/derive/secret.ts';
import { recipeValue, type SeedOf, type Sources } from '../../src/derive/value.ts';
import { Failure } from '../../src/failure.ts';
import { isFailure } from '../age/expect.ts';
import { options } from './arbitraries.ts';
import { Folder } from './folder.ts';
import { bytes, hex, text } from './vectors.ts';

const held = new Map([
  ['host/web1 1', bytes('11'.repeat(32))],
  ['group/db 2', bytes('22'.repeat(32))],
]);
const seedOf: SeedOf = (scope, epoch) => {
  const seed = held.get(`${scope} ${String(epoch)}`);
  if (!seed) throw new Failure('not-found', `no seed of ${scope}`);
  return seed;
};
const sources: Sources = { seedOf, fixedValue: () => assert.fail('no secret is fixed') };
const derived = (name: string, shape: KindOptions, scope = 'host/web1', epoch = 1): Derived => ({
  form: 'derived',
  scope,
  epoch,
  name,
  options: shape,
  period: '',
  generation: 1,
});
const secretOf = (recipe: Derived): string => text(deriveSecret(seedOf(recipe.scope, recipe.epoch), recipe));
const template = (...pieces: Composed['pieces']): Composed => ({ form: 'template', name: 'made', pieces });
const slot = (of: Recipe, ...escapes: Escape[]): { of: Recipe; escapes: Escape[] } => ({ of, escapes });
const value = (recipe: Recipe): string => text(recipeValue(recipe, sources));

const password = derived(
  'db-password',
  { kind: 'password', length: 40, alphabet: '!"#$%&\'()*+,-./:;<=>?@[\\]^_`{|}~', require: [] },
  'group/db',
  2,
);
const token = derived('token', { kind: 'base64', bytes: 33 });
const key = derived('login', { kind: 'ssh-ed25519', comment: 'login@web1' });
const shadow = ((): Hashed => {
  const recipe = { form: 'crypt', name: 'shadow', method: 'sha512-crypt', rounds: 1000, of: password } as const;
  return { ...recipe, sealed: computeHash(sources, recipe) };
})();

describe('the value of a recipe', () => {
  test('is the secret itself, its public half, or its hash', () => {
    assert.equal(value(password), secretOf(password));
    for (const kind of keyKinds) {
      const pair = derived('pair', kind === 'ssh-ed25519' ? { kind, comment: 'c' } : { kind });
      assert.equal(
        hex(recipeValue({ form: 'public', of: pair }, sources)),
        hex(derivePublic(seedOf('host/web1', 1), pair) ?? new Uint8Array(0)),
      );
    }
    assert.match(value(shadow), /^\$6\$rounds=1000\$[./0-9A-Za-z]{16}\$[./0-9A-Za-z]{86}$/);
  });

  test('of a template is its texts with the values between them, however deep', () => {
    const inner = template('<', slot(password), '|', slot(shadow), '>');
    const middle = template(slot(inner), 'é', slot(inner, 'base64'));
    const outer = template('', slot(middle, 'url'), slot({ form: 'public', of: key }), '\n');
    const innermost = `<${secretOf(password)}|${value(shadow)}>`;
    assert.equal(value(inner), innermost);
    assert.equal(value(middle), `${innermost}é${Buffer.from(innermost).toString('base64')}`);
    const [, blob = ''] = value({ form: 'public', of: key }).split(' ');
    assert.equal(
      value(outer),
      `${encodeURIComponent(value(middle)).replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`)}ssh-ed25519 ${blob} login@web1\n`,
    );
    assert.equal(value(template()), '');
  });

  test('is escaped from the innermost outwards', () => {
    assert.equal(
      value(template(slot(password, 'base64', 'url', 'json'))),
      encodeURIComponent(Buffer.from(secretOf(password)).toString('base64')),
    );
    assert.equal(
      JSON.parse(`"${JSON.parse(`"${value(template(slot(password, 'json', 'json')))}"`)}"`),
      secretOf(password),
    );
  });

  test('does not exist without the seed of its scope and epoch, wherever it stands', () => {
    for (const foreign of [
      { ...password, epoch: 1 },
      { ...password, scope: 'group/other' },
      { ...key, scope: 'host/web2' },
    ]) {
      const recipes: Recipe[] = [
        foreign,
        { form: 'public', of: foreign },
        { ...shadow, of: foreign },
        template('a', slot(foreign)),
        template(slot(template(slot(token), slot(foreign, 'json')))),
      ];
      for (const recipe of recipes) assert.throws(() => recipeValue(recipe, sources), isFailure('not-found'));
    }
  });

  test("does not exist if a secret has no public half, or if its hash is not computed or another secret's", () => {
    assert.throws(
      () => recipeValue({ form: 'public', of: password }, sources),
      isFailure('malformed', /^a password secret has no public half$/),
    );
    for (const broken of [
      { ...shadow, sealed: '' },
      { ...shadow, rounds: 1001 },
      { ...shadow, of: { ...password, generation: 2 } },
    ]) {
      assert.throws(
        () => recipeValue(template(slot(broken)), sources),
        isFailure('malformed', /^the hash shadow is not a hash of db-password$/),
      );
    }
  });

  test('of a template leaves nothing behind if a later part fails', () => {
    const chosen = Uint8Array.from(Buffer.from('chosen'));
    const pin: Fixed = {
      form: 'fixed',
      name: 'pin',
      scope: 'host/web1',
      epoch: 1,
      path: 'pin',
      sequence: 1,
      file: '',
      fingerprint: '',
    };
    const broken = template(slot(pin), slot({ ...password, epoch: 1 }));
    assert.throws(() => recipeValue(broken, { seedOf, fixedValue: () => chosen }), isFailure('not-found'));
    assert.deepEqual(chosen, new Uint8Array(6));
  });

  test('leaves the seeds as they are', () => {
    fc.assert(
      fc.property(options, (shape) => {
        recipeValue(template(slot(derived('a', shape), 'base64'), slot(derived('b', shape, 'group/db', 2))), sources);
        assert.deepEqual([...held.values()].map(hex), ['11'.repeat(32), '22'.repeat(32)]);
      }),
      { numRuns: 50 },
    );
  });
});

test('a recipe names its kind, its secret and what it is made of', () => {
  const made = template('x', slot(template(slot(token), slot(shadow))), slot({ form: 'public', of: key }));
  assert.deepEqual(ingredients(made), [token, password, key]);
  assert.deepEqual(
    [password, shadow, made, { form: 'public' as const, of: key }].map((recipe) => [kindOf(recipe), nameOf(recipe)]),
    [
      ['password', 'db-password'],
      ['crypt', 'shadow'],
      ['template', 'made'],
      ['public', 'login'],
    ],
  );
});

test('recipes are the same if they yield the same: the encrypted hash does not count', () => {
  assert.ok(sameRecipe(template('a', slot(shadow)), template('a', slot({ ...shadow, sealed: '' }))));
  assert.ok(!sameRecipe(template('a', slot(shadow)), template('a', slot({ ...shadow, rounds: 1001 }))));
  assert.ok(!sameRecipe(template('a', slot(token)), template('a', slot(token, 'url'))));
  assert.ok(!sameRecipe(key, { form: 'public', of: key }));
});

const texts = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({
    unit: fc.constantFrom(
      '"',
      '\\',
      '$',
      '`',
      '\n',
      '\r',
      '\t',
      '\0',
      '\x7f',
      "'",
      '%',
      '!',
      '\u2028',
      '€',
      '{',
      'u',
      'n',
      '0',
    ),
  }),
);

test('JSON: the escaped text reads back as the same text', () => {
  fc.assert(
    fc.property(texts, (original) => {
      assert.equal(JSON.parse(`{"a":"${text(escapers.json(Buffer.from(original)))}"}`).a, original);
    }),
    { numRuns: 1000 },
  );
});

test('URL: only unreserved characters and percent codes are left, and read back as the same text', () => {
  fc.assert(
    fc.property(texts, (original) => {
      const escaped = text(escapers.url(Buffer.from(original)));
      assert.match(escaped, /^(?:[A-Za-z0-9._~-]|%[0-9A-F]{2})*$/);
      assert.equal(decodeURIComponent(escaped), original);
      const address = new URL(`postgres://user:${escaped}@db.example:5432/${escaped}?q=${escaped}`);
      assert.equal(address.host, 'db.example:5432');
      assert.equal(decodeURIComponent(address.password), original);
      assert.equal(address.searchParams.get('q'), original);
    }),
    { numRuns: 1000 },
  );
});

test('base64: any bytes read back the same', () => {
  fc.assert(
    fc.property(fc.uint8Array(), (original) => {
      assert.equal(text(escapers.base64(original)), Buffer.from(original).toString('base64'));
    }),
  );
});

describe('variables', () => {
  let folder: Folder;
  before(() => {
    folder = new Folder();
  });
  after(() => {
    folder.remove();
  });

  /** `X0="..."` and so on, each between double quotes. */
  const assigned = (names: readonly string[], values: readonly Uint8Array[]): Buffer =>
    Buffer.concat(
      values.flatMap((each, i) => [Buffer.from(`${names[i] ?? ''}="`), escapers.env(each), Buffer.from('"\n')]),
    );

  const nasty = fc.constantFrom(...Buffer.from('"\\$`\n\r\t \'!#&;|<>(){}[]*?~=%abcX0é'));
  const contents = fc.oneof(
    fc.uint8Array({ min: 1, maxLength: 40 }),
    fc.array(nasty, { maxLength: 40 }).map((list) => Uint8Array.from(list)),
  );

  for (const shell of ['dash', 'bash']) {
    test(`${shell} reads any bytes back, and runs nothing of them`, () => {
      const values = [
        ...fc.sample(contents, 500),
        ...[
          '$(touch ran)',
          '`touch ran`',
          '"; touch ran; "',
          '\\',
          '\\"',
          '\\\n',
          '\\\\$HOME',
          '$HOME',
          '${HOME}',
          '\n\n',
          '!!',
        ].map((each) => new Uint8Array(Buffer.from(each))),
      ];
      const names = values.map((_, i) => `AUXCRED_${String(i)}`);
      folder.write('vars', assigned(names, values));
      const output = folder.run(shell, ['-c', 'set -a; . ./vars; env -0']).toString('latin1');
      const read = new Map(
        output.split('\0').map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
      );
      values.forEach((each, i) => {
        assert.equal(read.get(names[i] ?? ''), Buffer.from(each).toString('latin1'));
      });
      assert.throws(() => folder.read('ran'), { code: 'ENOENT' });
    });
  }

  test('systemd reads any text back: os-release has the grammar of EnvironmentFile=', () => {
    // systemd's own reader (src/basic/env-file.c) shows its work in systemd-tmpfiles, which writes these fields into
    // files.
    const fields = [
      ['ID', 'o'],
      ['VERSION_ID', 'w'],
      ['VARIANT_ID', 'W'],
      ['BUILD_ID', 'B'],
    ] as const;
    const names = fields.map(([name]) => name);
    const config = folder.write(
      'show.conf',
      fields.map(([name, specifier]) => `f+ /${name} - - - - %${specifier}\n`).join(''),
    );
    mkdirSync(join(folder.path, 'root/etc'), { recursive: true });
    const nastyTexts = fc.oneof(
      fc.string({
        unit: fc.constantFrom('"', '\\', '$', '`', '\n', '\r', '\t', ' ', "'", '#', ';', '=', '%', '%o', 'a', 'é', '€'),
        minLength: 1,
        maxLength: 40,
      }),
      // systemd takes no text with NUL or with one of Unicode's noncharacters.
      fc
        .string({ unit: 'binary', minLength: 1, maxLength: 40 })
        .map((each) => each.replaceAll(/[\0\p{Noncharacter_Code_Point}]/gu, 'x')),
    );
    const values = [...fc.sample(nastyTexts, 114), '\\', '\\"', '\\\n', '$HOME', '`id`', '"\nID="evil'];
    for (let i = 0; i < values.length; i += fields.length) {
      const six = values.slice(i, i + fields.length);
      folder.write(
        'root/etc/os-release',
        assigned(
          names,
          six.map((each) => Buffer.from(each)),
        ),
      );
      folder.run('systemd-tmpfiles', [`--root=${join(folder.path, 'root')}`, '--create', config]);
      assert.deepEqual(
        names.map((name) => folder.read(`root/${name}`).toString()),
        six,
      );
    }
  });

  test('a template of variables gives a shell the secrets as they are', () => {
    const file = template(
      'DATABASE_URL="postgres://web:',
      slot(password, 'url', 'env'),
      '@db/web"\nPASSWORD="',
      slot(password, 'env'),
      '"\nTOKEN="',
      slot(token, 'env'),
      '"\nSHADOW="',
      slot(shadow, 'env'),
      '"\nKEY="',
      slot(key, 'env'),
      '"\n',
    );
    folder.write('vars', recipeValue(file, sources));
    const output = folder
      .run('sh', ['-c', '. ./vars; printf "%s\\0" "$DATABASE_URL" "$PASSWORD" "$TOKEN" "$SHADOW" "$KEY"'])
      .toString();
    const [address = '', ...rest] = output.split('\0').slice(0, -1);
    assert.deepEqual(rest, [secretOf(password), secretOf(token), value(shadow), secretOf(key)]);
    assert.equal(decodeURIComponent(new URL(address).password), secretOf(password));
  });
});
