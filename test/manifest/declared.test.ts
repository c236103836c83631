import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { digestsOf, isOutdated } from '../../src/manifest/declared.ts';
import { dependenciesOf } from '../../src/manifest/dependencies.ts';
import { manifestOf } from '../../src/manifest/manifest.ts';

type Table = Readonly<Record<string, unknown>>;
const digests = (secrets: Readonly<Record<string, Table>>): ReadonlyMap<string, string> =>
  digestsOf(JSON.stringify({ secret: secrets }));

/** Names that begin with each other, and a part that looks like a name. */
const names = ['a', 'ab', 'a-key', 'key', 'tls.public'];

/** Acyclic: each secret names only those before it. */
const manifests = fc
  .tuple(
    ...names.map((_, i) =>
      fc.record({
        form: fc.constantFrom('hex', 'text', 'env', 'json', 'crypt'),
        of: fc.subarray(names.slice(0, i), { maxLength: Math.min(2, i) }),
        filter: fc.constantFrom('', ' | base64', '|url'),
        space: fc.constantFrom('', ' '),
      }),
    ),
  )
  .map((parts) =>
    Object.fromEntries(
      parts.map(({ form, of, filter, space }, i): [string, Table] => {
        const units = ['web.service'];
        const [first] = of;
        const text = of.map((other) => `x{{${space}${other}${filter}${space}}}y`).join('');
        const credential = `c${String(i)}`;
        const rest = { units, credential, delivery: 'stage' };
        if (form === 'hex' || first === undefined) return [names[i] ?? '', { kind: 'hex', ...rest }];
        if (form === 'crypt') return [names[i] ?? '', { kind: 'crypt', of: first, ...rest }];
        const plain = `{{${first}}}`;
        const body =
          form === 'text'
            ? { content: text }
            : form === 'env'
              ? { env: { A: plain } }
              : { json: { of: 1, b: [plain] } };
        return [names[i] ?? '', { kind: 'template', ...body, ...rest }];
      }),
    ),
  );

describe('the digests of declared secrets', () => {
  test('change with what a secret is made of, as the manifest is read, and with nothing else', () => {
    fc.assert(
      fc.property(manifests, fc.constantFrom(...names), (secrets, changed) => {
        const { declarations } = manifestOf([{ path: '/m.json', text: JSON.stringify({ secret: secrets }) }]);
        fc.pre(declarations.length === names.length);
        const contents = new Map(declarations.map(({ name, content }) => [name, content]));
        const madeOf = (name: string): string[] => {
          const content = contents.get(name);
          const parts = content ? dependenciesOf(content, (other) => contents.has(other)) : [];
          return [name, ...parts.flatMap((part) => madeOf(part.name))];
        };
        const before = digests(secrets);
        const after = digests({ ...secrets, [changed]: { ...secrets[changed], generation: 2 } });
        for (const name of names)
          assert.equal(before.get(name) !== after.get(name), madeOf(name).includes(changed), `${name} of ${changed}`);
      }),
    );
  });

  test('do not depend on who gets a secret, on the order of keys, or on white space', () => {
    const one = digests({ key: { kind: 'hex', length: 8, units: ['a.service'] } });
    const other = digestsOf(
      '{ "secret": {"key": {"units": ["b.service"], "change": "reload", "hook": ["/x"], "delivery": "stage", "length": 8, "kind": "hex"}}}',
    );
    assert.deepEqual(one, other);
  });

  test('decide whether a release is outdated', () => {
    const present = digests({ key: { kind: 'hex' } });
    const digest = present.get('key') ?? '';
    assert.equal(isOutdated({ secret: 'key', digest }, present), false);
    assert.equal(isOutdated({ secret: 'key', digest: 'other' }, present), true);
    assert.equal(isOutdated({ secret: 'gone', digest }, present), true);
    assert.equal(isOutdated({ secret: 'key', digest }, new Map()), true, 'a manifest that is missing or damaged');
    assert.equal(isOutdated({ secret: 'key', digest: 'other' }, undefined), false, 'no configuration');
    assert.equal(isOutdated(undefined, present), false);
  });
});
