/** Fingerprints, and the record of them. */
import assert from 'node:assert/strict';
import { createHmac, hkdfSync } from 'node:crypto';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fingerprintOf } from '../../src/fixed/file.ts';
import { activeSnapshot } from '../../src/provision/active-snapshot.ts';
import { withFingerprint } from '../../src/provision/fingerprint.ts';
import { stepsFor } from '../../src/provision/running-units.ts';
import { authenticated } from '../../src/snapshot/authenticated.ts';
import { installSnapshot, readFixedFile } from '../../src/snapshot/snapshot.ts';
import {
  activeValue,
  fingerprints,
  paths,
  plan,
  put,
  root,
  scope,
  scopes,
  touched,
  useRoot,
  write,
} from './machine.ts';

useRoot();

describe('a fingerprint', () => {
  test('is the HMAC that the format says, by node:crypto alone', () => {
    put('[secret.a]\nkind = "hex"\nunits = ["a.service", "b.service"]\n');
    const key = Buffer.from(hkdfSync('sha256', new Uint8Array(32).fill(1), 'auxcred/v1/release', '', 32));
    const framed = (text: string): Buffer => Buffer.concat([Buffer.from([0, text.length]), Buffer.from(text)]);
    for (const unit of ['a.service', 'b.service']) {
      const value = Buffer.from(activeValue(unit, 'a'));
      const length = Buffer.alloc(4);
      length.writeUInt32BE(value.length);
      assert.equal(
        fingerprints().get(`${unit}/a`),
        createHmac('sha256', key)
          .update(Buffer.concat([framed(unit), framed('a'), length, value]))
          .digest('hex'),
      );
    }
    assert.notEqual(fingerprints().get('a.service/a'), fingerprints().get('b.service/a'));
  });

  test('is in the file that the broker does not read, and neither file contains a value', () => {
    put('[secret.a]\nkind = "hex"\nunits = ["a.service"]\n');
    const [releases = '', record = ''] = ['releases.json', 'record.json'].map((name) =>
      readFileSync(join(paths().snapshot, name), 'utf8'),
    );
    const fingerprint = fingerprints().get('a.service/a') ?? '';
    assert.match(fingerprint, /^[0-9a-f]{64}$/);
    assert.ok(record.includes(fingerprint) && !releases.includes(fingerprint));
    assert.ok(![releases, record].some((text) => text.includes(activeValue('a.service', 'a'))));
  });
});

test('a release and a fixed secret with identical messages have different fingerprints', () => {
  // LP("a.service") || 00 01 || "c" || 00 || 01 62 fd || 90877 bytes: a path and a value of 90880 bytes, or a unit, a
  // credential and a value of 90877.
  const host = new Uint8Array(32).fill(1);
  const value = new Uint8Array(90_877).fill(0x61);
  const longer = Buffer.concat([Buffer.from([0x01, 0x62, 0xfd]), value]);
  withFingerprint(host, (of) => {
    assert.equal(of('fingerprint', 'a.service', 'c', value), fingerprintOf(host, 'a.service', longer));
    assert.notEqual(of('release', 'a.service', 'c', value), fingerprintOf(host, 'a.service', longer));
  });
});

describe('a record from before releases had a label of their own', () => {
  const log = (): string => join(root, 'log');
  const hook = (): string => `hook = ["/bin/touch", "${log()}"]\n`;
  const text = (of: string): string =>
    `[secret.a]\n[secret.f]\nkind = "fixed"\nunits = ["f.service"]\n${hook()}[secret.t]\nkind = "template"\n` +
    `content = "${of}"\nunits = ["t.service"]\n${hook()}`;
  const record = (): string => join(paths().snapshot, 'record.json');
  const bodyOf = (file: string): Record<string, unknown> => JSON.parse(readFileSync(file, 'utf8').slice(65));

  /** As that version wrote it: everything under the label of fixed secrets. */
  function before(): void {
    write('host/web1/f', 'v');
    put(text('x={{a}}'));
    const { fingerprintLabel, ...content } = bodyOf(record());
    assert.equal(fingerprintLabel, 'release');
    const units = [
      ['f.service', 'f'],
      ['t.service', 't'],
    ] as const;
    const old = withFingerprint(new Uint8Array(32).fill(1), (of) =>
      units.map(([unit, id]): [string, string] => [
        `${unit}/${id}`,
        of('fingerprint', unit, id, Buffer.from(activeValue(unit, id))),
      ]),
    );
    writeFileSync(
      record(),
      authenticated({ ...content, fingerprints: Object.fromEntries(old) }, scope('host', 'web1', 1)),
    );
    rmSync(join(paths().snapshot, 'settled.json'));
    assert.equal(activeSnapshot(paths(), scopes)?.fingerprintLabel, 'fingerprint');
  }
  const moved = (): void => {
    const body = bodyOf(record());
    assert.equal(body['fingerprintLabel'], 'release');
    const expected = withFingerprint(new Uint8Array(32).fill(1), (of) =>
      of('release', 't.service', 't', Buffer.from(activeValue('t.service', 't'))),
    );
    assert.equal(fingerprints().get('t.service/t'), expected);
    assert.ok(!existsSync(log()));
  };

  test('is read, touches no unit and runs no hook, and has the new label from then on', () => {
    before();
    const history = bodyOf(record())['history'];
    assert.deepEqual(plan(text('x={{a}}')).changes, []);
    const { changes, changed } = put(text('x={{a}}'));
    assert.deepEqual([changes, changed], [[], true]);
    assert.deepEqual(bodyOf(record())['history'], history);
    moved();
    assert.equal(put(text('x={{a}}')).changed, false);
  });

  test('still recognises the same value from another recipe, and another value', () => {
    before();
    const inner = text('{{i}}{{a}}').replace('[secret.a]', '[secret.i]\nkind = "template"\ncontent = "x="\n[secret.a]');
    assert.deepEqual(
      plan(inner).changes.map(({ why, action }) => [why, action]),
      [['text, same value', 'none']],
    );
    assert.deepEqual(touched(stepsFor(put(inner).changes)), []);
    moved();
    before();
    assert.deepEqual(touched(stepsFor(put(text('y={{a}}')).changes)), ['t.service']);
  });

  test('keeps its label when seeds are sealed again', () => {
    before();
    const old = activeSnapshot(paths(), scopes) ?? assert.fail();
    installSnapshot(paths(), {
      before: old,
      snapshot: { ...old, counter: 2 },
      host: scope('host', 'web1', 1),
      fileOf: (recipe) => readFixedFile(paths(), recipe) ?? assert.fail(),
    });
    assert.deepEqual(activeSnapshot(paths(), scopes), { ...old, counter: 2 });
  });
});
