/** A system whose configuration renders what auxcred writes elsewhere, as a root folder. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { renderUnits } from '../../src/drop-ins/rendering.ts';
import { exitStatus } from '../../src/failure.ts';
import type { Finding } from '../../src/health/finding.ts';
import { readManifest } from '../../src/manifest/manifest.ts';
import { judge } from '../../src/push/arrival.ts';
import type { Request } from '../../src/push/protocol.ts';
import { readPushed } from '../../src/push/pushed.ts';
import { parsePins } from '../../src/seeds/pins.ts';
import { readReleases, unverifiedReleases } from '../../src/snapshot/snapshot.ts';
import { parseConfiguration } from '../../src/system/configuration.ts';
import { pathsUnder } from '../../src/system/paths.ts';
import { auxcred, fails, program, type Said, works } from '../cli.ts';
import { type Swtpm, startSwtpm } from '../swtpm.ts';
import { sealedTo } from './machine-tpm.ts';
import { contents, furnish, listing } from './root.ts';

let root = '';
/** An age recipient, whose key nobody needs here. */
const recovery = `--recipient=${/age1\w+/.exec(spawnSync('age-keygen', { encoding: 'utf8' }).stdout)?.[0] ?? ''}`;
let tpm: Swtpm | undefined;

const at = (path: string): string => join(root, path);
const put = (path: string, text: string): void => {
  mkdirSync(dirname(at(path)), { recursive: true });
  writeFileSync(at(path), text);
};
const etc = (): string[] => contents(root).filter((line) => line.startsWith('etc/'));

type Secrets = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

/** What the configuration of such a system renders. */
function configure(
  secrets: Secrets,
  { pins = false, withKey = 'host' }: { pins?: boolean; withKey?: string } = {},
): void {
  rmSync(at('etc/systemd'), { recursive: true, force: true });
  put(
    'etc/auxcred/configuration.json',
    JSON.stringify({ version: 1, system: 'nixos', switch: 'nixos-rebuild switch', pins }),
  );
  put('etc/auxcred/secrets.d/configuration.json', JSON.stringify({ secret: secrets }));
  put('etc/systemd/system/auxcred.service', '[Service]\nExecStart=/nix/store/x-auxcred/lib/auxcred-broker\n');
  const access =
    withKey === 'host'
      ? 'LoadCredential=ssh-host-key:/persist/ssh_host_ed25519_key'
      : `PrivateDevices=no\nDeviceAllow=char-tpm rw\nBindReadOnlyPaths=-${tpm?.device.split('=')[1] ?? ''}\n` +
        `BindReadOnlyPaths=-${tpm?.device.split('=')[1] ?? ''}.ctrl\n` +
        'BindReadOnlyPaths=-/run/systemd/tpm2-pcr-signature.json';
  put('etc/systemd/system/auxcred.service.d/overrides.conf', `[Service]\n${access}\n`);
  for (const [unit, dropIn] of renderUnits(readManifest(root).declarations)) {
    put(`etc/systemd/system/${unit}`, '[Service]\nExecStart=/bin/true\n');
    put(`etc/systemd/system/${unit}.d/overrides.conf`, dropIn);
  }
}

const hex = { key: { kind: 'hex', units: ['web.service'] } };
const call = (verb: string, ...more: string[]): string[] => [verb, `--root=${root}`, ...more];

function findings(): Finding[] {
  const isFinding = (value: unknown): value is Finding =>
    typeof value === 'object' && value !== null && 'check' in value && 'level' in value && 'mend' in value;
  const { stdout, stderr } = auxcred(call('doctor', '--json'));
  const report: unknown = JSON.parse(stdout === '' ? stderr : stdout);
  const all: unknown = typeof report === 'object' && report !== null ? Reflect.get(report, 'findings') : undefined;
  assert.ok(Array.isArray(all));
  return all.filter(isFinding).filter(({ level }) => level !== 'ok');
}

const checksOf = (found: readonly Finding[]): string[] => found.map(({ check }) => check);
const seal = (...more: string[]): Said => works(call('seal', recovery, ...more));

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'configured-'));
  furnish(root, '');
  mkdirSync(at('var/lib'), { recursive: true });
  rmSync(at('etc/auxcred/secrets.d/web.toml'));
  put('etc/passwd', 'root:x:0:0::/root:/bin/sh\nauxcred:x:1:1::/:/bin/false\n');
  put('etc/group', 'root:x:0:\nauxcred:x:0:\n');
});
afterEach(async () => {
  await tpm?.stop();
  tpm = undefined;
  rmSync(root, { recursive: true, force: true });
});

describe('a system whose configuration renders the drop-ins', () => {
  test('is sealed, provisioned and well, without a write to /etc', () => {
    configure(hex);
    const before = etc();
    const { stdout, stderr } = seal();
    assert.match(stderr, /the pins are in .*\/var\/lib\/auxcred\/scopes\.json until the configuration has them/);
    assert.match(stdout, /^\{"scopes":\{"host\/web1":\{"epoch":1,"keyId":"[0-9a-f]{32}"\}\},"version":1\}$/m);
    assert.match(works(call('plan')).stderr, /1 credential would change/);
    works(call('provision'));
    assert.deepEqual(etc(), before);
    assert.deepEqual(checksOf(findings()), ['pins-place']);
    assert.match(works(call('status')).stdout, /; the configuration renders manifest and drop-ins\n/);
  });

  test('refuses apply, and names what to do instead', () => {
    configure(hex);
    seal();
    const before = etc();
    const { stderr } = fails(call('apply'), 'usage', /apply has no meaning here/);
    assert.match(stderr, /hint: nixos-rebuild switch activates it/);
    works(call('apply', '--dry-run'));
    assert.deepEqual(etc(), before);
  });

  test('is told of lines that its unit files lack, and of secrets that are not active yet', () => {
    configure(hex);
    seal();
    works(call('provision'));
    put('etc/systemd/system/web.service.d/zz.conf', '[Service]\nLoadCredentialEncrypted=\n');
    configureManifest({ ...hex, more: { kind: 'hex', units: ['web.service'] } });
    const found = findings();
    assert.deepEqual(checksOf(found).sort(), ['generator', 'pins-place', 'stale']);
    const lacking = found.find(({ check }) => check === 'generator');
    assert.match(
      lacking?.message ?? '',
      /^web\.service lacks LoadCredentialEncrypted=key:.*LoadCredentialEncrypted=more:/,
    );
    assert.deepEqual(lacking?.mend, ['systemctl cat web.service', 'nixos-rebuild switch']);
  });

  test('is never told to use apt, to enable units, to apply, or to mount its store again', () => {
    configure(hex);
    put('etc/passwd', '');
    const unsealed = findings();
    seal();
    const said = [...unsealed, ...findings()].flatMap(({ mend }) => mend).join('\n');
    assert.doesNotMatch(said, /\bapt\b|systemctl enable|remount|auxcred apply|systemd-sysusers/);
    assert.match(said, /nixos-rebuild switch/);
  });

  test('is sealed only to what its configuration gives the broker', async () => {
    tpm = await startSwtpm({ folder: mkdtempSync(join(root, 'tpm-')) });
    configure(hex);
    const options = [recovery, '--with-key=tpm2', ...sealedTo(tpm)];
    const before = etc();
    const { stderr } = fails(
      call('seal', ...options),
      'refused',
      /does not give auxcred\.service what --with-key=tpm2 needs/,
    );
    assert.match(
      stderr,
      /hint: auxcred\.seal\.withKey = "tpm2", auxcred\.seal\.tpm2Device = "swtpm:.*nixos-rebuild switch/,
    );
    assert.deepEqual(etc(), before);
    fails(call('unseal'), 'not-found', /no seed is sealed/);
    configure(hex, { withKey: 'tpm2' });
    works(call('seal', ...options));
    assert.match(works(call('unseal')).stdout, /host\/web1/);
  });
});

const configureManifest = (secrets: Secrets): void => {
  put('etc/auxcred/secrets.d/configuration.json', JSON.stringify({ secret: secrets }));
};

describe('pins from the configuration', () => {
  test('are compared, never written, and say what to pin', () => {
    configure(hex);
    const pins = seal().stdout.trim();
    configure(hex, { pins: true });
    put('etc/auxcred/scopes.json', pins);
    const before = etc();
    works(call('reseal'));
    works(call('provision'));
    assert.deepEqual(checksOf(findings()), []);
    const { stderr } = fails(call('seal', '--replace', recovery), 'not-pinned', /the configuration pins other seeds/);
    assert.match(stderr, /hint: auxcred\.seal\.pins = builtins\.fromJSON ''\{"scopes":\{"host\/web1"/);
    works(call('unseal'));
    assert.deepEqual(etc(), before);
  });

  test('keep out seeds and pins that somebody put into /var', () => {
    configure(hex);
    const pins = seal().stdout.trim();
    configure(hex, { pins: true });
    put('etc/auxcred/scopes.json', pins);
    configure(hex);
    rmSync(at('etc/auxcred/scopes.json'));
    works(call('seal', '--replace', recovery));
    configure(hex, { pins: true });
    put('etc/auxcred/scopes.json', pins);
    fails(call('provision'), 'not-pinned', /is not the one that this machine expects/);
  });

  test('that name the counter let no older store back, whatever /var says of it', async () => {
    tpm = await startSwtpm({ folder: mkdtempSync(join(root, 'tpm-')) });
    configure(hex, { withKey: 'tpm2' });
    const pins = seal('--with-key=tpm2', ...sealedTo(tpm)).stdout.trim();
    assert.match(pins, /"tpm2Counter":\{"index":"0x1[0-9a-f]{6}"\}/);
    configure(hex, { withKey: 'tpm2', pins: true });
    put('etc/auxcred/scopes.json', pins);
    works(call('provision'));
    const own = parsePins(readFileSync(at('var/lib/auxcred/scopes.json')), 'own');
    // An attacker knows the counter's value, and leaves nothing that has a number.
    rmSync(at('var/lib/auxcred/provisioned'));
    const start = { ...own.counter, start: 1 << 20 };
    put(
      'var/lib/auxcred/scopes.json',
      JSON.stringify({
        version: 1,
        scopes: {},
        tpm2Counter: { index: `0x${(start.index ?? 0).toString(16).padStart(7, '0')}`, start: start.start },
      }),
    );
    fails(call('provision'), 'older', /older than the TPM remembers/);
    rmSync(at('var/lib/auxcred/scopes.json'));
    fails(call('provision'), 'older', /older than the TPM remembers/);
  });
});

describe('check --servable', () => {
  test('is silent, with 0, about what can be delivered, and changes nothing', () => {
    configure({ ...hex, hash: { kind: 'crypt', of: 'key', units: ['web.service'] } });
    seal();
    const before = contents(root);
    assert.match(works(call('check', '--servable')).stderr, /2 secrets for 1 unit in 1 file: ok, and servable now/);
    assert.deepEqual(contents(root), before);
  });

  test('names each secret that is not there, of another manifest too', () => {
    configure(hex);
    seal();
    const next = {
      ...hex,
      wifi: { kind: 'fixed', units: ['web.service'] },
      shared: { kind: 'hex', share: 'db', units: ['web.service'] },
      config: { kind: 'template', content: 'pass={{wifi}}', units: ['web.service'] },
    };
    put('next/secrets.d/configuration.json', JSON.stringify({ secret: next }));
    works(call('check', '--servable'));
    const folder = `--manifest=${at('next/secrets.d')}`;
    works(call('check', folder));
    const { stdout } = auxcred(call('check', '--servable', folder));
    for (const name of ['wifi', 'shared', 'config'])
      assert.match(stdout, new RegExp(`^${name} can't be served: `, 'm'));
    assert.doesNotMatch(stdout, /^key /m);
    assert.equal(auxcred(call('check', '--servable', folder)).status, exitStatus['not-found']);
    const report: unknown = JSON.parse(auxcred(call('check', '--servable', '--json', folder)).stdout);
    assert.match(JSON.stringify(report), /"unservable":\[\{"secret":"wifi","code":"not-found"/);
    works(call('put', 'wifi'), { input: 'value' });
    assert.doesNotMatch(auxcred(call('check', '--servable', folder)).stdout, /^(?:wifi|config) /m);
  });

  test('fails without a seed, for a damaged fixed file, and for a broken manifest', () => {
    configure({ wifi: { kind: 'fixed', units: ['web.service'] } });
    fails(call('check', '--servable'), 'not-found', /no seed is sealed/);
    seal();
    works(call('put', 'wifi'), { input: 'value' });
    works(call('check', '--servable'));
    const [path = ''] = listing(root, ['var']).filter((one) => /fixed\/.*wifi/.test(one));
    const file = at(path);
    const bytes = readFileSync(file);
    writeFileSync(file, bytes.subarray(0, bytes.length - 1));
    assert.notEqual(auxcred(call('check', '--servable')).status, 0);
    configureManifest({ wifi: { kind: 'nonsense', units: ['web.service'] } });
    assert.equal(auxcred(call('check', '--servable')).status, exitStatus['invalid-manifest']);
  });
});

describe('provision --by-configuration', () => {
  const declared = (): (string | undefined)[] =>
    unverifiedReleases(readReleases(pathsUnder(root)) ?? new Uint8Array()).map((release) => release.declared?.digest);

  test('records what was declared, and only that', () => {
    configure(hex);
    seal();
    works(call('provision', '--by-configuration'));
    const [first] = declared();
    assert.match(first ?? '', /^[0-9a-f]{64}$/);
    configure({ key: { ...hex.key, units: ['web.service', 'other.service'], change: 'reload' } });
    works(call('provision', '--by-configuration'));
    assert.deepEqual(declared(), [first, first]);
    configure({ key: { ...hex.key, generation: 2 } });
    works(call('provision', '--by-configuration'));
    assert.notEqual(declared()[0], first);
  });

  test('withholds what it could not provision, until it can', () => {
    const stored = { units: ['web.service'], delivery: 'socket', kind: 'hex' };
    configure({ a: stored, b: stored });
    seal();
    works(call('provision', '--by-configuration'));
    configure({ a: { ...stored, generation: 2 }, b: stored, wifi: { kind: 'fixed', units: ['web.service'] } });
    const { stderr } = fails(call('provision', '--by-configuration'), 'not-found', /wifi/);
    assert.match(stderr, /warning: a is withheld until this succeeds/);
    assert.match(readFileSync(at('run/auxcred/unprovisioned'), 'utf8'), /^$/);
    works(call('put', 'wifi'), { input: 'value' });
    works(call('provision', '--by-configuration'));
    assert.throws(() => readFileSync(at('run/auxcred/unprovisioned')), /ENOENT/);
  });
});

describe('a configuration that declares nothing yet', () => {
  test('is activated before a seed is sealed, unless one was lost', () => {
    configure({});
    works(call('check', '--servable'));
    assert.match(works(call('provision', '--by-configuration')).stderr, /no secret is declared, and no seed is sealed/);
    fails(call('provision'), 'not-found', /no seed is sealed/);
    seal();
    rmSync(at('var/lib/auxcred/seeds.age'));
    fails(call('provision', '--by-configuration'), 'not-found', /seed is lost/);
  });
});

describe('configuration.json', () => {
  const parse = (value: unknown): unknown =>
    parseConfiguration(Buffer.from(JSON.stringify(value)), 'configuration.json');
  const sound = { version: 1, system: 'nixos', switch: 'nixos-rebuild switch', pins: false };

  test('is parsed strictly', () => {
    assert.deepEqual(parse(sound), {
      system: 'nixos',
      switch: 'nixos-rebuild switch',
      pins: false,
      hookPath: undefined,
    });
    for (const wrong of [
      { ...sound, version: 2 },
      { ...sound, system: 'debian' },
      { ...sound, switch: 'a\nb' },
      { ...sound, pins: 'yes' },
      { ...sound, hookPath: 'relative' },
      [],
    ])
      assert.throws(() => parse(wrong), /configuration\.json(?:: | was written by a later version)/);
  });

  test('that is damaged stops everything', () => {
    configure(hex);
    put('etc/auxcred/configuration.json', '{');
    fails(call('seal', recovery), 'malformed', /configuration\.json is not JSON/);
    fails(call('apply'), 'malformed', /configuration\.json is not JSON/);
  });
});

describe('a push', () => {
  test('brings no manifest where the configuration renders it', () => {
    configure(hex);
    const request: Request = {
      purpose: 'judge-without-seeds',
      seeds: undefined,
      fixed: [],
      removeFixed: [],
      manifest: [{ name: 'web.toml', length: 0 }],
      removeManifest: [],
      replace: true,
      acceptOlder: false,
      wait: true,
    };
    const arrived = { seeds: undefined, fixed: new Map(), manifest: new Map([['web.toml', new Uint8Array(0)]]) };
    const pushed = readPushed(pathsUnder(root));
    assert.throws(
      () => judge(root, request, arrived, { scopes: undefined, pushed, own: undefined }),
      /configuration renders its manifest/,
    );
    const nothing = { ...arrived, manifest: new Map() };
    judge(root, { ...request, manifest: [] }, nothing, { scopes: undefined, pushed, own: undefined });
  });
});

describe('a library beside the program', () => {
  test('is taken before all others', () => {
    const folder = at('lib/auxcred');
    cpSync(dirname(program), folder, { recursive: true });
    const libtss2 = (): string => {
      const { stdout } = spawnSync(process.execPath, [join(folder, 'auxcred.cjs'), ...call('doctor', '--json')], {
        encoding: 'utf8',
      });
      return /"message": "(the TPM library [^"]*)"/.exec(stdout)?.[1] ?? stdout;
    };
    const library = join(folder, 'libtss2-esys.so.0');
    assert.equal(libtss2(), 'the TPM library is installed');
    writeFileSync(library, 'not a library');
    assert.equal(libtss2(), 'the TPM library libtss2 is not installed');
    const { stdout } = spawnSync('ldconfig', ['-p'], { encoding: 'utf8' });
    const real = /libtss2-esys\.so\.0 .* => (\S+)/.exec(stdout)?.[1];
    assert.ok(real);
    rmSync(library);
    symlinkSync(real, library);
    assert.equal(libtss2(), 'the TPM library is installed');
  });
});
