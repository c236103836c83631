import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ReleaseBook } from '../../src/broker/release-book.ts';
import { mayAskFor, parsePeerName } from '../../src/broker/request.ts';
import { encodeGrant, encodeRefusal, parseAnswer } from '../../src/broker/stage-message.ts';
import type { Recipe } from '../../src/derive/recipe.ts';
import { Failure } from '../../src/failure.ts';
import { seedsOf } from '../../src/seeds/scope.ts';
import type { Release } from '../../src/snapshot/snapshot.ts';
import { isService, isTemplate, templateOf, unitOfProcess } from '../../src/system/unit-name.ts';

test("a peer name is read by its slashes, whatever the random number's length", () => {
  assert.deepEqual(parsePeerName('da687f15441f733/unit/at-sock.service/foo'), {
    unit: 'at-sock.service',
    credential: 'foo',
  });
  assert.deepEqual(parsePeerName('c8cf/unit/at-tmpl@a-b\\x2dc.service/foo.bar'), {
    unit: 'at-tmpl@a-b\\x2dc.service',
    credential: 'foo.bar',
  });
  for (const name of [
    undefined,
    '',
    '/unit/a.service/b',
    'zz/unit/a.service/b',
    '00000000000000001/unit/a.service/b',
    '1/unit//b',
    '1/unit/a.service/',
    '1/unit/a/b/c',
    '1/user/a.service/b',
  ])
    assert.equal(parsePeerName(name), undefined, name);
});

test('a peer may ask for its own unit only', () => {
  assert.ok(mayAskFor('a.service', { uid: 0, unit: 'a.service' }));
  assert.ok(mayAskFor('a.service', { uid: 0, unit: 'init.scope' }));
  for (const refused of [
    { uid: 1000, unit: 'a.service' },
    { uid: 0, unit: 'b.service' },
    { uid: 0, unit: undefined },
  ])
    assert.ok(!mayAskFor('a.service', refused), JSON.stringify(refused));
});

test("a process belongs to the unit that systemd says, not to any other in its control group's path", () => {
  const longest = `${'x'.repeat(247)}.service`;
  for (const [path, unit] of [
    ['/system.slice/a.service', 'a.service'],
    ['/a.service', 'a.service'],
    ['/system.slice/a.service/.control', 'a.service'],
    ['/system.slice/a.service/b.service', 'a.service'],
    ['/system.slice/system-t.slice/t@x.service', 't@x.service'],
    ['/system.slice/b.service/init.scope', 'b.service'],
    ['/init.scope', 'init.scope'],
    ['/user.slice/user-1000.slice/user@1000.service/app.slice/a.service', 'user@1000.service'],
    ['/user.slice/user-0.slice/session-1.scope', 'session-1.scope'],
    ['/system.slice/__under.service', '_under.service'],
    ['/system.slice/_memory.service', 'memory.service'],
    ['/system.slice/_cgroup.x.service/__under.service', 'cgroup.x.service'],
    ['/system.slice/srv-data\\x2dset.service', 'srv-data\\x2dset.service'],
    [`/system.slice/${longest}`, longest],
    ['//system.slice//a.service', 'a.service'],
    ['/', undefined],
    ['/system.slice', undefined],
    ['/payload/a.service', undefined],
    ['/t@.service', undefined],
    ['/@x.service', undefined],
    [`/x${longest}`, undefined],
    ['/system.slice/a.service (deleted)', undefined],
    ['/../a.service', undefined],
    ['/system.slice/a.service.d', undefined],
    ['/system@.slice/a.service', undefined],
  ] as const) {
    assert.equal(unitOfProcess(`0::${path}\n`), unit, path);
    assert.equal(unitOfProcess(`9:name=systemd:${path}\n8:pids:/b.service\n0::/\n`), unit, path);
  }
  assert.equal(unitOfProcess('1:name=systemd:/a.service\n0::/b.service\n'), 'b.service');
  for (const cgroup of ['', '8:pids:/a.service\n', 'x0::/a.service', '0:/a.service:/\n'])
    assert.equal(unitOfProcess(cgroup), undefined, cgroup);
});

test('services and templates', () => {
  for (const unit of ['a.service', 'a@.service', 'a@b.service', '_a.service', 'a\\x2db.service', '-a.service'])
    assert.ok(isService(unit), unit);
  for (const unit of [
    'a',
    '.service',
    '@a.service',
    'a.socket',
    'a/b.service',
    'a b.service',
    `${'x'.repeat(248)}.service`,
    'ä.service',
  ])
    assert.ok(!isService(unit), unit);
  assert.deepEqual(['a@.service', 'a@b.service', 'a.service', 'a@b@.service', 'a@x.y@.service'].map(isTemplate), [
    true,
    false,
    false,
    false,
    false,
  ]);
});

test('templates', () => {
  assert.equal(templateOf('web@blue.service'), 'web@.service');
  assert.equal(templateOf('web@a@b.service'), 'web@.service');
  assert.equal(templateOf('web@a.b.service'), 'web@.service');
  for (const unit of ['web.service', 'web@.service', '@a.service']) assert.equal(templateOf(unit), undefined, unit);
});

const uuid = (name: string, scope = 'host/h', epoch = 1): Recipe => ({
  form: 'derived',
  scope,
  epoch,
  name,
  options: { kind: 'uuid' },
  period: '',
  generation: 1,
});
const release = (unit: string, credential: string, more: Partial<Release> = {}): Release => ({
  unit,
  credential,
  delivery: 'socket',
  recipe: uuid(credential),
  ...more,
});

test("the book knows a unit's own credentials, then its template's, and nothing else", () => {
  const book = new ReleaseBook(
    [
      release('a.service', 'x'),
      release('t@.service', 'x'),
      release('t@one.service', 'x', { recipe: uuid('x', 'host/gone') }),
      release('t@.service', 's', { delivery: 'stage' }),
      release('t@one.service', 'own', { delivery: 'stage' }),
    ],
    {
      seedOf: seedsOf([{ kind: 'host', name: 'h', epoch: 1, seed: new Uint8Array(32) }]),
      fixedValue: () => assert.fail('no secret is fixed'),
    },
  );
  assert.equal(book.value(book.find({ unit: 'a.service', credential: 'x' })).length, 36);
  assert.equal(book.find({ unit: 't@two.service', credential: 'x' }).unit, 't@.service');
  for (const refused of [
    { unit: 'b.service', credential: 'x' },
    { unit: 'a.service', credential: 'y' },
    { unit: 'a.service/x', credential: '' },
  ])
    assert.throws(() => book.find(refused), /is provisioned for/, JSON.stringify(refused));
  // A seed of another scope, or of another epoch, does not count.
  assert.throws(() => book.value(book.find({ unit: 't@one.service', credential: 'x' })), /no seed for host\/gone/);
  assert.throws(
    () => book.value(release('a.service', 'x', { recipe: uuid('x', 'host/h', 2) })),
    /no seed for host\/h in epoch 2/,
  );
  assert.deepEqual(
    book.staged('t@one.service').map(({ credential }) => credential),
    ['own', 's'],
  );
  assert.deepEqual(book.staged('a.service'), []);
});

const credentials = fc.array(
  fc.record(
    {
      unit: fc.string({ maxLength: 20 }),
      credential: fc.string({ maxLength: 20 }),
      value: fc.uint8Array({ maxLength: 300 }),
    },
    { noNullPrototype: true },
  ),
  { maxLength: 5 },
);

test('a grant survives a round trip, and no part of one is taken for a whole', () => {
  fc.assert(
    fc.property(credentials, (given) => {
      const grant = encodeGrant(given);
      assert.deepEqual(
        parseAnswer(grant).map((item) => ({ ...item, value: Uint8Array.from(item.value) })),
        given,
      );
      for (let length = 0; length < grant.length; length++)
        assert.throws(() => parseAnswer(grant.subarray(0, length)), Failure);
    }),
  );
});

test('a refusal carries its reason', () => {
  assert.throws(() => parseAnswer(encodeRefusal('no credential for ä.service')), /no credential for ä\.service/);
});
