import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { scopeSeed } from '../../src/derive/tree.ts';
import { encodePayload, encodeScopes, type Payload, parsePayload, parseScopes } from '../../src/seeds/payload.ts';
import { encodePins, parsePins, pinsOf, verifyPins } from '../../src/seeds/pins.ts';
import type { Scope } from '../../src/seeds/scope.ts';
import { refuseRewound, type TpmCounter } from '../../src/seeds/tpm-counter.ts';
import { parseStanza, type TpmStanzaType, unwrapStanza, wrapStanza } from '../../src/seeds/tpm-stanza.ts';
import { literalPolicy } from '../../src/tpm2/policy.ts';
import { bytes } from '../derive/vectors.ts';

import { group, host, isFailure, payload, seed } from './scopes.ts';

describe('payload', () => {
  test('survives a round trip and is canonical', () => {
    const bytes = encodePayload(payload);
    assert.deepEqual(parsePayload(bytes), payload);
    assert.deepEqual(encodePayload(parsePayload(bytes)), bytes);
    const creds: Payload = {
      ...payload,
      sealing: { ...payload.sealing, withKey: 'systemd-creds', credsKey: 'host+tpm2' },
    };
    assert.deepEqual(parsePayload(encodePayload(creds)), creds);
  });

  test('anything else is malformed, and its text is never quoted', () => {
    const good = new TextDecoder().decode(encodePayload(payload));
    const bad = [
      '',
      'null',
      '[]',
      '{}',
      good.slice(1),
      good.replace('"version":1', '"version":2'),
      good.replace('"counter":7', '"counter":0'),
      good.replace('"counter":7', '"counter":"7"'),
      good.replace('"kind":"host"', '"kind":"fleet"'),
      good.replace('web1', '../web1'),
      good.replace('AQEB', 'AQ'),
      good.replace('"epoch":1', '"epoch":1.5'),
      good.replace('tpm2', 'tpm3'),
      good.replace('[7,14]', '[24]'),
    ];
    for (const text of bad) {
      assert.throws(
        () => parsePayload(new TextEncoder().encode(text)),
        (error) => isFailure('malformed')(error) && !String(error).includes('AQEB'),
        text,
      );
    }
  });

  test('no bytes make the parser throw anything but a Failure', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        assert.throws(() => parsePayload(bytes), isFailure('malformed'));
      }),
    );
  });
});

interface SeedVectors {
  stanzas: {
    what: string;
    args: [TpmStanzaType, ...string[]];
    srkName: string;
    srkTemplate: string;
    pcrs: Record<string, string>;
    sealed: string[];
    secrets: string[];
    fileKey: string;
    body: string;
  }[];
  payloads: {
    what: string;
    fleet: string;
    scopes: { kind: Scope['kind']; name: string; epoch: number }[];
    payload: string;
    handed: string;
  }[];
}
const seedVectors: SeedVectors = JSON.parse(readFileSync('test/vectors/seeds.json', 'utf8'));

describe('what is in seeds.age', () => {
  for (const { what, args, srkName, srkTemplate, pcrs, sealed, secrets, fileKey, body } of seedVectors.stanzas)
    test(`has the TPM stanza of the published vectors: ${what}`, () => {
      const [publicArea = '', privateArea = '', encryptedSeed] = sealed;
      const values = new Map(
        Object.entries(pcrs)
          .map(([pcr, value]): [number, Uint8Array] => [Number(pcr), bytes(value)])
          .sort(([a], [b]) => a - b),
      );
      const common = {
        srkName: bytes(srkName),
        srkTemplate: bytes(srkTemplate),
        policy: literalPolicy(values),
        public: bytes(publicArea),
      };
      const object =
        encryptedSeed === undefined
          ? { ...common, private: bytes(privateArea) }
          : { ...common, duplicate: bytes(privateArea), encryptedSeed: bytes(encryptedSeed) };
      assert.deepEqual(wrapStanza(args, object, secrets.map(bytes), bytes(fileKey)), { args, body: bytes(body) });
      const parsed = parseStanza({ args, body: bytes(body) });
      assert.deepEqual(parsed.sealed, object);
      assert.deepEqual(unwrapStanza(args[0], parsed, secrets.map(bytes)), bytes(fileKey));
      assert.throws(
        () =>
          unwrapStanza(
            args[0],
            parsed,
            secrets
              .map(bytes)
              .reverse()
              .map((secret) => secret.map((byte) => byte ^ 1)),
          ),
        isFailure('malformed'),
      );
    });

  for (const { what, fleet, scopes, payload: text, handed } of seedVectors.payloads)
    test(`has the payload of the published vectors: ${what}`, () => {
      const opened = parsePayload(Buffer.from(text));
      assert.deepEqual(
        opened.scopes,
        scopes.map((scope) => ({ ...scope, seed: scopeSeed(bytes(fleet), scope.kind, scope.name, scope.epoch) })),
      );
      assert.equal(Buffer.from(encodePayload(opened)).toString(), text);
      assert.equal(Buffer.from(encodeScopes(opened.scopes)).toString(), handed);
    });
});

describe('pins', () => {
  const pins = pinsOf([host, group], 'device:/dev/tpmrm0');
  test('survive a round trip', () => {
    assert.deepEqual(parsePins(encodePins(pins), 'scopes.json'), pins);
    assert.match(
      new TextDecoder().decode(encodePins(pins)),
      /"host\/web1": \{\n\s+"epoch": 1,\n\s+"keyId": "[0-9a-f]{32}"/,
    );
  });
  test("name the TPM's counter as tpm2-tools do, and no other index", () => {
    const counted = pinsOf([host], undefined, { index: 0x01a0c4ed, start: 12 });
    assert.deepEqual(parsePins(encodePins(counted), 'scopes.json'), counted);
    const text = new TextDecoder().decode(encodePins(counted));
    assert.match(text, /"tpm2Counter": \{\n\s+"index": "0x1a0c4ed",\n\s+"start": 12\n/);
    for (const [from, to] of [
      ['0x1a0c4ed', '0x81000001'],
      ['"0x1a0c4ed"', '27313389'],
      ['12', '-1'],
      ['12', '1.5'],
      ['"start"', '"stop"'],
    ] as const)
      assert.throws(
        () => parsePins(new TextEncoder().encode(text.replace(from, to)), 'scopes.json'),
        isFailure('malformed'),
        to,
      );
  });
  test('accept both the old and the new scopes during a replacement', () => {
    const other = { ...host, seed: seed(9) };
    const both = { ...pins, next: pinsOf([other], undefined).scopes };
    assert.deepEqual(parsePins(encodePins(both), 'scopes.json'), both);
    verifyPins([host, group], both);
    verifyPins([other], both);
    assert.throws(() => verifyPins([other, group], both), isFailure('not-pinned'));
    assert.throws(() => verifyPins([host], both), isFailure('not-pinned'));
  });
  test('accept exactly the pinned scopes', () => {
    verifyPins([host, group], pins);
    assert.throws(() => verifyPins([host], pins), /no seed for group\/db/);
    assert.throws(
      () => verifyPins([host, group, { ...group, name: 'more' }], pins),
      /group\/more, which this machine does not expect/,
    );
    assert.throws(() => verifyPins([{ ...host, seed: seed(9) }, group], pins), isFailure('not-pinned'));
    assert.throws(() => verifyPins([{ ...host, epoch: 2 }, group], pins), isFailure('not-pinned'));
  });
});

describe('what the TPM remembers', () => {
  const counter = (value: number | undefined): TpmCounter => ({
    index: 0x01a0c4ed,
    start: 5,
    value,
    increment: () => assert.fail('nothing is counted by looking'),
  });
  test('is the active number, or the one before it in case of a power cut', () => {
    for (const [value, recorded] of [
      [9, 9],
      [9, 10],
      [5, undefined],
      [5, 5],
      [5, 6],
    ] as const)
      assert.equal(refuseRewound(counter(value), recorded), value);
    assert.equal(refuseRewound(undefined, 3), undefined);
  });
  test('is anything else, and each case has its own message', () => {
    for (const [value, recorded, message] of [
      [9, 8, /is older than the TPM remembers: it is number 8, and number 9 was active/],
      [9, 11, /the TPM remembers less than the store on this disk: number 9, and number 11 is active/],
      [6, undefined, /number 6 was active, and nothing here has a number/],
      [undefined, 9, /counter 0x1a0c4ed can't be read/],
    ] as const)
      assert.throws(
        () => refuseRewound(counter(value), recorded),
        (error) => isFailure('older')(error) && message.test(String(error)),
        String(message),
      );
  });
});

describe('scopes on their way to a host', () => {
  test('survive a round trip', () => {
    assert.deepEqual(parseScopes(encodeScopes([host, group]), 'standard input'), [host, group]);
  });
  test('are one host and its groups, each once', () => {
    for (const wrong of [[], [group], [host, host], [host, group, group], [host, { ...host, name: 'web2' }]])
      assert.throws(() => parseScopes(encodeScopes(wrong), 'standard input'), isFailure('malformed'));
    assert.throws(
      () => parseScopes(new TextEncoder().encode('{}'), 'standard input'),
      /standard input: version is not/,
    );
  });
});
