/** Arbitrary declarations of secrets: most of them right, on few names and units, so that they meet. */
import fc from 'fast-check';
import type { Value } from './expression.ts';

/** A secret by its keys. */
export type Declared = Readonly<Record<string, Value>>;

const units = fc.constantFrom(
  'web',
  'web.service',
  'db.service',
  'web@.service',
  'web@',
  'web@blue.service',
  'a-b\\x2dc.service',
  'systemd-sysusers.service',
  'x'.repeat(60),
  'auxcred.service',
  'web.socket',
);
const goodUnits = fc.constantFrom('web', 'web.service', 'db.service', 'web@', 'web@blue.service', 'web@a@b', 'a\\x2db');
const names = fc.constantFrom('a', 'b', 'c', 'a.public', 'db/password', 'x+y@z', 'long-name-of-a-secret');
const badNames = fc.constantFrom('A', 'host/x', 'group/', 'a//b', '', ' ', 'é', '${x}', "''", '"', 'a\nb', 'toString');
const hostile = fc.oneof(
  fc.constantFrom(
    '',
    '${a}',
    "''${a}",
    '\\',
    '"',
    'a"b',
    '$`"\\',
    '\t',
    '\n',
    'é',
    '🔑',
    '{{',
    '}}',
    '%n',
    '\u0001',
    '\u007f',
  ),
  fc.string({ unit: 'binary', maxLength: 12 }).map((text) => text.replaceAll('\0', '')),
);

const bodies = fc.constantFrom(
  'plain',
  '{{a}}',
  'x{{ b }}y{{c | url}}',
  '{{a.public}}',
  '{{b.previous}}',
  '{{db/password|base64|url}}',
  '{{"{{"}}',
  '{{ "}}" }}z',
  '{{a | json}}',
  '{{a | env | url}}',
  '{{missing}}',
  '{{{a}}',
  '{{a}',
  '{{a | nothing}}',
  '{{"a" "b"}}',
  '{{}}',
  '$HOME `x` "q" \\',
  'é {{\u00a0a }}',
);
const scalars: fc.Arbitrary<Value> = fc.oneof(
  bodies,
  hostile,
  fc.boolean(),
  fc.constantFrom(0, 1, -7, 2 ** 53, 2 ** 53 - 1, 1.5, 1e21, 0.25),
);
const documents: fc.Arbitrary<Value> = fc
  .letrec<{ node: Value }>((tie) => ({
    node: fc.oneof(
      { depthSize: 'small' },
      scalars,
      fc.constant(null),
      fc.array(tie('node'), { maxLength: 3 }),
      fc.dictionary(fc.oneof(fc.constantFrom('x', 'y'), hostile), tie('node'), { maxKeys: 3 }),
    ),
  }))
  .node.filter((value) => value !== null);

const share = fc.constantFrom('db', 'web', 'Not A Group');
const rotate = fc.constantFrom('monthly', 'weekly', 'daily', 'quarterly', 'yearly');
const period = fc.constantFrom(
  '2026-11',
  '2026-W53',
  '2025-W53',
  '2026-02-29',
  '2024-02-29',
  '2026-Q4',
  '0001',
  '0001-W01',
  '0000',
  '2026-13',
);
const derived = {
  generation: fc.constantFrom(1, 2, 4294967295),
  previous: fc.boolean(),
};
const rotating = { ...derived, share, rotate, period };
const optional = <T extends Record<string, fc.Arbitrary<Value>>>(model: T): fc.Arbitrary<Declared> =>
  fc
    .record(model, { requiredKeys: [] })
    .map((record) =>
      Object.fromEntries(
        Object.entries(record).flatMap(([key, value]): [string, Value][] =>
          value === undefined ? [] : [[key, value]],
        ),
      ),
    );
const kinded = (kind: string, model: Record<string, fc.Arbitrary<Value>>): fc.Arbitrary<Declared> =>
  optional(model).map((rest) => ({ kind, ...rest }));

const contents: fc.Arbitrary<Declared> = fc.oneof(
  optional({
    ...derived,
    length: fc.constantFrom(1, 5, 8, 16, 20, 32, 131072),
    alphabet: fc.constantFrom(
      'alnum',
      'digits',
      'hex',
      'readable',
      'printable',
      'url',
      'ab',
      'aab',
      'abcé',
      'x',
      '0aA!',
    ),
    require: fc.subarray(['lower', 'upper', 'digit', 'symbol']),
    weak: fc.boolean(),
  }),
  kinded('passphrase', {
    ...derived,
    words: fc.constantFrom(1, 5, 6, 12, 1024),
    separator: fc.constantFrom('', '-', ' ', 'x'.repeat(17)),
    capitalize: fc.boolean(),
    weak: fc.boolean(),
  }),
  fc
    .constantFrom('hex', 'base64', 'bytes')
    .chain((kind) =>
      kinded(kind, { ...rotating, bytes: fc.constantFrom(1, 7, 8, 32, 65536, 98304, 131072), weak: fc.boolean() }),
    ),
  fc
    .constantFrom('uuid', 'wireguard-psk', 'wireguard', 'age', 'ed25519', 'x25519', 'ec-p256')
    .chain((kind) => kinded(kind, rotating)),
  kinded('ssh-ed25519', { ...derived, comment: fc.constantFrom('root@web1', '', 'é') }),
  kinded('fixed', {
    share,
    path: fc.constantFrom('wifi/home', 'a', '', '/a', 'a/.b', 'x.Sealed', 'y'.repeat(201), 'a\tb', 'é'),
  }),
  kinded('vault', {
    share,
    vault: fc.constantFrom('pass', 'Pass'),
    path: fc.constantFrom('web/api', ''),
    options: fc.constantFrom<Value>({ field: 'password', n: 3 }, { list: [] }, 'x'),
  }),
  kinded('crypt', {
    of: fc.oneof(
      names,
      names.map((name) => `${name}.previous`),
      fc.constant(''),
    ),
    method: fc.constantFrom('yescrypt', 'sha512-crypt', 'bcrypt'),
    rounds: fc.constantFrom(5, 10, 5000),
  }),
  bodies.map((content) => ({ kind: 'template', content })),
  fc
    .dictionary(fc.oneof(fc.constantFrom('A', 'DATABASE_URL', 'b1'), hostile), scalars, { maxKeys: 3 })
    .map((env) => ({ kind: 'template', env })),
  documents.map((json) => ({ kind: 'template', json })),
);

const deliveries: fc.Arbitrary<Declared> = fc.oneof(
  optional({ credential: fc.constantFrom('id', 'other', 'auxcred.x', 'a'.repeat(70), 'no good', 'x'.repeat(201)) }),
  fc.constantFrom('socket', 'stage', 'credstore').map((delivery) => ({ delivery })),
  optional({
    owner: fc.constantFrom('postgres', 'root', '0', '4294967295', '4294967294', '007', 'No'),
    group: fc.constantFrom('tss', '12'),
    mode: fc.constantFrom('0400', '440', '0444', '9'),
    link: fc.constantFrom('/etc/x', '/etc/x/../y', '/dev/null', 'etc', '/', '/a\u0001', '/devices/x'),
    neededFor: fc.constantFrom('units', 'users'),
  }).map((rest) => ({ delivery: 'file', ...rest })),
);

const rest: fc.Arbitrary<Declared> = optional({
  change: fc.constantFrom('restart', 'reload', 'none'),
  hook: fc.constantFrom<Value>([], ['/bin/true', '$x'], ['true']),
});

/** What is wrong with most kinds. */
const noise: fc.Arbitrary<Declared> = fc
  .tuple(
    fc.constantFrom('kind', 'delivery', 'units', 'length', 'credential', 'hook', 'change', 'wat', 'mode', 'of', 'env'),
    fc.oneof<fc.Arbitrary<Value>[]>(hostile, fc.boolean(), fc.constantFrom<Value>(3, 3.5, [], [1], {}, ['x'])),
  )
  .map(([key, value]) => ({ [key]: value }));
const rarely = (arbitrary: fc.Arbitrary<Declared>): fc.Arbitrary<Declared> =>
  fc.oneof({ weight: 6, arbitrary: fc.constant({}) }, { weight: 1, arbitrary });

const secretOf = (unit: fc.Arbitrary<string>): fc.Arbitrary<Declared> =>
  fc
    .tuple(
      contents,
      fc.oneof({ weight: 2, arbitrary: fc.constant({}) }, deliveries),
      rarely(rest),
      fc.uniqueArray(unit, { maxLength: 3 }),
    )
    .map(([content, delivery, other, of]) => ({
      ...content,
      ...delivery,
      ...other,
      ...(of.length > 0 ? { units: of } : {}),
    }));

/** Secrets by name, right and wrong ones. */
export const configurations: fc.Arbitrary<Readonly<Record<string, Declared>>> = fc.dictionary(
  fc.oneof({ weight: 12, arbitrary: names }, { weight: 1, arbitrary: badNames }),
  fc
    .tuple(secretOf(fc.oneof({ weight: 5, arbitrary: goodUnits }, units)), rarely(noise))
    .map(([secret, wrong]) => ({ ...secret, ...wrong })),
  { maxKeys: 5 },
);

const soundContents: fc.Arbitrary<Declared> = fc.oneof(
  fc.constant({}),
  fc.constantFrom('hex', 'bytes', 'age', 'ssh-ed25519', 'uuid').map((kind) => ({ kind })),
  fc.constant({ kind: 'hex', share: 'db', rotate: 'monthly' }),
  fc.constant({ kind: 'fixed', path: 'wifi/home' }),
  hostile.filter((text) => !text.includes('{{')).map((content) => ({ kind: 'template', content })),
);

/** Secrets that nothing is wrong with, in all ways of delivery. */
export const soundConfigurations: fc.Arbitrary<Readonly<Record<string, Declared>>> = fc.dictionary(
  names,
  fc
    .tuple(
      soundContents,
      fc.constantFrom<Declared>(
        {},
        { delivery: 'stage' },
        { delivery: 'credstore' },
        { delivery: 'file' },
        {
          delivery: 'file',
          neededFor: 'users',
        },
      ),
      optional({ change: fc.constantFrom('reload', 'none') }),
      fc.uniqueArray(goodUnits, { minLength: 1, maxLength: 3 }),
    )
    .map(([content, delivery, other, of]) => ({ ...content, ...delivery, ...other, units: of })),
  { minKeys: 1, maxKeys: 5 },
);
