import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Failure } from '../../src/failure.ts';
import { Incoming } from '../../src/push/incoming.ts';
import {
  encodeOffer,
  encodeRequest,
  encodeResult,
  type Offer,
  parseOffer,
  parseRequest,
  parseResult,
  type Request,
} from '../../src/push/protocol.ts';

const fails =
  (code: Failure['code'], says: RegExp) =>
  (error: unknown): boolean =>
    error instanceof Failure && error.code === code && says.test(error.message);

describe('the protocol', () => {
  const digest = 'ab'.repeat(32);
  const offer: Offer = {
    sshHostKey: new Uint8Array(32).fill(7),
    pins: new Map([['host/web1', { epoch: 2, keyId: new Uint8Array(16).fill(1) }]]),
    fixed: new Map([['host/web1/wifi', { digest, pushed: true, sequence: 9 }]]),
    manifest: new Map([['web.toml', { digest, pushed: false }]]),
    unfinished: true,
    dropsRecipients: true,
  };
  const request: Request = {
    purpose: 'receive',
    seeds: {
      length: 3,
      keepSealing: true,
      keepRecipients: true,
      device: 'swtpm:path=/run/tpm',
      replaces: new Map([['host/web1', new Uint8Array(16)]]),
    },
    fixed: [{ name: 'host/web1/wifi', length: 161 }],
    removeFixed: ['group/db/old'],
    manifest: [{ name: 'web.toml', length: 0 }],
    removeManifest: ['old.toml'],
    replace: false,
    acceptOlder: true,
    wait: true,
  };
  const trimmed = (bytes: Uint8Array): Uint8Array => bytes.subarray(0, -1);

  test('is read back as it was written', () => {
    assert.deepEqual(parseOffer(trimmed(encodeOffer(offer)), 'web1'), offer);
    assert.deepEqual(parseRequest(trimmed(encodeRequest(request))), request);
    assert.equal(parseRequest(trimmed(encodeRequest(undefined))), undefined);
    const result = {
      units: [{ unit: 'web.service', action: 'restart' as const }],
      failure: new Failure('older', 'it is older', { hint: 'a newer one' }),
    };
    const { units, failure } = parseResult(trimmed(encodeResult(result)), 'web1');
    assert.deepEqual(
      [units, failure?.code, failure?.message, failure?.hint],
      [result.units, 'older', 'it is older', 'a newer one'],
    );
  });

  test('has no names that lead out of their folder', () => {
    for (const name of [
      '../../etc/passwd',
      '/etc/passwd',
      'host/web1/../x',
      'host/web1/.x',
      'host/web1',
      'host/../x',
      'wifi',
      'host/web1/a//b',
      'host/web1/a\n',
      'group//x',
      'host/web1/e\u0301',
    ]) {
      assert.throws(
        () => parseRequest(encodeRequest({ ...request, fixed: [{ name, length: 161 }] })),
        fails('malformed', /fixed\[0\]\.name is not named by a fixed secret/),
        name,
      );
      assert.throws(
        () => parseRequest(encodeRequest({ ...request, removeFixed: [name] })),
        fails('malformed', /removeFixed/),
        name,
      );
      assert.throws(
        () =>
          parseOffer(
            encodeOffer({ ...offer, fixed: new Map([[name, { digest, pushed: true, sequence: 1 }]]) }),
            'web1',
          ),
        fails('malformed', /fixed/),
        name,
      );
    }
    for (const name of [
      '../web.toml',
      'a/b.toml',
      '.web.toml',
      'web',
      'web.toml\n',
      '',
      '-.toml',
      `${'x'.repeat(250)}.toml`,
    ]) {
      assert.throws(
        () => parseRequest(encodeRequest({ ...request, manifest: [{ name, length: 1 }] })),
        fails('malformed', /manifest/),
        name,
      );
      assert.throws(
        () => parseRequest(encodeRequest({ ...request, removeManifest: [name] })),
        fails('malformed', /removeManifest/),
        name,
      );
    }
  });

  test('has limits, and names each file once', () => {
    /** The request with some of its members replaced. */
    const requestWith = (members: Readonly<Record<string, unknown>>): Buffer =>
      Buffer.from(JSON.stringify({ ...JSON.parse(Buffer.from(encodeRequest(request)).toString()), ...members }));
    const refuses = (members: Readonly<Record<string, unknown>>, says: RegExp): void => {
      assert.throws(() => parseRequest(requestWith(members)), fails('malformed', says), JSON.stringify(members));
    };
    assert.deepEqual(parseRequest(requestWith({})), request);
    refuses({ seeds: { length: (1 << 20) + 1, keepSealing: true, replaces: {} } }, /seeds\.length/);
    refuses({ fixed: [{ name: 'host/web1/x', length: 200_000 }] }, /fixed\[0\]\.length/);
    refuses({ manifest: [{ name: 'a.toml', length: 1.5 }] }, /manifest\[0\]\.length/);
    refuses({ fixed: [...request.fixed, ...request.fixed] }, /there once/);
    refuses({ removeManifest: ['web.toml'] }, /there once/);
    refuses({ replace: 1 }, /replace is not true or false/);
    refuses({ protocol: 2 }, /not in version 1/);
    assert.throws(
      () => parseOffer(Buffer.from('Welcome to web1!'), 'web1'),
      fails('malformed', /what web1 offers is not JSON/),
    );
  });

  test('a terminal is sent no control characters', () => {
    const { failure } = parseResult(
      encodeResult({ units: [], failure: new Failure('system', 'a\u001b[2Jb\u0007') }),
      'web1',
    );
    assert.equal(failure?.message, 'a [2Jb ');
    for (const key of ['fixed', 'manifest', 'pins'] as const) {
      const hostile = Buffer.from(
        JSON.stringify({
          ...JSON.parse(Buffer.from(encodeOffer(offer)).toString()),
          [key]: { ['\u001b]0;owned\u0007\u202e'.padEnd(5000, 'x')]: {} },
        }),
      );
      assert.throws(
        () => parseOffer(hostile, 'web1'),
        (error) => error instanceof Failure && /^[ -~]{1,500}$/.test(error.message),
        key,
      );
    }
  });

  test('whatever a host says is either parsed or refused as malformed', () => {
    fc.assert(
      fc.property(fc.oneof(fc.json(), fc.string()), (text) => {
        for (const parse of [
          (bytes: Uint8Array): unknown => parseOffer(bytes, 'web1'),
          parseRequest,
          (bytes: Uint8Array): unknown => parseResult(bytes, 'web1'),
        ]) {
          try {
            parse(Buffer.from(text));
          } catch (error) {
            if (!(error instanceof Failure) || error.code !== 'malformed') throw error;
          }
        }
      }),
      { numRuns: 300 },
    );
  });

  test('lines and lengths are read from a stream however it is chunked', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ maxLength: 60 }),
        fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }),
        async (data, cuts) => {
          const all = Buffer.concat([Buffer.from('{"a":1}\n'), data, Buffer.from('last\n')]);
          const chunks: Buffer[] = [];
          for (let from = 0, i = 0; from < all.length; i++) {
            const size = cuts[i % cuts.length] ?? 1;
            chunks.push(all.subarray(from, from + size));
            from += size;
          }
          const incoming = new Incoming(Readable.from(chunks, { objectMode: false }), 'web1');
          assert.equal(Buffer.from((await incoming.line(100)) ?? []).toString(), '{"a":1}');
          assert.deepEqual(await incoming.bytes(data.length), data);
          assert.equal(Buffer.from((await incoming.line(100)) ?? []).toString(), 'last');
          assert.equal(await incoming.line(100), undefined);
          assert.equal(await incoming.bytes(1), undefined);
        },
      ),
      { numRuns: 50 },
    );
    await assert.rejects(
      new Incoming(Readable.from([Buffer.alloc(200, 0x61), Buffer.from('\n')], { objectMode: false }), 'web1').line(
        100,
      ),
      fails('malformed', /^web1 says more than 100 bytes in one line$/),
    );
  });
});
