import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { Failure } from '../../src/failure.ts';
import { encodePayload, type Payload, parsePayload } from '../../src/store/payload.ts';
import { encodePins, parsePins, pinsOf, verifyPins } from '../../src/store/pins.ts';
import type { Scope } from '../../src/store/scope.ts';
import { encodeSnapshot, installSnapshot, parseSnapshot, readSnapshot, type Release } from '../../src/store/snapshot.ts';
import { pathsUnder } from '../../src/system/paths.ts';

const seed = (byte: number): Uint8Array => new Uint8Array(32).fill(byte);
const host: Scope = { kind: 'host', name: 'web1', epoch: 1, seed: seed(1) };
const group: Scope = { kind: 'group', name: 'db', epoch: 3, seed: seed(2) };
const payload: Payload = { counter: 7, scopes: [host, group], sealing: { withKey: 'tpm2', recovery: ['age1abc'], pcrs: [7, 14], device: 'device:/dev/tpmrm0' } };
const releases: Release[] = [
  { unit: 'a.service', credential: 'x', delivery: 'socket', scope: 'host/web1', recipe: { name: 'x', options: { kind: 'hex', bytes: 32 }, period: '', generation: 1 } },
  { unit: 'b.service', credential: 'p', delivery: 'stage', scope: 'host/web1', recipe: { name: 'p', options: { kind: 'password', length: 20, alphabet: 'abc', require: ['lower'] }, period: '', generation: 2 } },
];
const isFailure = (code: string) => (error: unknown): boolean => error instanceof Failure && error.code === code;

describe('payload', () => {
  test('survives a round trip and is canonical', () => {
    const bytes = encodePayload(payload);
    assert.deepEqual(parsePayload(bytes), payload);
    assert.deepEqual(encodePayload(parsePayload(bytes)), bytes);
  });

  test('anything else is malformed, and its text is never quoted', () => {
    const good = new TextDecoder().decode(encodePayload(payload));
    const bad = [
      '', 'null', '[]', '{}', good.slice(1), good.replace('"version":1', '"version":2'), good.replace('"counter":7', '"counter":0'), good.replace('"counter":7', '"counter":"7"'),
      good.replace('"kind":"host"', '"kind":"fleet"'), good.replace('web1', '../web1'), good.replace('AQEB', 'AQ'), good.replace('"epoch":1', '"epoch":1.5'), good.replace('tpm2', 'tpm3'), good.replace('[7,14]', '[24]'),
    ];
    for (const text of bad) {
      assert.throws(() => parsePayload(new TextEncoder().encode(text)), (error) => isFailure('malformed')(error) && !String(error).includes('AQEB'), text);
    }
  });

  test('no bytes make the parser throw anything but a Failure', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      assert.throws(() => parsePayload(bytes), isFailure('malformed'));
    }));
  });
});

describe('pins', () => {
  const pins = pinsOf([host, group], 'device:/dev/tpmrm0');
  test('survive a round trip', () => {
    assert.deepEqual(parsePins(encodePins(pins), 'scopes.json'), pins);
    assert.match(new TextDecoder().decode(encodePins(pins)), /"host\/web1": \{\n\s+"epoch": 1,\n\s+"keyId": "[0-9a-f]{32}"/);
  });
  test('accept exactly the pinned scopes', () => {
    verifyPins([host, group], pins);
    assert.throws(() => verifyPins([host], pins), /no seed for group\/db/);
    assert.throws(() => verifyPins([host, group, { ...group, name: 'more' }], pins), /group\/more, which this machine does not expect/);
    assert.throws(() => verifyPins([{ ...host, seed: seed(9) }, group], pins), isFailure('not-pinned'));
    assert.throws(() => verifyPins([{ ...host, epoch: 2 }, group], pins), isFailure('not-pinned'));
  });
});

describe('snapshot', () => {
  test('survives a round trip and is canonical', () => {
    const bytes = encodeSnapshot(releases, host);
    assert.deepEqual(parseSnapshot(bytes, host), releases);
    assert.deepEqual(encodeSnapshot(parseSnapshot(bytes, host), host), bytes);
  });

  test('no bit of it can be changed, and no other machine\'s is taken', () => {
    const bytes = encodeSnapshot(releases, host);
    for (let i = 0; i < bytes.length; i++) {
      const changed = Uint8Array.from(bytes);
      changed[i] = (changed[i] ?? 0) ^ 1;
      // The newline behind the HMAC is framing, not content.
      if (i !== 64) assert.throws(() => parseSnapshot(changed, host), isFailure('malformed'), `byte ${String(i)}`);
    }
    for (let length = 0; length < bytes.length; length++) assert.throws(() => parseSnapshot(bytes.subarray(0, length), host), isFailure('malformed'));
    assert.throws(() => parseSnapshot(bytes, { ...host, seed: seed(3) }), isFailure('malformed'));
  });

  let root = '';
  before(() => { root = mkdtempSync(join(tmpdir(), 'auxcred-')); });
  after(() => { rmSync(root, { recursive: true }); });

  test('is put in force whole, once, and readable by the group only', () => {
    const paths = pathsUnder(root);
    assert.equal(readSnapshot(paths), undefined);
    const first = encodeSnapshot(releases, host);
    assert.equal(installSnapshot(paths, first, undefined), true);
    assert.equal(installSnapshot(paths, first, undefined), false);
    assert.deepEqual(readSnapshot(paths), first);
    assert.equal(statSync(join(paths.snapshot, 'releases.json')).mode & 0o777, 0o640);
    assert.equal(statSync(paths.generations).mode & 0o777, 0o750);
    for (let generation = 1; generation <= 5; generation++) {
      const next = encodeSnapshot(releases.slice(0, generation % 2), host);
      assert.equal(installSnapshot(paths, next, undefined), true);
      assert.deepEqual(readSnapshot(paths), next);
    }
    assert.equal(readdirSync(paths.generations).length, 2);
    assert.deepEqual(readdirSync(paths.store).sort(), ['generations', 'provisioned']);
  });

  test('what an interrupted provision left behind is no obstacle', () => {
    const paths = pathsUnder(root);
    writeFileSync(`${paths.snapshot}.new`, '');
    const before = readFileSync(join(paths.snapshot, 'releases.json'));
    assert.equal(installSnapshot(paths, encodeSnapshot([], host), undefined), !Buffer.from(encodeSnapshot([], host)).equals(before));
    assert.deepEqual(readSnapshot(paths), encodeSnapshot([], host));
  });
});
