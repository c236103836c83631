import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { parseOpensshKey } from '../../src/age/openssh-key.ts';
import { exitStatus, Failure } from '../../src/failure.ts';
import { encodeFixed } from '../../src/fixed/file.ts';
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
import { type Scope, scopeName } from '../../src/seeds/scope.ts';
import { sealForTransit } from '../../src/seeds/seal.ts';
import * as cli from '../cli.ts';
import { startSwtpm } from '../swtpm.ts';
import { startSwappingProxy } from '../tpm-proxy.ts';
import { commandCodes, leftIn } from '../tpm2/sealing.ts';

/**
 * The operator's folder, with a vault, the hosts' roots, and a stand-in for ssh that runs the given command.
 */
let folder = '';
const at = (path: string): string => join(folder, path);
const environment = (): NodeJS.ProcessEnv => ({ PATH: process.env['PATH'], HOME: folder });
const auxcred = (args: readonly string[], input: string | Uint8Array = ''): cli.Said =>
  cli.auxcred(args, { input, env: environment() });
function works(args: readonly string[], input = ''): string {
  const { status, stdout, stderr } = auxcred(args, input);
  assert.equal(status, 0, `${args.join(' ')}: ${stderr}`);
  return stdout;
}
const operator = (verb: string, ...args: string[]): string[] => [
  verb,
  `--vault=${at('vault')}`,
  `--identity=${at('identity')}`,
  ...args,
];
interface Row {
  host: string;
  result: string;
  sent: { seeds: boolean; fixed: string[]; manifest: string[]; removed: string[] };
  units: unknown[];
  failure?: { code: string; message: string; hint?: string };
}
function pushed(...args: string[]): { rows: Row[]; status: number | null; stderr: string } {
  const { status, stdout, stderr } = auxcred(operator('push', '--json', ...args));
  assert.notEqual(stdout, '', stderr);
  const { hosts }: { hosts: Row[] } = JSON.parse(stdout);
  return { rows: hosts, status, stderr };
}
const put = (name: string, value: string): string => works(operator('put', '--force', name), value);
const store = (host: string): string => at(`${host}/var/lib/auxcred`);
const vaultToml = (more = ''): void => {
  writeFileSync(
    at('vault/vault.toml'),
    `ssh = ["${at('bin/near-ssh')}"]\n[host.web1]\ngroups = ["db"]\n${more}[host.web2]\ngroups = ["db"]\n`,
  );
};

function makeHost(name: string): void {
  for (const path of ['etc/ssh', 'etc/auxcred/secrets.d']) mkdirSync(at(`${name}/${path}`), { recursive: true });
  writeFileSync(at(`${name}/etc/hostname`), `${name}\n`);
  writeFileSync(at(`${name}/etc/group`), 'root:x:0:\n');
  assert.equal(
    spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', at(`${name}/etc/ssh/ssh_host_ed25519_key`)]).status,
    0,
  );
}

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'push-'));
  assert.equal(spawnSync('age-keygen', ['-o', at('identity')]).status, 0);
  works([
    'init',
    `--vault=${at('vault')}`,
    `--recipient=${spawnSync('age-keygen', ['-y', at('identity')], { encoding: 'utf8' }).stdout.trim()}`,
  ]);
  mkdirSync(at('bin'));
  const program = (name: string, text: string): void => {
    writeFileSync(at(`bin/${name}`), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  };
  program(
    'auxcred',
    `exec '${process.execPath}' '${join(process.cwd(), 'dist/auxcred.cjs')}' "$@" --root='${folder}'/"$TARGET"`,
  );
  program('sudo', 'shift; exec "$@"');
  for (const host of ['web1', 'web2']) makeHost(host);
  mkdirSync(at('vault/all'));
  writeFileSync(at('vault/all/web.toml'), '[secret.session]\nkind = "hex"\nshare = "db"\nunits = ["web.service"]\n');
  program('near-ssh', `TARGET=\${1#*@} PATH='${at('bin')}':$PATH exec sh -c "$2"`);
  program('far-ssh', 'sleep 60');
  vaultToml();
});
after(() => {
  rmSync(folder, { recursive: true });
});

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
  };
  const request: Request = {
    purpose: 'receive',
    seeds: { length: 3, keepSealing: true, replaces: new Map([['host/web1', new Uint8Array(16)]]) },
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

describe('push', () => {
  test('sends what is missing, and then nothing', () => {
    put('host/web1/wifi', 'secret one');
    put('group/db/token', 'shared');
    const first = pushed('--all', '--manifest');
    assert.equal(first.status, 0, first.stderr);
    assert.deepEqual(
      first.rows.map(({ host, result, sent }) => [host, result, sent]),
      [
        [
          'web1',
          'done',
          { seeds: true, fixed: ['host/web1/wifi', 'group/db/token'], manifest: ['web.toml'], removed: [] },
        ],
        ['web2', 'done', { seeds: true, fixed: ['group/db/token'], manifest: ['web.toml'], removed: [] }],
      ],
    );
    const calm = pushed('--all', '--manifest');
    assert.deepEqual(
      calm.rows.map(({ result }) => result),
      ['nothing to do', 'nothing to do'],
    );
    for (const host of ['web1', 'web2'])
      assert.equal(
        works(['get', 'session', `--root=${at(host)}`]),
        works(operator('get', 'session', `--host=${host}`)),
      );
    assert.equal(works(['get', 'host/web1/wifi', `--root=${at('web1')}`]), 'secret one');
    assert.equal(statSync(join(store('web1'), 'fixed/host/web1/wifi.sealed')).mode & 0o777, 0o600);
    assert.equal(statSync(join(store('web1'), 'pushed.json')).mode & 0o777, 0o600);
    assert.equal(works(['get', 'group/db/token', `--root=${at('web2')}`]), 'shared');
    assert.ok(existsSync(at('vault/enrolled/web1.json')));
  });

  test('removes what a push brought and the vault no longer has, and leaves the rest', () => {
    put('host/web1/old', 'x');
    writeFileSync(at('vault/all/old.toml'), '[secret.old]\nkind = "hex"\nunits = ["old.service"]\n');
    pushed('web1', '--manifest');
    works(['put', 'host/web1/mine', `--root=${at('web1')}`], 'by hand');
    writeFileSync(
      at('web1/etc/auxcred/secrets.d/mine.toml'),
      '[secret.mine]\nkind = "fixed"\nunits = ["mine.service"]\n',
    );
    works(operator('rm', '--force', 'host/web1/old'));
    rmSync(at('vault/all/old.toml'));
    const { rows, status } = pushed('web1', '--manifest');
    assert.equal(status, 0);
    assert.deepEqual(rows[0]?.sent, { seeds: false, fixed: [], manifest: [], removed: ['host/web1/old', 'old.toml'] });
    assert.deepEqual(readdirSync(at('web1/etc/auxcred/secrets.d')).sort(), ['mine.toml', 'web.toml']);
    assert.deepEqual(readdirSync(join(store('web1'), 'fixed/host/web1')).sort(), ['mine.sealed', 'wifi.sealed']);
  });

  test('an older file is refused, and sent with --accept-older', () => {
    const file = at('vault/fixed/host/web1/wifi.sealed');
    const old = readFileSync(file);
    put('host/web1/wifi', 'secret two');
    pushed('web1');
    writeFileSync(file, old);
    const { rows, status } = pushed('web1');
    assert.equal(status, exitStatus.older);
    assert.match(rows[0]?.failure?.message ?? '', /host\/web1\/wifi on the host is newer than the vault's/);
    assert.equal(pushed('web1', '--accept-older').status, 0);
    assert.equal(works(['get', 'host/web1/wifi', `--root=${at('web1')}`]), 'secret one');
  });

  test('a manifest that would be wrong changes nothing', () => {
    const before = readFileSync(at('web1/etc/auxcred/secrets.d/web.toml'), 'utf8');
    writeFileSync(at('vault/all/bad.toml'), '[secret.bad]\nkind = "hexx"\nunits = ["web.service"]\n');
    put('host/web1/wifi', 'secret three');
    const { rows, status } = pushed('web1', '--manifest');
    assert.equal(status, exitStatus['invalid-manifest']);
    assert.match(
      rows[0]?.failure?.message ?? '',
      /the manifest would have 1 error; \/etc\/auxcred\/secrets\.d\/bad\.toml:2: /,
    );
    writeFileSync(at('vault/all/bad.toml'), '[secret.lost]\nkind = "fixed"\nunits = ["web.service"]\n');
    assert.equal(pushed('web1', '--manifest').status, exitStatus['not-found']);
    rmSync(at('vault/all/bad.toml'));
    assert.equal(works(['get', 'host/web1/wifi', `--root=${at('web1')}`]), 'secret one');
    assert.equal(readFileSync(at('web1/etc/auxcred/secrets.d/web.toml'), 'utf8'), before);
    assert.equal(existsSync(at('web1/etc/auxcred/secrets.d/bad.toml')), false);
    pushed('web1', '--manifest');
  });

  test('a new epoch is accepted; an older one and seeds of another vault are not', () => {
    const session = works(['get', 'session', `--root=${at('web2')}`]);
    vaultToml('[group.db]\nepoch = 2\n');
    works(operator('rekey', 'group/db'));
    const { rows } = pushed('web2');
    assert.deepEqual([rows[0]?.result, rows[0]?.sent.seeds, rows[0]?.sent.fixed], ['done', true, ['group/db/token']]);
    assert.notEqual(works(['get', 'session', `--root=${at('web2')}`]), session);
    vaultToml();
    const token = readFileSync(at('vault/fixed/group/db/token.sealed'));
    rmSync(at('vault/fixed/group/db/token.sealed'));
    const back = pushed('web2');
    assert.equal(back.status, exitStatus.older);
    assert.match(back.rows[0]?.failure?.message ?? '', /web2 has group\/db in epoch 2, and the vault is in 1/);
    vaultToml('[group.db]\nepoch = 2\n');
    writeFileSync(at('vault/fixed/group/db/token.sealed'), token);

    works([
      'init',
      `--vault=${at('other')}`,
      `--recipient=${spawnSync('age-keygen', ['-y', at('identity')], { encoding: 'utf8' }).stdout.trim()}`,
    ]);
    writeFileSync(at('other/vault.toml'), readFileSync(at('vault/vault.toml')));
    const { status, stdout } = auxcred([
      'push',
      'web2',
      '--json',
      `--vault=${at('other')}`,
      `--identity=${at('identity')}`,
    ]);
    assert.equal(status, exitStatus.refused);
    assert.match(stdout, /web2 has a seed for (?:host\/web2|group\/db) that is not from this vault/);
    assert.ok(!existsSync(at('other/enrolled/web2.json')));
    pushed('web1');
  });

  test('a host keeps its sealing if vault.toml does not set one', () => {
    const recipient = spawnSync('age-keygen', ['-y', at('identity')], { encoding: 'utf8' }).stdout.trim();
    works(['reseal', `--root=${at('web2')}`, `--add-recipient=${recipient}`]);
    assert.equal(pushed('web2', '--reseal').rows[0]?.result, 'done');
    assert.equal(spawnSync('age', ['-d', '-i', at('identity'), join(store('web2'), 'seeds.age')]).status, 0);
  });

  test('a host whose seeds do not open is sealed as vault.toml says, once it does', () => {
    const settings = readFileSync(at('vault/vault.toml'), 'utf8');
    writeFileSync(join(store('web2'), 'seeds.age'), 'damaged');
    const {
      rows: [unsaid],
    } = pushed('web2', '--reseal');
    assert.equal(unsaid?.result, 'failed');
    assert.match(
      unsaid.failure?.hint ?? '',
      /^with-key = "host" or "tpm2" for this host in vault\.toml .*; then auxcred push --reseal$/,
    );
    writeFileSync(at('vault/vault.toml'), settings.replace('[host.web2]\n', '[host.web2]\nwith-key = "host"\n'));
    assert.equal(pushed('web2', '--reseal').rows[0]?.result, 'done');
    writeFileSync(at('vault/vault.toml'), settings);
    works(['unseal', `--root=${at('web2')}`]);
  });

  test("an ssh that hangs, one that does not exist and one that can't be run fail with their reasons", () => {
    const settings = readFileSync(at('vault/vault.toml'), 'utf8');
    writeFileSync(at('vault/vault.toml'), settings.replace('near-ssh', 'far-ssh'));
    const started = Date.now();
    const hanging = pushed('web1', '--timeout=1');
    assert.deepEqual(
      [hanging.status, hanging.rows[0]?.failure?.message],
      [exitStatus.timeout, 'web1 did not finish within 1 s'],
    );
    assert.ok(Date.now() - started < 20_000);
    writeFileSync(at('vault/vault.toml'), settings.replace(/ssh = .*/, 'ssh = ["false"]'));
    assert.equal(pushed('web1').status, exitStatus.system);
    writeFileSync(
      at('vault/vault.toml'),
      settings.replace(/ssh = .*/, 'ssh = ["sh", "-c", "echo auxcred: not found >&2; exit 127"]'),
    );
    const none = pushed('web1');
    assert.equal(none.rows[0]?.failure?.message, 'auxcred is not installed on web1');
    assert.match(none.stderr, /^auxcred: web1: not found$/m);
    writeFileSync(
      at('vault/vault.toml'),
      settings.replace(/ssh = .*/, 'ssh = ["sh", "-c", "echo sudo: not found >&2; exit 127"]'),
    );
    assert.equal(pushed('web1').rows[0]?.failure?.message, "the login on web1 is not root's, and there is no sudo");
    writeFileSync(
      at('vault/vault.toml'),
      settings.replace(/ssh = .*/, 'ssh = ["sh", "-c", "echo banner >&2; echo no route >&2; exit 255"]'),
    );
    const away = pushed('web1');
    assert.equal(away.rows[0]?.failure?.message, "web1 can't be reached: no route");
    assert.match(
      away.stderr,
      /^auxcred: web1: banner\nauxcred: web1 can't be reached: no route\nauxcred: web1: hint: /m,
      'said once',
    );
    writeFileSync(at('vault/vault.toml'), settings.replace(/ssh = .*/, 'ssh = ["/nonexistent/ssh"]'));
    assert.match(pushed('web1').rows[0]?.failure?.message ?? '', /\/nonexistent\/ssh can't be run/);
    writeFileSync(at('vault/vault.toml'), settings);
  });

  test("what can't be written on the host is a failure of its own", () => {
    pushed('web2', '--manifest');
    mkdirSync(at('vault/hosts/web2'), { recursive: true });
    writeFileSync(
      at('vault/hosts/web2/stored.toml'),
      '[secret.stored]\ndelivery = "credstore"\nunits = ["web.service"]\n',
    );
    const { failure } = pushed('web2', '--manifest').rows[0] ?? {};
    assert.equal(failure?.code, 'system');
    assert.match(failure.message, /^systemd-creds encrypt failed/);
    rmSync(at('vault/hosts'), { recursive: true });
    assert.equal(pushed('web2', '--manifest').status, 0);
  });

  test("replacing somebody else's credential is refused before anything is written", () => {
    pushed('web2', '--manifest');
    mkdirSync(at('web2/etc/credstore.encrypted'));
    writeFileSync(at('web2/etc/credstore.encrypted/mine'), 'theirs');
    mkdirSync(at('vault/hosts/web2'), { recursive: true });
    writeFileSync(at('vault/hosts/web2/stored.toml'), '[secret.mine]\ndelivery = "credstore"\n');
    const { failure } = pushed('web2', '--manifest').rows[0] ?? {};
    assert.deepEqual(
      [failure?.code, failure?.message],
      ['refused', `${at('web2/etc/credstore.encrypted/mine')} exists, and was not made by auxcred`],
    );
    assert.ok(!existsSync(at('web2/etc/auxcred/secrets.d/stored.toml')));
    rmSync(at('vault/hosts'), { recursive: true });
    rmSync(at('web2/etc/credstore.encrypted'), { recursive: true });
    assert.equal(pushed('web2', '--manifest').rows[0]?.result, 'nothing to do');
  });

  test('operands name hosts, and how they are reached', () => {
    const settings = readFileSync(at('vault/vault.toml'), 'utf8');
    writeFileSync(at('vault/vault.toml'), settings.replace('[host.web2]\n', '[host.web2]\ntarget = "admin@web2"\n'));
    pushed('web1');
    assert.deepEqual(
      pushed('admin@web2', 'root@web1').rows.map(({ host, result }) => [host, result]),
      [
        ['web2', 'nothing to do'],
        ['web1', 'nothing to do'],
      ],
    );
    for (const [operands, code] of [
      [[], 'usage'],
      [['--all', 'web1'], 'usage'],
      [['web1', 'root@web1'], 'usage'],
      [['web9'], 'not-found'],
      [['root@'], 'not-found'],
      [['-oProxyCommand=x@web1'], 'usage'],
    ] as const)
      assert.equal(auxcred(operator('push', ...operands)).status, exitStatus[code], operands.join(' '));
    for (const target of ['-oProxyCommand=x', 'a b', '']) {
      writeFileSync(at('vault/vault.toml'), settings.replace('[host.web2]\n', `[host.web2]\ntarget = "${target}"\n`));
      assert.equal(auxcred(operator('push', 'web2')).status, exitStatus.malformed);
    }
    writeFileSync(at('vault/vault.toml'), settings);
  });
});

/** Sets vault.toml for `work`, and sets it back. */
function withSettings<T>(change: (text: string) => string, work: () => T): T {
  const settings = readFileSync(at('vault/vault.toml'), 'utf8');
  writeFileSync(at('vault/vault.toml'), change(settings));
  try {
    return work();
  } finally {
    writeFileSync(at('vault/vault.toml'), settings);
  }
}
const alsoHost =
  (name: string, more = 'groups = ["db"]\n') =>
  (text: string): string =>
    `${text}[host.${name}]\n${more}`;
const failureOf = ({ rows: [row] }: { rows: Row[] }): [string | undefined, string] => [
  row?.failure?.code,
  row?.failure?.message ?? '',
];

describe('what a host has of its own', () => {
  let count = 0;
  /** A host with a seed and a secret of its own, and its files. */
  function ownHost(): { name: string; kept: () => unknown } {
    const name = `own${String(++count)}`;
    makeHost(name);
    works(['seal', '--no-recovery', `--root=${at(name)}`]);
    works(['put', `host/${name}/mine`, `--root=${at(name)}`], 'by hand');
    writeFileSync(
      at(`${name}/etc/auxcred/secrets.d/mine.toml`),
      '[secret.mine]\nkind = "fixed"\nunits = ["mine.service"]\n',
    );
    works(['apply', `--root=${at(name)}`]);
    return {
      name,
      kept: () =>
        ['seeds.age', `fixed/host/${name}/mine.sealed`].map((file) =>
          existsSync(join(store(name), file)) ? readFileSync(join(store(name), file)) : undefined,
        ),
    };
  }
  const pinsOf = (name: string): string => at(`${name}/etc/auxcred/scopes.json`);
  function refused(name: string, kept: () => unknown, says: RegExp, ...options: string[]): void {
    const before = kept();
    withSettings(alsoHost(name, 'groups = ["db"]\nwith-key = "host"\n'), () => {
      const [code, message] = failureOf(pushed(name, ...options));
      assert.match(message, says);
      assert.ok(code === 'refused' || code === 'not-pinned', code);
    });
    assert.deepEqual(kept(), before);
  }

  test('a seed is not replaced just because scopes.json is missing, damaged or of another seed', () => {
    const { name, kept } = ownHost();
    const pins = readFileSync(pinsOf(name));
    refused(name, kept, /has a seed for host\/own1 that is not from this vault/);
    rmSync(pinsOf(name));
    refused(
      name,
      kept,
      /the seed of host\/own1 here is unknown to the operator, and every secret derived from it would be lost/,
    );
    writeFileSync(pinsOf(name), '{"version":1,"scopes":');
    refused(name, kept, /the seed of host\/own1 here is unknown to the operator/);
    writeFileSync(pinsOf(name), pins.toString().replace(/"keyId": "[0-9a-f]+"/, `"keyId": "${'0'.repeat(32)}"`));
    refused(name, kept, /has a seed for host\/own1 that is not from this vault/);
    rmSync(pinsOf(name));
    withSettings(alsoHost(name, 'groups = ["db"]\nwith-key = "host"\n'), () => {
      assert.match(
        failureOf(pushed(name, '--replace'))[1],
        /own1\/mine was encrypted for another scope, or for another epoch/,
        'a unit would be left without',
      );
      rmSync(at(`${name}/etc/auxcred/secrets.d/mine.toml`));
      assert.equal(pushed(name, '--replace').rows[0]?.result, 'done');
    });
    works(['unseal', `--root=${at(name)}`]);
  });

  test('a seed that no longer opens, or of which only a snapshot or a fixed file is left, is not given up either', () => {
    const { name, kept } = ownHost();
    rmSync(pinsOf(name));
    const seeds = readFileSync(join(store(name), 'seeds.age'));
    writeFileSync(join(store(name), 'seeds.age'), 'damaged');
    refused(
      name,
      kept,
      /scopes\.json is missing or damaged and seeds\.age does not open \(.*\), so it is not known whose seed would be lost/,
    );
    rmSync(join(store(name), 'seeds.age'));
    refused(
      name,
      kept,
      /scopes\.json and seeds\.age are gone or damaged, and what is active here comes from another seed than the pushed one/,
    );
    for (const path of ['provisioned', 'generations']) rmSync(join(store(name), path), { recursive: true });
    refused(name, kept, /host\/own2\/mine could no longer be opened/);
    writeFileSync(join(store(name), 'seeds.age'), seeds);
    refused(name, kept, /the seed of host\/own2 here is unknown to the operator/);
  });

  test("another host's seeds are never accepted, whatever is missing", () => {
    const { name, kept } = ownHost();
    writeFileSync(at(`${name}/etc/hostname`), 'other\n');
    works(['seal', '--replace', '--no-recovery', `--root=${at(name)}`]);
    rmSync(pinsOf(name));
    refused(name, kept, /this machine is host\/other, and does not accept seeds of host\/own3/);
    refused(name, kept, /this machine is host\/other, and does not accept seeds of host\/own3/, '--replace');
  });

  test('its own seeds are sealed again if scopes.json is gone, with the same sealing', () => {
    const recipient = spawnSync('age-keygen', ['-y', at('identity')], { encoding: 'utf8' }).stdout.trim();
    makeHost('lost');
    withSettings(alsoHost('lost'), () => {
      pushed('lost');
      works(['reseal', `--root=${at('lost')}`, `--add-recipient=${recipient}`]);
      const pins = readFileSync(pinsOf('lost'), 'utf8');
      rmSync(pinsOf('lost'));
      const { rows, stderr } = pushed('lost');
      assert.equal(rows[0]?.result, 'done', stderr);
      assert.equal(readFileSync(pinsOf('lost'), 'utf8'), pins);
      assert.equal(spawnSync('age', ['-d', '-i', at('identity'), join(store('lost'), 'seeds.age')]).status, 0);
    });
  });

  test('a fixed secret that was put or changed there is overwritten only with --replace', () => {
    makeHost('putter');
    withSettings(alsoHost('putter'), () => {
      const value = (name: string): string => works(['get', `host/putter/${name}`, `--root=${at('putter')}`]);
      put('host/putter/wifi', 'of the vault');
      pushed('putter');
      works(['put', 'host/putter/mine', `--root=${at('putter')}`], 'mine');
      put('host/putter/mine', 'theirs');
      for (const options of [[], ['--dry-run']])
        assert.deepEqual(failureOf(pushed('putter', ...options)), [
          'refused',
          'host/putter/mine was put or edited on putter, not by a push',
        ]);
      assert.equal(value('mine'), 'mine');
      assert.equal(pushed('putter', '--replace').rows[0]?.result, 'done');
      assert.equal(value('mine'), 'theirs');
      works(['put', '--force', 'host/putter/wifi', `--root=${at('putter')}`], 'changed there');
      put('host/putter/wifi', 'changed here');
      assert.deepEqual(failureOf(pushed('putter')), [
        'refused',
        'host/putter/wifi was put or edited on putter, not by a push',
      ]);
      works(operator('rm', '--force', 'host/putter/wifi'));
      assert.equal(pushed('putter').rows[0]?.result, 'nothing to do');
      assert.equal(value('wifi'), 'changed there', 'nor is it taken away');
    });
  });

  test('one that a new epoch would make unreadable is named', () => {
    makeHost('epoch');
    withSettings(alsoHost('epoch'), () => {
      pushed('epoch');
      works(['put', 'host/epoch/mine', `--root=${at('epoch')}`], 'mine');
      works(operator('rekey', '--next', 'host/epoch'));
      for (const options of [[], ['--dry-run']])
        assert.match(
          failureOf(pushed('epoch', ...options))[1],
          /^host\/epoch\/mine could no longer be opened: put on the machine itself, under a seed that this push replaces$/,
        );
      assert.equal(works(['get', 'host/epoch/mine', `--root=${at('epoch')}`]), 'mine');
      assert.equal(pushed('epoch', '--replace').rows[0]?.result, 'done');
    });
  });

  test('a push that was cut short does not forget what it brought', () => {
    makeHost('cut');
    withSettings(alsoHost('cut'), () => {
      const file = at('vault/fixed/host/cut/a.sealed');
      put('host/cut/a', 'one');
      pushed('cut');
      const one = readFileSync(file);
      put('host/cut/a', 'two');
      const record = join(store('cut'), 'pushed.json');
      const { fixed, ...rest }: { fixed: Record<string, string[]> } = JSON.parse(readFileSync(record, 'utf8'));
      const digest = createHash('sha256').update(readFileSync(file)).digest('hex');
      writeFileSync(
        record,
        JSON.stringify({
          ...rest,
          unfinished: true,
          fixed: { 'host/cut/a': [...(fixed['host/cut/a'] ?? []), digest] },
        }),
      );
      writeFileSync(file, one);
      assert.equal(pushed('cut').rows[0]?.result, 'done', 'the vault took it back before the push could write it');
      rmSync(file);
      assert.deepEqual(pushed('cut').rows[0]?.sent.removed, ['host/cut/a']);
    });
  });
});

describe('the names of fixed secrets', () => {
  /** Two secrets whose names differ only in case, as after a merge of two branches. */
  function twins(host: string): void {
    const file = at(`vault/fixed/host/${host}/Tok.sealed`);
    put(`host/${host}/Tok`, 'one');
    const one = readFileSync(file);
    rmSync(file);
    put(`host/${host}/tok`, 'two');
    writeFileSync(file, one);
  }

  test('are judged together before anything is sealed, and verify reports conflicts', () => {
    makeHost('merged');
    withSettings(alsoHost('merged'), () => {
      twins('merged');
      const { status, stderr } = auxcred(operator('verify', 'host/merged'));
      assert.equal(status, exitStatus.malformed);
      assert.match(stderr, /host\/merged\/tok differs from host\/merged\/Tok only in case/);
      for (const options of [[], ['--dry-run']]) {
        const [code, message] = failureOf(pushed('merged', ...options));
        assert.deepEqual(
          [code, message],
          [
            'refused',
            'host/merged/tok differs from host/merged/Tok only in case: they would be one file on other systems',
          ],
        );
      }
      assert.ok(!existsSync(join(store('merged'), 'seeds.age')));
      works(operator('rm', '--force', 'host/merged/Tok'));
      assert.equal(pushed('merged').rows[0]?.result, 'done');
      rmSync(at('vault/fixed/host/merged'), { recursive: true });
      put('host/merged/tOK/deep', 'three');
      assert.deepEqual(pushed('merged').rows[0]?.sent, {
        seeds: false,
        fixed: ['host/merged/tOK/deep'],
        manifest: [],
        removed: ['host/merged/tok'],
      });
      put('host/merged/TOK', 'a folder and a file of two cases');
      works(operator('rm', '--force', 'host/merged/tOK/deep'));
      assert.equal(pushed('merged').rows[0]?.result, 'done', "what goes is in nobody's way");
      assert.equal(works(['get', 'host/merged/TOK', `--root=${at('merged')}`]), 'a folder and a file of two cases');
      works(['put', 'host/merged/Own', `--root=${at('merged')}`], 'put there');
      put('host/merged/own', 'of the vault');
      assert.match(
        pushed('merged').rows[0]?.failure?.hint ?? '',
        /^auxcred mv or rm host\/merged\/Own on merged, or auxcred mv host\/merged\/own in the vault$/,
      );
    });
  });

  test("do not end in the files' extension, and what is in their way is named before anything is written", () => {
    for (const name of ['host/web1/web.sealed/x', 'host/web1/web.SEALED'])
      assert.match(auxcred(operator('put', name), 'x').stderr, /a part of it ends in \.sealed/);
    makeHost('blocked');
    withSettings(alsoHost('blocked'), () => {
      pushed('blocked');
      const seeds = readFileSync(join(store('blocked'), 'seeds.age'));
      put('host/blocked/web', 'x');
      mkdirSync(join(store('blocked'), 'fixed/host/blocked/web.sealed'), { recursive: true });
      assert.match(failureOf(pushed('blocked', '--reseal'))[1], /\/web\.sealed is in the way: it is not a file$/);
      rmSync(join(store('blocked'), 'fixed/host/blocked/web.sealed'), { recursive: true });
      works(operator('rm', '--force', 'host/blocked/web'));
      put('host/blocked/api/token', 'x');
      writeFileSync(join(store('blocked'), 'fixed/host/blocked/api'), 'x');
      assert.match(failureOf(pushed('blocked', '--reseal'))[1], /\/api is in the way: it is not a folder$/);
      assert.deepEqual(readFileSync(join(store('blocked'), 'seeds.age')), seeds);
      rmSync(join(store('blocked'), 'fixed/host/blocked/api'));
      mkdirSync(at('blocked/etc/auxcred/secrets.d/web.toml'), { recursive: true });
      assert.match(
        failureOf(pushed('blocked', '--manifest', '--replace'))[1],
        /\/web\.toml is in the way: it is not a file$/,
      );
    });
  });
});

describe('a dry run', () => {
  const listing = (host: string): string[] => readdirSync(at(host), { recursive: true }).map(String).sort();

  test("makes the push's checks on the host, and changes nothing", () => {
    makeHost('dry');
    withSettings(alsoHost('dry'), () => {
      works(['enroll', 'dry', `--vault=${at('vault')}`, '--from=-'], works(['enroll', `--root=${at('dry')}`]));
      mkdirSync(at('vault/hosts/dry'), { recursive: true });
      const manifest = (text: string): void => {
        writeFileSync(at('vault/hosts/dry/web.toml'), text);
      };
      for (const [text, code, says] of [
        [
          '[secret.a]\nkind = "hexx"\nunits = ["a.service"]\n',
          'invalid-manifest',
          /the manifest would have 1 error; \/etc\/auxcred\/secrets\.d\/web\.toml:2/,
        ],
        [
          '[secret.a]\ndelivery = "file"\nowner = "nobody9"\nneeded-for = "users"\nunits = ["a.service"]\n',
          'invalid-manifest',
          /there is no user nobody9 on this machine/,
        ],
        ['[secret.a]\nkind = "fixed"\nunits = ["a.service"]\n', 'not-found', /there is no host\/dry\/a in/],
      ] as const) {
        manifest(text);
        const [dry, real] = [pushed('dry', '--manifest', '--dry-run'), pushed('dry', '--manifest')].map(failureOf);
        assert.deepEqual(dry, real);
        assert.equal(dry?.[0], code);
        assert.match(dry[1], says);
      }
      manifest('[secret.a]\nkind = "hex"\nunits = ["a.service"]\n');
      const before = listing('dry');
      const { rows, stderr, status } = pushed('dry', '--manifest', '--dry-run');
      assert.deepEqual([status, rows[0]?.result, rows[0]?.sent.seeds], [0, 'would change', true], stderr);
      assert.deepEqual(listing('dry'), before);
    });
    rmSync(at('vault/hosts'), { recursive: true });
  });

  test('sends no seeds to a host that is not enrolled, but still makes the checks', () => {
    makeHost('stranger');
    writeFileSync(
      at('bin/kept-ssh'),
      `#!/bin/sh\ntee '${at('kept')}' | TARGET=\${1#*@} PATH='${at('bin')}':$PATH sh -c "$2"\n`,
      { mode: 0o755 },
    );
    withSettings(
      (text) => alsoHost('stranger')(text.replace('near-ssh', 'kept-ssh')),
      () => {
        const { rows, stderr } = pushed('stranger', '--manifest', '--dry-run');
        assert.equal(rows[0]?.result, 'would change', stderr);
        assert.match(stderr, /stranger: it is not enrolled, so a dry run sends it no seeds/);
        assert.ok(!readFileSync(at('kept'), 'latin1').includes('age-encryption'));
        mkdirSync(at('vault/hosts/stranger'), { recursive: true });
        writeFileSync(at('vault/hosts/stranger/more.toml'), '[secret.a]\nkind = "fixed"\nunits = ["a.service"]\n');
        assert.match(failureOf(pushed('stranger', '--manifest', '--dry-run'))[1], /there is no host\/stranger\/a in/);
        writeFileSync(at('vault/hosts/stranger/more.toml'), '[secret.a]\nkind = "hexx"\nunits = ["a.service"]\n');
        assert.match(failureOf(pushed('stranger', '--manifest', '--dry-run'))[1], /the manifest would have 1 error/);
      },
    );
    rmSync(at('vault/hosts'), { recursive: true });
  });
});

test('a vault without its fixed folder removes no secret', () => {
  makeHost('entire');
  withSettings(alsoHost('entire', ''), () => {
    put('host/entire/one', '1');
    put('host/entire/two', '2');
    pushed('entire');
    works(operator('rm', '--force', 'host/entire/two'));
    assert.match(pushed('entire').stderr, /entire: removed host\/entire\/two\n/);
    renameSync(at('vault/fixed'), at('vault/away'));
    try {
      for (const options of [[], ['--dry-run']]) {
        const [code, message] = failureOf(pushed('entire', ...options));
        assert.equal(code, 'not-found');
        assert.match(
          message,
          /^entire has fixed secrets that a push brought \(host\/entire\/one\), and there is no folder .*\/vault\/fixed$/,
        );
      }
      assert.equal(works(['get', 'host/entire/one', `--root=${at('entire')}`]), '1');
      assert.deepEqual(pushed('entire', '--replace').rows[0]?.sent.removed, ['host/entire/one']);
    } finally {
      rmSync(at('vault/fixed'), { recursive: true, force: true });
      renameSync(at('vault/away'), at('vault/fixed'));
    }
  });
});

describe('a push without a manifest', () => {
  test('says so, and removes none if its folder is not where vault.toml says', () => {
    makeHost('bare');
    withSettings(alsoHost('bare'), () => {
      assert.match(pushed('bare').stderr, /bare: its manifest is not sent: --manifest brings web\.toml\n/);
      pushed('bare', '--manifest');
      assert.doesNotMatch(pushed('bare').stderr, /manifest/);
    });
    withSettings(alsoHost('bare', 'groups = ["db"]\nmanifest = ["hots/bare"]\n'), () => {
      const [code, message] = failureOf(pushed('bare', '--manifest'));
      assert.equal(code, 'not-found');
      assert.match(
        message,
        /^bare has a manifest that a push brought \(web\.toml\), and there is no folder .*\/vault\/hots\/bare$/,
      );
      const { rows, stderr } = pushed('bare', '--manifest', '--replace');
      assert.deepEqual(rows[0]?.sent.removed, ['web.toml']);
      assert.match(stderr, /bare: there is no manifest for it in .*\/hots\/bare, so none is sent/);
      assert.match(
        pushed('bare').stderr,
        /bare: it has no manifest in \/etc\/auxcred\/secrets\.d, and there is none for it in /,
      );
    });
  });
});

describe('a hostile host', () => {
  /** A stand-in for ssh, which answers with a host's offer. */
  function hostile(script: string, ...args: string[]): ReturnType<typeof pushed> {
    writeFileSync(at('bin/hostile-ssh'), `#!/bin/bash\n${script}\n`, { mode: 0o755 });
    return withSettings(
      (text) => text.replace('near-ssh', 'hostile-ssh'),
      () => pushed('web1', ...args),
    );
  }
  const offerOf = (more: object): string => {
    const file = at('offer');
    const real = auxcred(['receive', `--root=${at('web1')}`]).stdout.split('\n')[0] ?? '';
    writeFileSync(file, `${JSON.stringify({ ...JSON.parse(real), ...more })}\n`);
    return `cat '${file}'`;
  };

  test('is shown up to a limit, and given up if it floods', () => {
    const many = hostile('for i in {1..5000}; do echo "line $i $(printf \'\\e[2J\\xe2\\x80\\xae\')" >&2; done; exit 1');
    assert.ok(many.stderr.split('\n').length < 530, String(many.stderr.split('\n').length));
    assert.match(many.stderr, /^auxcred: web1: further output is left out$/m);
    assert.match(many.stderr, /^auxcred: web1: line 1 +\[2J$/m);
    const flood = hostile("yes 'it goes on and on' >&2");
    assert.deepEqual(failureOf(flood), ['malformed', 'web1 floods standard error']);
    assert.ok(flood.stderr.length < 100_000);
    const noLine = hostile("tr '\\0' x < /dev/zero >&2");
    assert.deepEqual(failureOf(noLine), ['malformed', 'web1 floods standard error']);
  });

  test("can't offer more than a real host could have", () => {
    assert.match(
      failureOf(hostile('echo -n \'{"protocol":1,"fixed":{"\'; tr \'\\0\' x < /dev/zero'))[1],
      /^web1 says more than 8388608 bytes in one line$/,
    );
    const values = `{"protocol":1,"fixed":{${Array.from({ length: 600_000 }, (_, i) => `"${i.toString(36)}":{}`).join()}}}\n`;
    writeFileSync(at('values'), values);
    assert.deepEqual(failureOf(hostile(`cat '${at('values')}'`)), [
      'malformed',
      'what web1 offers has more than 500000 values',
    ]);
    assert.match(
      failureOf(
        hostile(
          offerOf({
            pins: Object.fromEntries(
              Array.from({ length: 2000 }, (_, i) => [`group/g${String(i)}`, { epoch: 1, keyId: '0'.repeat(32) }]),
            ),
          }),
        ),
      )[1],
      /what web1 offers: pins is not at most 1000 scopes/,
    );
  });

  test("can't send control characters to a terminal", () => {
    const name = 'host/web1/evil\u202etxt';
    const { stderr, stdout } = withSettings(
      (text) => text.replace('near-ssh', 'hostile-ssh'),
      () => {
        writeFileSync(
          at('bin/hostile-ssh'),
          `#!/bin/bash\n${offerOf({ fixed: { [name]: { digest: '0'.repeat(64), pushed: true, sequence: 1 } } })}\ncat > /dev/null; echo '{"protocol":1,"units":[{"action":"restart","unit":"a\\u001b[2J\\u202e.service"}]}'\n`,
          { mode: 0o755 },
        );
        return auxcred(operator('push', '--json', '--dry-run', 'web1'));
      },
    );
    assert.match(stderr, /web1: would remove .*host\/web1\/evil txt/);
    for (const text of [stderr, stdout]) assert.doesNotMatch(text, /[\u202e\u001b]/);
    const { hosts }: { hosts: Row[] } = JSON.parse(stdout);
    assert.ok(hosts[0]?.sent.removed.includes(name), 'a program gets the name as it is');
  });

  test('that sends half a message, or nothing, is not waited for longer than --timeout', () => {
    for (const script of [
      'echo -n \'{"protocol":1,\'; sleep 60',
      `${offerOf({ unfinished: true })}; sleep 60`,
      'sleep 60',
    ]) {
      const started = Date.now();
      assert.deepEqual(
        failureOf(hostile(script, '--timeout=1')),
        ['timeout', 'web1 did not finish within 1 s'],
        script,
      );
      assert.ok(Date.now() - started < 20_000);
    }
    for (const script of [
      'echo \'{"protocol":1}\'',
      `${offerOf({ unfinished: true })}; cat > /dev/null; echo '{"protocol":1,"units":[{}]}'`,
    ])
      assert.equal(failureOf(hostile(script))[0], 'malformed', script);
  });

  test("with an unknown ssh host key is told from one that can't be reached", () => {
    const changed = hostile(
      'echo "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @" >&2; echo "Host key verification failed." >&2; exit 255',
    ).rows[0]?.failure;
    assert.equal(changed?.message, 'the ssh host key of web1 changed (reinstalled?)');
    assert.equal(
      changed.hint,
      'if you know that it was: ssh-keygen -R web1; ssh root@web1 auxcred enroll | auxcred enroll web1 --replace --from=-',
    );
    const unknown = hostile(
      'echo "No ED25519 host key is known for web1 and you have requested strict checking." >&2; echo "Host key verification failed." >&2; exit 255',
    ).rows[0]?.failure;
    assert.equal(unknown?.message, 'the ssh host key of web1 is not known here');
    const port = withSettings(
      (text) => text.replace('[host.web1]\n', '[host.web1]\ntarget = "ssh://admin@web1:2222"\n'),
      () =>
        hostile(
          'echo "REMOTE HOST IDENTIFICATION HAS CHANGED" >&2; echo "Host key verification failed." >&2; exit 255',
        ),
    ).rows[0]?.failure;
    assert.match(port?.hint ?? '', /ssh-keygen -R '\[web1\]:2222'; ssh ssh:\/\/admin@web1:2222 auxcred enroll/);
  });
});

test('a host that is killed at any moment opens its seeds, old or new, and the next push finishes', (t) => {
  const through = (from: string, to: string): void => {
    writeFileSync(at('vault/vault.toml'), readFileSync(at('vault/vault.toml'), 'utf8').replace(from, to));
  };
  const started = performance.now();
  pushed('web2', '--reseal');
  const whole = performance.now() - started;
  let unfinished = 0;
  for (let i = 1; i <= 10; i++) {
    works(operator('rekey', '--next', 'host/web2'));
    put('host/web2/round', `round ${String(i)}`);
    writeFileSync(
      at('bin/killed-ssh'),
      `#!/bin/sh\nTARGET=\${1#*@} PATH='${at('bin')}':$PATH exec timeout -s KILL ${((whole * i) / 10_000).toFixed(3)} sh -c "$2"\n`,
      { mode: 0o755 },
    );
    through('near-ssh', 'killed-ssh');
    const { rows } = pushed('web2');
    if (
      rows[0]?.result === 'failed' &&
      readFileSync(join(store('web2'), 'pushed.json'), 'utf8').includes('"unfinished":true')
    )
      unfinished++;
    works(['unseal', `--root=${at('web2')}`]);
    through('killed-ssh', 'near-ssh');
    assert.equal(pushed('web2').status, 0);
    assert.equal(works(['get', 'host/web2/round', `--root=${at('web2')}`]), `round ${String(i)}`);
    assert.equal(pushed('web2').rows[0]?.result, 'nothing to do');
  }
  t.diagnostic(`${String(unfinished)} of 10 were killed after they had begun to write`);
});

describe('receive', () => {
  const seedsOf = (host: string): Scope[] => {
    const { scopes }: { scopes: { kind: 'host' | 'group'; name: string; epoch: number; seed: string }[] } = JSON.parse(
      works(operator('scopes', host)),
    );
    return scopes.map((scope) => ({ ...scope, seed: new Uint8Array(Buffer.from(scope.seed, 'base64')) }));
  };
  const nothing: Request = {
    purpose: 'receive',
    seeds: undefined,
    fixed: [],
    removeFixed: [],
    manifest: [],
    removeManifest: [],
    replace: false,
    acceptOlder: false,
    wait: true,
  };
  const receive = (
    host: string,
    request: Request | Uint8Array,
    ...files: Uint8Array[]
  ): { status: number | null; failure: Failure | undefined; stdout: string } => {
    const { status, stdout, stderr } = auxcred(
      ['receive', `--root=${at(host)}`],
      Buffer.concat([request instanceof Uint8Array ? request : encodeRequest(request), ...files]),
    );
    const [, answer] = stdout.split('\n');
    assert.notEqual(answer, undefined, stderr);
    return {
      status,
      failure: answer === '' ? undefined : parseResult(Buffer.from(answer ?? ''), host).failure,
      stdout,
    };
  };
  const untouched = (host: string): unknown => [
    readFileSync(join(store(host), 'seeds.age')),
    readdirSync(store(host), { recursive: true }).sort(),
    readFileSync(join(store(host), 'pushed.json')),
  ];
  const sealedTo = async (host: string, scopes: readonly Scope[]): Promise<Uint8Array> =>
    await sealForTransit(
      {
        counter: 1,
        scopes,
        sealing: { withKey: 'host', recovery: [], pcrs: [], pcrsAtFirstBoot: [], device: undefined },
      },
      parseOpensshKey(readFileSync(at(`${host}/etc/ssh/ssh_host_ed25519_key`))).publicKey,
    );
  const announce = (seeds: Uint8Array): Request => ({
    ...nothing,
    seeds: { length: seeds.length, keepSealing: false, replaces: new Map() },
  });

  test('accepts only the seeds that it is pinned to', async () => {
    const before = untouched('web1');
    const other = await sealedTo('web1', seedsOf('web2'));
    assert.equal(
      receive('web1', announce(other), other).failure?.message,
      'this machine is host/web1, and does not accept seeds of host/web2',
    );
    const forged = await sealedTo(
      'web1',
      seedsOf('web1').map((scope) => ({ ...scope, seed: new Uint8Array(randomBytes(32)) })),
    );
    assert.match(
      receive('web1', announce(forged), forged).failure?.message ?? '',
      /the seed of .* here is unknown to the operator/,
    );
    assert.equal(receive('web1', { ...announce(other), replace: true }, other).failure?.code, 'not-pinned');
    const elsewhere = await sealedTo('web2', seedsOf('web1'));
    assert.equal(receive('web1', announce(elsewhere), elsewhere).failure?.code, 'no-recipient');
    const groupOnly = await sealedTo('web1', seedsOf('web1').slice(1));
    assert.equal(receive('web1', announce(groupOnly), groupOnly).failure?.code, 'malformed');
    const junk = new Uint8Array(200).fill(65);
    assert.equal(receive('web1', announce(junk), junk).failure?.code, 'malformed');
    assert.deepEqual(untouched('web1'), before);
  });

  test('accepts no file that does not open under its name, and removes none that a push did not bring', () => {
    const before = untouched('web1');
    const scope = seedsOf('web1')[0];
    assert.ok(scope);
    const good = encodeFixed(scope.seed, 'a', Date.now(), Buffer.from('value'));
    const one = (name: string, bytes: Uint8Array): Request => ({ ...nothing, fixed: [{ name, length: bytes.length }] });
    assert.match(receive('web1', one('host/web1/b', good), good).failure?.message ?? '', /host\/web1\/b does not open/);
    const bent = Uint8Array.from(good);
    bent[80] = (bent[80] ?? 0) ^ 1;
    assert.match(receive('web1', one('host/web1/a', bent), bent).failure?.message ?? '', /host\/web1\/a does not open/);
    assert.match(receive('web1', one('host/web2/a', good), good).failure?.message ?? '', /no seed for host\/web2/);
    assert.match(
      receive('web1', one('host/web1/WIFI', good), encodeFixed(scope.seed, 'WIFI', Date.now(), Buffer.from('value')))
        .failure?.message ?? '',
      /only in case/,
    );
    assert.match(
      receive('web1', { ...nothing, removeFixed: ['host/web1/mine'] }).failure?.message ?? '',
      /host\/web1\/mine was put or edited on the machine itself, not by a push/,
    );
    assert.equal(
      receive(
        'web1',
        Buffer.from('{"protocol":1,"do":"receive","fixed":[{"name":"host/web1/../../../x","length":161}]}\n'),
      ).status,
      exitStatus.malformed,
    );
    assert.deepEqual(untouched('web1'), before);
    assert.equal(scopeName(scope), 'host/web1');
  });

  test('a connection that ends before everything has arrived changes nothing', () => {
    const before = untouched('web1');
    assert.match(
      receive('web1', { ...nothing, fixed: [{ name: 'host/web1/a', length: 161 }] }, new Uint8Array(100)).failure
        ?.message ?? '',
      /nothing was changed/,
    );
    assert.deepEqual(untouched('web1'), before);
    assert.deepEqual([auxcred(['receive', `--root=${at('web1')}`]).status, untouched('web1')], [0, before]);
  });

  test('an operator who disconnects after everything has arrived stops nothing', async () => {
    const scope = seedsOf('web1')[0];
    assert.ok(scope);
    const file = encodeFixed(scope.seed, 'late', Date.now(), Buffer.from('value'));
    const child = spawn(process.execPath, ['dist/auxcred.cjs', 'receive', `--root=${at('web1')}`], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: environment(),
    });
    const ended = new Promise<number | null>((resolve) => {
      child.once('exit', resolve);
    });
    child.stdout.once('data', () => {
      child.stdout.destroy();
      child.stderr.destroy();
      child.stdin.end(
        Buffer.concat([encodeRequest({ ...nothing, fixed: [{ name: 'host/web1/late', length: file.length }] }), file]),
      );
    });
    await ended;
    assert.equal(works(['get', 'host/web1/late', `--root=${at('web1')}`]), 'value');
    assert.match(readFileSync(join(store('web1'), 'pushed.json'), 'utf8'), /"unfinished":false/);
  });
});

test('a host that is enrolled with a TPM is sent seeds that only that TPM opens', async () => {
  const [tpm, other] = [await startSwtpm({ pcrs: { 7: ['a7'.repeat(32)] } }), await startSwtpm()];
  try {
    makeHost('tpm1');
    const settings = readFileSync(at('vault/vault.toml'), 'utf8');
    writeFileSync(
      at('bin/tpm-ssh'),
      `#!/bin/sh\nexport AUXCRED_TCTI='${tpm.device}'\ntee '${at('carried')}' | TARGET=\${1#*@} PATH='${at('bin')}':$PATH sh -c "$2"\n`,
    );
    chmodSync(at('bin/tpm-ssh'), 0o755);
    writeFileSync(
      at('vault/vault.toml'),
      `${settings.replace('near-ssh', 'tpm-ssh')}[host.tpm1]\nwith-key = "tpm2"\ntpm2-pcrs = "7"\n`,
    );
    works(
      operator('enroll', 'tpm1', '--from=-').filter((word) => !word.startsWith('--identity')),
      works(['enroll', `--root=${at('tpm1')}`, `--tpm2-device=${tpm.device}`]),
    );
    const { rows, stderr } = pushed('tpm1');
    assert.equal(rows[0]?.result, 'done', stderr);
    const carried = readFileSync(at('carried'), 'latin1');
    assert.match(carried, /-> auxcred\/tpm2/);
    assert.ok(!carried.includes('-> ssh-ed25519'));
    assert.match(stderr, /tpm1: sealed the seed of host\/tpm1 to its TPM/);
    assert.equal(pushed('tpm1').rows[0]?.result, 'nothing to do');
    writeFileSync(at('vault/vault.toml'), settings);

    const [sealed, proxy] = [
      readFileSync(join(store('tpm1'), 'seeds.age')),
      await startSwappingProxy(tpm.device, other.device, { code: commandCodes.unseal, times: 1 }),
    ];
    try {
      const child = spawn(
        process.execPath,
        ['dist/auxcred.cjs', 'receive', `--root=${at('tpm1')}`, `--tpm2-device=${proxy.device}`],
        { env: environment() },
      );
      let said = '';
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        said += text;
      });
      child.stdin.end(Buffer.from(carried, 'latin1'));
      assert.deepEqual(await once(child, 'close'), [exitStatus['other-tpm'], null]);
      assert.match(said, /not the one that opened the seeds/);
      assert.ok(proxy.hasSwapped() && sealed.equals(readFileSync(join(store('tpm1'), 'seeds.age'))));
      assert.equal(leftIn(other), '');
    } finally {
      await proxy.stop();
    }
  } finally {
    await tpm.stop();
    await other.stop();
  }
});

describe('copy', () => {
  interface Pair {
    source: string;
    destination: string;
    mode?: string;
    owner?: string;
  }
  const pairs = (...args: string[]): Pair[] => {
    const { pairs: all }: { pairs: Pair[] } = JSON.parse(works(operator('copy', 'web1', '--json', ...args)));
    return all;
  };

  test('lists what a deploy tool has to copy, and where to', () => {
    assert.deepEqual(
      pairs().map(({ destination, mode, owner }) => [destination, mode, owner]),
      [
        ['/var/lib/auxcred/seeds.age', '0640', 'root:auxcred'],
        ['/etc/auxcred/scopes.json', '0644', 'root:root'],
        ['/etc/systemd/system/auxcred.service.d/50-auxcred-seal.conf', '0644', 'root:root'],
        ['/var/lib/auxcred/unbound', '0644', 'root:root'],
        ['/var/lib/auxcred/pushed.json', '0600', 'root:root'],
        ['/var/lib/auxcred/fixed/host/web1/wifi.sealed', '0600', 'root:root'],
        ['/var/lib/auxcred/fixed/group/db/token.sealed', '0600', 'root:root'],
        ['/etc/auxcred/secrets.d/web.toml', '0644', 'root:root'],
      ],
    );
    for (const { source } of pairs()) assert.ok(existsSync(source), source);
    assert.equal(pairs('--no-seeds').length, 3);
    assert.equal(auxcred(operator('copy', 'web9')).status, exitStatus['not-found']);
    assert.match(works(operator('copy', 'web1')), /^SOURCE +DESTINATION +MODE +OWNER\n/);
  });

  test('copies it into a root, which then opens and provisions, and which push recognises', () => {
    makeHost('fresh');
    for (const name of ['ssh_host_ed25519_key', 'ssh_host_ed25519_key.pub'])
      writeFileSync(at(`fresh/etc/ssh/${name}`), readFileSync(at(`web1/etc/ssh/${name}`)), { mode: 0o600 });
    const { stderr, status } = auxcred(operator('copy', 'web1', `--to=${at('fresh')}`));
    assert.equal(status, 0, stderr);
    assert.match(stderr, /has no group auxcred yet, so only root can read the seeds/);
    assert.equal(statSync(join(store('fresh'), 'seeds.age')).mode & 0o777, 0o600);
    assert.equal(auxcred(operator('copy', 'web1', `--to=${at('fresh')}`)).status, exitStatus.refused);
    assert.match(works(['unseal', `--root=${at('fresh')}`]), /^host\/web1 /m);
    works(['apply', `--root=${at('fresh')}`]);
    assert.equal(works(['get', 'session', `--root=${at('fresh')}`]), works(operator('get', 'session', '--host=web1')));
    works(['reseal', `--root=${at('fresh')}`]);
    assert.equal(existsSync(join(store('fresh'), 'unbound')), false);
    rmSync(at('web1'), { recursive: true });
    spawnSync('cp', ['-a', at('fresh'), at('web1')]);
    assert.match(
      pushed('web1', '--manifest', '--dry-run').stderr,
      /web1: would finish what an earlier push or copy began/,
    );
    assert.equal(pushed('web1', '--manifest').rows[0]?.result, 'done');
    assert.equal(pushed('web1', '--manifest').rows[0]?.result, 'nothing to do');
  });

  test("the new root's own group gets the seeds, and a link out of the root is not followed", () => {
    mkdirSync(at('linked/etc'), { recursive: true });
    writeFileSync(at('linked/etc/group'), `auxcred:x:${String(process.getgid?.() ?? 0)}:\n`);
    works(operator('copy', 'web1', `--to=${at('linked')}`));
    assert.equal(statSync(join(store('linked'), 'seeds.age')).mode & 0o777, 0o640);
    mkdirSync(at('outside'));
    mkdirSync(at('escaping/var'), { recursive: true });
    symlinkSync(at('outside'), at('escaping/var/lib'));
    const { status, stderr } = auxcred(operator('copy', 'web1', `--to=${at('escaping')}`));
    assert.equal(status, exitStatus.refused);
    assert.match(stderr, /leads to .*outside, which is outside of/);
    assert.deepEqual(readdirSync(at('outside')), []);
  });

  test('a new root with folders that others own is refused', { skip: process.getuid?.() !== 0 }, () => {
    mkdirSync(at('foreign/etc/auxcred'), { recursive: true });
    chownSync(at('foreign/etc/auxcred'), 65534, 65534);
    const { status, stderr } = auxcred(operator('copy', 'web1', `--to=${at('foreign')}`));
    assert.equal(status, exitStatus.refused);
    assert.match(stderr, /foreign\/etc\/auxcred belongs to user 65534, who could lead the path elsewhere/);
    assert.deepEqual(readdirSync(at('foreign')), ['etc']);
  });
});
