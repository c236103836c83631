/**
 * Age's own vectors (C2SP CCTV) test the reader. Armor and post-quantum keys are not used in seeds.age, and are tested
 * only as far as the reader looks at them.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import { inflateSync } from 'node:zlib';
import * as cctv from 'cctv-age';
import { openAgeFile } from '../../src/age/file.ts';
import { encodeHeader, parseHeader } from '../../src/age/header.ts';
import { scryptUnwrapper } from '../../src/age/scrypt.ts';
import { decryptPayload } from '../../src/age/stream.ts';
import { x25519Unwrapper } from '../../src/age/x25519.ts';
import { isFailure, latin1 } from './expect.ts';

interface Vector {
  readonly name: string;
  readonly kind: 'armored' | 'passphrase' | 'post-quantum' | 'ours';
  readonly expect: string;
  readonly identities: readonly string[];
  readonly passphrases: readonly string[];
  readonly fileKey: string | undefined;
  /** SHA-256 in hex. */
  readonly payload: string | undefined;
  readonly file: Uint8Array;
}

/** `key: value` lines, an empty line, then the file. */
function parseVector(name: string, bytes: Uint8Array): Vector {
  const end = Buffer.from(bytes).indexOf('\n\n');
  const fields = latin1(bytes.subarray(0, end))
    .split('\n')
    .map((line): [string, string] => [line.slice(0, line.indexOf(': ')), line.slice(line.indexOf(': ') + 2)]);
  const all = (key: string): string[] => fields.filter(([name]) => name === key).map(([, value]) => value);
  const body = bytes.subarray(end + 2);
  const identities = all('identity');
  const kind =
    all('armored').length > 0
      ? 'armored'
      : all('passphrase').length > 0
        ? 'passphrase'
        : identities.some((identity) => identity.startsWith('AGE-SECRET-KEY-PQ-'))
          ? 'post-quantum'
          : 'ours';
  return {
    name,
    kind,
    expect: all('expect')[0] ?? '',
    identities,
    passphrases: all('passphrase'),
    fileKey: all('file key')[0],
    payload: all('payload')[0],
    file: all('compressed')[0] === 'zlib' ? inflateSync(body) : body,
  };
}

const vectors = Object.entries(cctv).map(([name, bytes]) => parseVector(name, bytes));
const ofKind = (kind: Vector['kind']): Vector[] => vectors.filter((vector) => vector.kind === kind);
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

test('every vector has a kind and an outcome that is tested below', () => {
  const counts: Record<string, number> = {};
  for (const { kind, expect } of vectors) counts[`${kind}, ${expect}`] = (counts[`${kind}, ${expect}`] ?? 0) + 1;
  assert.deepEqual(counts, {
    'ours, success': 14,
    'ours, no match': 3,
    'ours, HMAC failure': 1,
    'ours, header failure': 31,
    'ours, payload failure': 18,
    'passphrase, success': 1,
    'passphrase, no match': 4,
    'passphrase, header failure': 20,
    'post-quantum, success': 4,
    'post-quantum, no match': 5,
    'post-quantum, header failure': 9,
    'armored, success': 7,
    'armored, no match': 1,
    'armored, armor failure': 22,
    'armored, header failure': 2,
    'armored, payload failure': 1,
  });
});

describe('files for X25519 and a passphrase open, or fail as they should', () => {
  const headerChanged = /its header was changed/;
  const payloadChanged = /its payload was changed/;
  const judge: Readonly<Record<string, (error: unknown) => boolean>> = {
    'no match': isFailure('no-recipient', /which is for/),
    'HMAC failure': isFailure('malformed', headerChanged),
    'payload failure': isFailure('malformed', payloadChanged),
    'header failure': (error) =>
      isFailure('malformed')(error) &&
      !isFailure('malformed', headerChanged)(error) &&
      !isFailure('malformed', payloadChanged)(error),
  };
  for (const { name, expect, identities, payload, file } of ofKind('ours'))
    test(name, async () => {
      const opening = openAgeFile(
        file,
        identities.map((identity) => x25519Unwrapper(identity)),
      );
      if (expect === 'success') assert.equal(sha256((await opening).plaintext), payload);
      else await assert.rejects(opening, judge[expect] ?? assert.fail(expect));
    });

  for (const { name, expect, passphrases, payload, file } of ofKind('passphrase'))
    test(name, async () => {
      const opening = openAgeFile(
        file,
        passphrases.map((passphrase) => scryptUnwrapper(passphrase)),
      );
      if (expect === 'success') assert.equal(sha256((await opening).plaintext), payload);
      else await assert.rejects(opening, judge[expect] ?? assert.fail(expect));
    });
});

describe('files for anything else are refused, and a passphrase has to be alone', () => {
  const own = [x25519Unwrapper('AGE-SECRET-KEY-1EGTZVFFV20835NWYV6270LXYVK2VKNX2MMDKWYKLMGR48UAWX40Q2P2LM0')];
  /** Those that the reader finds malformed: the format, the rule, the X25519 stanza of one of them. */
  const malformed: Readonly<Record<string, RegExp>> = {
    scrypt_not_canonical_body: /base64/,
    hybrid_not_canonical_body: /base64/,
    hybrid_x25519_arg: /an X25519 stanza without a share/,
    scrypt_and_x25519: /passphrase stanza that is not alone/,
    scrypt_double: /passphrase stanza that is not alone/,
  };
  for (const { name, file } of [...ofKind('passphrase'), ...ofKind('post-quantum')])
    test(name, async () => {
      const message = malformed[name];
      await assert.rejects(
        openAgeFile(file, own),
        message
          ? isFailure('malformed', message)
          : isFailure('no-recipient', /which is for (.*, )?(scrypt|mlkem768x25519)(, |$)/i),
      );
    });

  test('armor', async () => {
    for (const { name, file } of ofKind('armored'))
      await assert.rejects(
        openAgeFile(file, own),
        isFailure('malformed', /does not begin with age-encryption.org\/v1|header is cut off/),
        name,
      );
  });
});

test('every header that parses encodes back to its own bytes', () => {
  const parsed = vectors.filter(({ kind, expect }) => kind !== 'armored' && expect !== 'header failure');
  for (const { name, file } of parsed) {
    const header = parseHeader(file);
    assert.equal(latin1(encodeHeader(header)), latin1(file.subarray(0, header.length)), name);
  }
  assert.equal(parsed.length, 50);
});

test('every payload with a known file key decrypts or fails, for any recipient', () => {
  const known = vectors.filter(
    ({ kind, expect, fileKey }) =>
      kind !== 'armored' && fileKey !== undefined && ['success', 'payload failure'].includes(expect),
  );
  for (const { name, expect, fileKey = '', payload, file } of known) {
    const open = (): Uint8Array => decryptPayload(file.subarray(parseHeader(file).length), Buffer.from(fileKey, 'hex'));
    if (expect === 'success') assert.equal(sha256(open()), payload, name);
    else assert.throws(open, isFailure('malformed'), name);
  }
  assert.equal(known.length, 37);
});
