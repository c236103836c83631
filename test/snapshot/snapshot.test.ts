import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { KindOptions } from '../../src/derive/kind.ts';
import type { Derived } from '../../src/derive/recipe.ts';
import {
  encodeReleases,
  installSnapshot,
  parseReleases,
  type Release,
  readSnapshot,
  type Snapshot,
} from '../../src/snapshot/snapshot.ts';
import { type Paths, pathsUnder } from '../../src/system/paths.ts';
import { host, isFailure, payload, seed } from '../seeds/scopes.ts';

const derived = (name: string, options: KindOptions, more: Partial<Derived> = {}): Derived => ({
  form: 'derived',
  scope: 'host/web1',
  epoch: 1,
  name,
  options,
  period: '',
  generation: 1,
  ...more,
});
const password = derived(
  'p',
  { kind: 'password', length: 20, alphabet: 'abc', require: ['lower'] },
  { scope: 'group/db', epoch: 3, period: '2026-11', generation: 2 },
);
const wireguard = derived('wg', { kind: 'wireguard' });
const releases: Release[] = [
  { unit: 'a.service', credential: 'x', delivery: 'socket', recipe: derived('x', { kind: 'hex', bytes: 32 }) },
  { unit: 'b.service', credential: 'p', delivery: 'stage', recipe: password },
  { unit: 'c.service', credential: 'w', delivery: 'socket', recipe: { form: 'public', of: wireguard } },
  {
    unit: 'd.service',
    credential: 's',
    delivery: 'socket',
    recipe: derived('s', { kind: 'ssh-ed25519', comment: 's@web1' }),
  },
  {
    unit: 'e.service',
    credential: 'pp',
    delivery: 'socket',
    recipe: derived('pp', { kind: 'passphrase', words: 6, separator: '-', capitalize: true }),
  },
  {
    unit: '',
    credential: 'file',
    delivery: 'file',
    recipe: wireguard,
    placement: { owner: 'postgres', group: '42', mode: 0o440, link: '/etc/key', neededFor: 'users' },
  },
  {
    unit: 'f.service',
    credential: 't',
    delivery: 'socket',
    recipe: {
      form: 'template',
      name: 't',
      pieces: [
        'a=',
        {
          of: { form: 'crypt', name: 'c', method: 'bcrypt', rounds: 10, of: password, sealed: 'AAAA' },
          escapes: ['url', 'json'],
        },
        { of: { form: 'public', of: wireguard }, escapes: [] },
      ],
    },
  },
];

describe('snapshot', () => {
  test('survives a round trip and is canonical', () => {
    const bytes = encodeReleases({ counter: 4, tpmCounter: 9, releases }, host);
    assert.deepEqual(parseReleases(bytes, host), { counter: 4, tpmCounter: 9, releases });
    assert.deepEqual(parseReleases(encodeReleases({ counter: 4, releases }, host), host), { counter: 4, releases });
    assert.deepEqual(encodeReleases(parseReleases(bytes, host), host), bytes);
  });

  test("no bit of it can be changed, and no other machine's is taken", () => {
    const bytes = encodeReleases({ counter: 4, releases }, host);
    for (let i = 0; i < bytes.length; i++) {
      const changed = Uint8Array.from(bytes);
      changed[i] = (changed[i] ?? 0) ^ 1;
      assert.throws(() => parseReleases(changed, host), isFailure('malformed'), `byte ${String(i)}`);
    }
    const upperCase = Uint8Array.from(bytes, (byte, i) => (i < 64 && byte >= 0x61 ? byte - 0x20 : byte));
    assert.throws(() => parseReleases(upperCase, host), isFailure('malformed'));
    for (let length = 0; length < bytes.length; length++)
      assert.throws(() => parseReleases(bytes.subarray(0, length), host), isFailure('malformed'));
    assert.throws(() => parseReleases(bytes, { ...host, seed: seed(3) }), isFailure('malformed'));
  });

  let root = '';
  before(() => {
    root = mkdtempSync(join(tmpdir(), 'auxcred-'));
  });
  after(() => {
    rmSync(root, { recursive: true });
  });

  const installed = (paths: Paths, next: Snapshot): boolean =>
    installSnapshot(paths, {
      before: readSnapshot(paths, host),
      snapshot: next,
      host,
      fileOf: () => assert.fail('no secret is fixed'),
    });

  const snapshot = (count: number): Snapshot => ({
    counter: 1,
    sealing: payload.sealing,
    releases: releases.slice(0, count),
    history: new Map([
      [
        'p',
        [
          { since: '2026-10-01T00:00:01Z', recipe: { ...password, period: '2026-10' } },
          { since: '2026-11-01T00:00:01Z', recipe: password },
        ],
      ],
    ]),
    fingerprints: new Map([['web.service/p', 'f'.repeat(64)]]),
    fingerprintLabel: count % 2 === 0 ? 'release' : 'fingerprint',
  });

  test('is activated as a whole, once, and readable only by the group', () => {
    const paths = pathsUnder(root);
    assert.equal(readSnapshot(paths, host), undefined);
    assert.equal(installed(paths, snapshot(6)), true);
    assert.equal(installed(paths, snapshot(6)), false);
    assert.deepEqual(readSnapshot(paths, host), snapshot(6));
    assert.equal(statSync(join(paths.snapshot, 'releases.json')).mode & 0o777, 0o640);
    assert.equal(statSync(join(paths.snapshot, 'record.json')).mode & 0o777, 0o600);
    assert.equal(statSync(paths.generations).mode & 0o777, 0o750);
    for (let generation = 1; generation <= 5; generation++) {
      assert.equal(installed(paths, snapshot(generation % 2)), true);
      assert.deepEqual(readSnapshot(paths, host), snapshot(generation % 2));
    }
    assert.equal(readdirSync(paths.generations).length, 2);
    assert.deepEqual(readdirSync(paths.store).sort(), ['generations', 'provisioned']);
  });

  test("neither file passes for the other, nor for another seed's", () => {
    const paths = pathsUnder(root);
    installed(paths, snapshot(2));
    assert.throws(() => parseReleases(readFileSync(join(paths.snapshot, 'record.json')), host), isFailure('malformed'));
    assert.throws(() => readSnapshot(paths, { ...host, seed: seed(3) }), isFailure('malformed'));
  });

  test('what an interrupted provision left behind does not matter', () => {
    const paths = pathsUnder(root);
    writeFileSync(`${paths.snapshot}.new`, '');
    assert.equal(installed(paths, snapshot(3)), true);
    assert.deepEqual(readSnapshot(paths, host), snapshot(3));
  });
});
