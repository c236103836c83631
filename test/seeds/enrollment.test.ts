import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { parseHeader, type Stanza } from '../../src/age/header.ts';
import { Failure, type FailureCode } from '../../src/failure.ts';
import {
  type Enrollment,
  encodeEnrolled,
  encodeEnrollment,
  parseEnrolled,
  parseEnrollment,
  sealForHost,
  sealingFor,
  type WantedSealing,
} from '../../src/seeds/enrollment.ts';
import { type HostKeys, openSeeds } from '../../src/seeds/open.ts';
import type { Payload } from '../../src/seeds/payload.ts';
import { freshTpmSecret, parseStanza, unwrapStanza, wrapStanza } from '../../src/seeds/tpm-stanza.ts';
import { sealForImport } from '../../src/tpm2/duplicate.ts';
import { readPresentPcrs, valuesOf } from '../../src/tpm2/pcr.ts';
import { literalPolicy } from '../../src/tpm2/policy.ts';
import { unseal } from '../../src/tpm2/sealed-object.ts';
import { readSrkPublic } from '../../src/tpm2/srk.ts';
import { openTpm } from '../../src/tpm2/tpm.ts';
import { sshPublicKeyIn } from '../age/expect.ts';
import { type Swtpm, startSwtpm } from '../swtpm.ts';
import { startTpmProxy } from '../tpm-proxy.ts';

const failsWith =
  (code: FailureCode, text?: RegExp) =>
  (error: unknown): boolean =>
    error instanceof Failure && error.code === code && (text === undefined || text.test(error.message));
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const moduleAt = (path: string): string => JSON.stringify(import.meta.resolve(path));
const bytes = (from: string): Uint8Array => new TextEncoder().encode(from);

let folder = '';
let swtpm: Swtpm;
let machine: Enrollment;
let keys: HostKeys;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'enrollment-'));
  swtpm = await startSwtpm({ pcrs: { 7: ['a7'.repeat(32)], 14: ['ae'.repeat(32)] } });
  keys = { ssh: join(folder, 'host'), age: undefined };
  assert.equal(spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(folder, 'host')]).status, 0);
  assert.equal(spawnSync('age-keygen', ['-o', join(folder, 'identity')]).status, 0);
  const tpm = await openTpm(swtpm.device);
  try {
    machine = {
      host: 'web1',
      sshHostKey: sshPublicKeyIn(readFileSync(join(folder, 'host.pub'), 'utf8')),
      tpm: { device: swtpm.device, srk: await readSrkPublic(tpm), pcrs: await readPresentPcrs(tpm) },
    };
  } finally {
    await tpm.close();
  }
});
after(async () => {
  await swtpm?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const recovery = (): string =>
  spawnSync('age-keygen', ['-y', join(folder, 'identity')], { encoding: 'utf8' }).stdout.trim();
const wanted = (withKey: WantedSealing['withKey'], more: Partial<WantedSealing> = {}): WantedSealing => ({
  withKey,
  pcrs: withKey === 'host' ? [] : [7, 14],
  recipients: [],
  ...more,
});
const payload = (how: WantedSealing, of: Enrollment = machine): Payload => ({
  counter: 3,
  scopes: [{ kind: 'host', name: 'web1', epoch: 1, seed: new Uint8Array(32).fill(7) }],
  sealing: sealingFor(how, of),
});
const opened = async (file: Uint8Array, device = swtpm.device, with_ = keys) =>
  await openSeeds(file, { keys: with_, device });

describe('an enrollment', () => {
  test('survives a round trip, is canonical and one line', () => {
    for (const one of [
      machine,
      { ...machine, sshHostKey: undefined },
      { ...machine, tpm: undefined },
      { ...machine, tpm: machine.tpm && { ...machine.tpm, device: undefined, pcrs: undefined } },
    ]) {
      const encoded = encodeEnrollment(one);
      assert.deepEqual(parseEnrollment(encoded, 'web1.json'), one);
      assert.match(text(encoded), /^\{"host":"web1"[^\n]*"version":1\}\n$/);
      const kept = { since: '2026-11-23T00:00:07Z', machine: one };
      assert.deepEqual(parseEnrolled(encodeEnrolled(kept), 'web1.json'), kept);
    }
  });

  test('anything else is malformed, and the message says where', () => {
    const good = text(encodeEnrollment(machine));
    const srk = Buffer.from(machine.tpm?.srk.public ?? []);
    const other = (at: number): string => {
      const changed = Buffer.from(srk);
      changed[at] = (changed[at] ?? 0) ^ 1;
      return changed.toString('base64');
    };
    const bad: readonly [string, RegExp][] = [
      ['', /is not JSON/],
      ['[]', /the top level/],
      ['{}', /version/],
      [good.replace('"version":1', '"version":2'), /version/],
      [good.replace('"web1"', '"../web1"'), /host is not a name/],
      [good.replace('"host"', '"hostname"'), /hostname is not a key there/],
      [good.replace('"7":"', '"24":"'), /pcrs\.24 is not a PCR/],
      [good.replace('"7":"', '"07":"'), /pcrs\.07/],
      [good.replace(/"7":"../, '"7":"'), /pcrs\.7 is not 32 bytes/],
      [good.replace(/"sshHostKey":"..../, '"sshHostKey":"'), /sshHostKey is not 32 bytes/],
      [good.replace(srk.toString('base64'), ''), /tpm\.srk is not a storage root key/],
      [good.replace(srk.toString('base64'), `${srk.toString('base64')}=`), /tpm\.srk is not base64/],
      [good.replace(srk.toString('base64'), other(9)), /tpm\.srk is not a storage root key/],
      [good.replace(srk.toString('base64'), other(srk.length - 1)), /the SRK is not a usable key/],
      [good.replace(/"device":"[^"]*"/, '"device":"tpmrm0"'), /device is not a TPM device/],
    ];
    for (const [wrong, says] of bad)
      assert.throws(() => parseEnrollment(bytes(wrong), 'web1.json'), failsWith('malformed', says), wrong);
    assert.throws(() => parseEnrolled(bytes(good), 'web1.json'), failsWith('malformed'));
    assert.throws(
      () => parseEnrolled(bytes(text(encodeEnrolled({ since: 'now', machine }))), 'web1.json'),
      failsWith('malformed', /since/),
    );
  });

  test('no bytes make the parser throw anything but a Failure', () => {
    const good = encodeEnrollment(machine);
    fc.assert(
      fc.property(fc.nat(), fc.integer({ min: 1, max: 255 }), (at, by) => {
        try {
          parseEnrollment(
            good.map((byte, i) => (i === at % good.length ? byte ^ by : byte)),
            'web1.json',
          );
        } catch (error) {
          assert.ok(failsWith('malformed')(error), String(error));
        }
      }),
      { numRuns: 500 },
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (any) => {
        assert.throws(() => parseEnrollment(any, 'web1.json'), failsWith('malformed'));
      }),
    );
  });
});

describe('seeds sealed for an enrolled machine', () => {
  for (const [withKey, openedBy] of [
    ['host', 'ssh host key'],
    ['tpm2', 'tpm2'],
    ['tpm2+host', 'tpm2+host'],
  ] as const)
    test(`${withKey}: open there as they are, and with the recovery key anywhere`, async () => {
      const sealed = payload(wanted(withKey, { recipients: [recovery()] }));
      const file = await sealForHost(sealed, machine);
      const { srk, policy, ...rest } = await opened(file);
      assert.deepEqual(rest, { payload: sealed, openedBy });
      assert.equal(srk !== undefined, withKey !== 'host', 'the TPM that opened it is named');
      assert.equal(policy !== undefined, withKey !== 'host');
      writeFileSync(join(folder, 'seeds.age'), file);
      const byAge = (identity: string) =>
        spawnSync('age', ['-d', '-i', join(folder, identity), join(folder, 'seeds.age')], { encoding: 'utf8' });
      assert.match(byAge('identity').stdout, new RegExp(`"counter":3.*"withKey":"${withKey.replace('+', '\\+')}"`));
      assert.equal(
        byAge('host').status === 0,
        withKey === 'host',
        'the stock tool opens what is for the host key alone',
      );
    });

  test('do not open on another machine, nor on this one after it booted differently', async () => {
    const file = await sealForHost(payload(wanted('tpm2', { pcrs: [7, 23] })), machine);
    const other = await startSwtpm();
    try {
      await assert.rejects(opened(file, other.device), failsWith('other-tpm', /sealed to another TPM/));
    } finally {
      await other.stop();
    }
    swtpm.tool('tpm2_pcrextend', `23:sha256=${'01'.repeat(32)}`);
    await assert.rejects(opened(file), failsWith('pcr-mismatch', /PCR 23 \(sealed at 0{16}, now [0-9a-f]{16}\)$/));
    swtpm.tool('tpm2_pcrreset', '23');
    await opened(file);
    const both = await sealForHost(payload(wanted('tpm2+host')), machine);
    await assert.rejects(
      opened(both, swtpm.device, { ssh: undefined, age: undefined }),
      failsWith('no-recipient', /sealed to the TPM and the ssh host key/),
    );
    await assert.rejects(opened(both, 'swtpm:path=/nonexistent'), failsWith('no-tpm'));
  });

  test('are made without libtss2', async () => {
    const program = `
      import { readFileSync } from 'node:fs';
      import { bind } from ${moduleAt('../../src/system/ffi.js')};
      import { parseEnrollment, sealForHost, sealingFor } from ${moduleAt('../../src/seeds/enrollment.js')};
      try { bind('libtss2-mu.so.0', {}); process.exit(3); } catch {}
      const machine = parseEnrollment(readFileSync(0), 'standard input');
      const sealing = sealingFor({ withKey: 'tpm2', pcrs: [7, 14], recipients: [] }, machine);
      process.stdout.write(await sealForHost({ counter: 3, scopes: [{ kind: 'host', name: 'web1', epoch: 1, seed: new Uint8Array(32).fill(7) }], sealing }, machine));`;
    const libraries = spawnSync('sh', ['-c', 'ls /usr/lib/*/libtss2-*.so.0'], { encoding: 'utf8' })
      .stdout.trim()
      .split('\n');
    const hidden =
      'for library; do mount --bind /dev/null "$library"; done; exec "$0" --input-type=module -e "$PROGRAM"';
    const { status, stdout, stderr } = spawnSync(
      'unshare',
      ['--mount', '--map-root-user', 'sh', '-c', hidden, process.execPath, ...libraries],
      { input: encodeEnrollment(machine), env: { PATH: process.env['PATH'], PROGRAM: program } },
    );
    assert.equal(status, 0, stderr.toString());
    assert.deepEqual((await opened(stdout)).payload, payload(wanted('tpm2')));
  });

  test('are bound to PCRs at the first boot if the machine was enrolled during its installation', async () => {
    const installing: Enrollment = { ...machine, tpm: machine.tpm && { ...machine.tpm, pcrs: undefined } };
    const sealed = payload(wanted('tpm2'), installing);
    assert.deepEqual([sealed.sealing.pcrs, sealed.sealing.pcrsAtFirstBoot], [[], [7, 14]]);
    assert.deepEqual((await opened(await sealForHost(sealed, installing))).payload, sealed);
  });

  test('are not made if something is missing', async () => {
    const seal = async (how: WantedSealing, of: Enrollment): Promise<Uint8Array> =>
      await sealForHost(payload(how, of), of);
    await assert.rejects(
      seal(wanted('host'), { ...machine, sshHostKey: undefined }),
      failsWith('no-recipient', /web1 is enrolled without an ssh-ed25519 host key/),
    );
    await assert.rejects(seal(wanted('tpm2+host'), { ...machine, sshHostKey: undefined }), failsWith('no-recipient'));
    await assert.rejects(
      seal(wanted('tpm2'), { ...machine, tpm: undefined }),
      failsWith('no-tpm', /web1 is enrolled without a TPM/),
    );
    await assert.rejects(
      seal(wanted('tpm2'), { ...machine, tpm: machine.tpm && { ...machine.tpm, pcrs: new Map() } }),
      failsWith('usage', /no SHA-256 value for PCR 7/),
    );
    await assert.rejects(
      seal(wanted('host', { recipients: ['age1nonsense'] }), machine),
      failsWith('usage', /age1nonsense is not a recipient/),
    );
    await assert.rejects(
      seal(wanted('host'), { ...machine, sshHostKey: new Uint8Array(32) }),
      failsWith('no-recipient'),
    );
  });

  test('neither K nor the file key crosses the bus in the clear', async () => {
    const file = await sealForHost(payload(wanted('tpm2')), machine);
    const proxy = await startTpmProxy(swtpm.device);
    try {
      await opened(file, proxy.device);
    } finally {
      await proxy.stop();
    }
    const [stanza] = parseHeader(file).stanzas;
    assert.ok(stanza);
    const parsed = parseStanza(stanza);
    const tpm = await openTpm(swtpm.device);
    const secret = await unseal(tpm, parsed.sealed).finally(async () => {
      await tpm.close();
    });
    const fileKey = unwrapStanza('auxcred/tpm2', parsed, [secret]);
    const traffic = proxy.traffic();
    assert.ok(
      traffic.includes(Buffer.from('duplicate' in parsed.sealed ? parsed.sealed.duplicate : [])),
      'the proxy saw it',
    );
    for (const hidden of [secret, fileKey, new Uint8Array(32).fill(7)])
      assert.ok(!traffic.includes(Buffer.from(hidden)));
  });
});

describe("the stanza of another machine's seal", () => {
  const made = (): { stanza: Stanza; secret: Uint8Array; fileKey: Uint8Array } => {
    const [secret, fileKey] = [freshTpmSecret(), new Uint8Array(16).fill(5)];
    const srk = machine.tpm?.srk;
    const pcrs = machine.tpm?.pcrs;
    assert.ok(srk && pcrs);
    return {
      stanza: wrapStanza(
        ['auxcred/tpm2'],
        sealForImport(srk, secret, literalPolicy(valuesOf(pcrs, [7]))),
        [secret],
        fileKey,
      ),
      secret,
      fileKey,
    };
  };

  test('has one more field than a native one, and no bit of it can be changed', () => {
    const { stanza, secret, fileKey } = made();
    const parsed = parseStanza(stanza);
    assert.deepEqual(Object.keys(parsed.sealed).sort(), [
      'duplicate',
      'encryptedSeed',
      'policy',
      'public',
      'srkName',
      'srkTemplate',
    ]);
    assert.deepEqual([...unwrapStanza('auxcred/tpm2', parsed, [secret])], [...fileKey]);
    const opens = (changed: Stanza): void => {
      unwrapStanza('auxcred/tpm2', parseStanza(changed), [secret]);
    };
    for (let i = 0; i < stanza.body.length; i++)
      assert.throws(
        () => {
          opens({ ...stanza, body: stanza.body.map((byte, at) => (at === i ? byte ^ 1 : byte)) });
        },
        failsWith('malformed'),
        String(i),
      );
    for (let length = 0; length < stanza.body.length; length++)
      assert.throws(
        () => {
          opens({ ...stanza, body: stanza.body.subarray(0, length) });
        },
        failsWith('malformed'),
        String(length),
      );
    assert.throws(() => {
      opens({ ...stanza, args: ['auxcred/tpm2', 'x'] });
    }, failsWith('malformed'));
  });

  test('without its last field, or with another one, does not pass for a native one', () => {
    const {
      stanza: { body },
      secret,
    } = made();
    const { sealed } = parseStanza({ args: ['auxcred/tpm2'], body });
    assert.ok('encryptedSeed' in sealed);
    const fields = body.subarray(0, -32);
    for (const changed of [fields.subarray(0, -2 - sealed.encryptedSeed.length), Uint8Array.from([...fields, 0, 0])]) {
      assert.throws(
        () =>
          unwrapStanza(
            'auxcred/tpm2',
            parseStanza({ args: ['auxcred/tpm2'], body: Uint8Array.from([...changed, ...body.subarray(-32)]) }),
            [secret],
          ),
        failsWith('malformed'),
      );
    }
  });

  test('no bytes make the parser throw anything but a Failure', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), (any) => {
        assert.throws(() => parseStanza({ args: ['auxcred/tpm2'], body: any }), failsWith('malformed'));
      }),
    );
    const field = fc.uint8Array({ maxLength: 40 }).map((content) => [0, content.length, ...content]);
    fc.assert(
      fc.property(fc.array(field, { maxLength: 8 }), (fields) => {
        assert.throws(
          () =>
            parseStanza({ args: ['auxcred/tpm2'], body: Uint8Array.from([...fields.flat(), ...new Uint8Array(32)]) }),
          failsWith('malformed'),
        );
      }),
    );
  });
});
