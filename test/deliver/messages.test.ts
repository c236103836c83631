import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ReleaseBook } from '../../src/deliver/releases.ts';
import { mayAskFor, parsePeerName, templateOf } from '../../src/deliver/request.ts';
import { encodeGrant, encodeRefusal, parseAnswer } from '../../src/deliver/stage-message.ts';
import { Failure } from '../../src/failure.ts';
import type { Recipe } from '../../src/derive/recipe.ts';
import { seedsOf } from '../../src/store/scope.ts';
import type { Release } from '../../src/store/snapshot.ts';

test('a peer name is read by its slashes, whatever the random number\'s length', () => {
  assert.deepEqual(parsePeerName('da687f15441f733/unit/at-sock.service/foo'), { unit: 'at-sock.service', credential: 'foo' });
  assert.deepEqual(parsePeerName('c8cf/unit/at-tmpl@a-b\\x2dc.service/foo.bar'), { unit: 'at-tmpl@a-b\\x2dc.service', credential: 'foo.bar' });
  for (const name of [undefined, '', '/unit/a.service/b', 'zz/unit/a.service/b', '00000000000000001/unit/a.service/b', '1/unit//b', '1/unit/a.service/', '1/unit/a/b/c', '1/user/a.service/b']) assert.equal(parsePeerName(name), undefined, name);
});

test('a peer may ask for its own unit only', () => {
  const peer = (cgroup: string, uid = 0): { uid: number; cgroup: string } => ({ uid, cgroup });
  assert.ok(mayAskFor('a.service', peer('0::/system.slice/a.service\n')));
  assert.ok(mayAskFor('a.service', peer('0::/system.slice/a.service/.control\n')));
  assert.ok(mayAskFor('t@x.service', peer('0::/system.slice/system-t.slice/t@x.service\n')));
  assert.ok(mayAskFor('a.service', peer('0::/init.scope\n')));
  assert.ok(mayAskFor('a.service', peer('9:name=systemd:/system.slice/a.service\n8:pids:/other\n')));
  for (const refused of [peer('0::/system.slice/a.service\n', 1000), peer('0::/system.slice/not-a.service\n'), peer('0::/system.slice/a.service.d\n'), peer('0::/system.slice/b.service/init.scope\n'), peer(''), peer('8:pids:/system.slice/a.service\n')]) assert.ok(!mayAskFor('a.service', refused), refused.cgroup);
});

test('templates', () => {
  assert.equal(templateOf('web@blue.service'), 'web@.service');
  assert.equal(templateOf('web@a@b.service'), 'web@.service');
  assert.equal(templateOf('web@a.b.service'), 'web@.service');
  for (const unit of ['web.service', 'web@.service', '@a.service']) assert.equal(templateOf(unit), undefined, unit);
});

const uuid = (name: string, scope = 'host/h', epoch = 1): Recipe => ({ form: 'derived', scope, epoch, name, options: { kind: 'uuid' }, period: '', generation: 1 });
const release = (unit: string, credential: string, more: Partial<Release> = {}): Release => ({ unit, credential, delivery: 'socket', recipe: uuid(credential), ...more });

test('the book knows a unit\'s own credentials, then its template\'s, and nothing else', () => {
  const book = new ReleaseBook(
    [release('a.service', 'x'), release('t@.service', 'x'), release('t@one.service', 'x', { recipe: uuid('x', 'host/gone') }), release('t@.service', 's', { delivery: 'stage' }), release('t@one.service', 'own', { delivery: 'stage' })],
    { seedOf: seedsOf([{ kind: 'host', name: 'h', epoch: 1, seed: new Uint8Array(32) }]), fixedValue: () => assert.fail('no secret is fixed') },
  );
  assert.equal(book.valueOf(book.find({ unit: 'a.service', credential: 'x' })).length, 36);
  assert.equal(book.find({ unit: 't@two.service', credential: 'x' }).unit, 't@.service');
  for (const refused of [{ unit: 'b.service', credential: 'x' }, { unit: 'a.service', credential: 'y' }, { unit: 'a.service/x', credential: '' }]) assert.throws(() => book.find(refused), /is provisioned for/, JSON.stringify(refused));
  // A seed of another scope, or of another epoch, is no seed.
  assert.throws(() => book.valueOf(book.find({ unit: 't@one.service', credential: 'x' })), /no seed for host\/gone/);
  assert.throws(() => book.valueOf(release('a.service', 'x', { recipe: uuid('x', 'host/h', 2) })), /no seed for host\/h in epoch 2/);
  assert.deepEqual(book.staged('t@one.service').map(({ credential }) => credential), ['own', 's']);
  assert.deepEqual(book.staged('a.service'), []);
});

const credentials = fc.array(fc.record({ unit: fc.string({ maxLength: 20 }), credential: fc.string({ maxLength: 20 }), value: fc.uint8Array({ maxLength: 300 }) }, { noNullPrototype: true }), { maxLength: 5 });

test('a grant survives a round trip, and no part of one is taken for a whole', () => {
  fc.assert(fc.property(credentials, (given) => {
    const grant = encodeGrant(given);
    assert.deepEqual(parseAnswer(grant).map((item) => ({ ...item, value: Uint8Array.from(item.value) })), given);
    for (let length = 0; length < grant.length; length++) assert.throws(() => parseAnswer(grant.subarray(0, length)), Failure);
  }));
});

test('a refusal carries its reason', () => {
  assert.throws(() => parseAnswer(encodeRefusal('no credential for ä.service')), /no credential for ä\.service/);
});
