import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import * as cli from '../cli.ts';

/** The operator's folder, with a vault and two machines' roots as an installer sees them. */
let folder = '';
const at = (path: string): string => join(folder, path);
const auxcred = (args: readonly string[], input = ''): cli.Said =>
  cli.auxcred(args, { input, env: { PATH: process.env['PATH'], HOME: folder } });
function works(args: readonly string[], input = ''): string {
  const { status, stdout, stderr } = auxcred(args, input);
  assert.equal(status, 0, `${args.join(' ')}: ${stderr}`);
  return stdout;
}
const vault = (verb: string, ...args: string[]): string[] => [verb, `--vault=${at('vault')}`, ...args];
const operator = (verb: string, ...args: string[]): string[] => vault(verb, `--identity=${at('identity')}`, ...args);
const on = (host: string, verb: string, ...args: string[]): string[] => [verb, `--root=${at(host)}`, ...args];

const manifest = `[secret.db-password]
share = "db"
rotate = "monthly"
units = ["web.service"]

[secret.deploy]
kind = "ssh-ed25519"
units = ["web.service"]

[secret.mesh]
kind = "wireguard"
share = "db"
units = ["web.service"]

[secret.tls]
kind = "ec-p256"
units = ["web.service"]

[secret.web-env]
kind = "template"
units = ["web.service"]
env = { URL = "postgres://web:{{db-password | url}}@db", PEER = "{{mesh.public}}" }
`;

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'operator-'));
  assert.equal(spawnSync('age-keygen', ['-o', at('identity')]).status, 0);
  const recipient = spawnSync('age-keygen', ['-y', at('identity')], { encoding: 'utf8' }).stdout.trim();
  works(vault('init', `--recipient=${recipient}`));
  mkdirSync(at('vault/all'));
  writeFileSync(at('vault/all/web.toml'), manifest);
  writeFileSync(
    at('vault/vault.toml'),
    '[host.web1]\ngroups = ["db"]\n[host.web2]\ngroups = ["db"]\n[host.lone]\n[group.db]\nepoch = 3\n',
  );
  for (const host of ['web1', 'web2']) {
    for (const path of ['etc/ssh', 'etc/auxcred/secrets.d']) mkdirSync(at(`${host}/${path}`), { recursive: true });
    writeFileSync(at(`${host}/etc/hostname`), `${host}\n`);
    writeFileSync(at(`${host}/etc/group`), 'root:x:0:\n');
    writeFileSync(at(`${host}/etc/auxcred/secrets.d/web.toml`), manifest);
    assert.equal(
      spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', at(`${host}/etc/ssh/ssh_host_ed25519_key`)])
        .status,
      0,
    );
    const scopes = works(operator('scopes', host));
    works(on(host, 'seal', '--scopes=-'), scopes);
    works(on(host, 'apply'));
  }
});
after(() => {
  rmSync(folder, { recursive: true });
});

describe('the fleet seed', () => {
  test('is an age file that only its owner may read, kept out of git', () => {
    assert.equal(statSync(at('vault/seed.age')).mode & 0o777, 0o600);
    assert.equal(statSync(at('vault')).mode & 0o777, 0o700);
    assert.equal(
      readFileSync(at('vault/.gitignore'), 'utf8'),
      'seed.age\nfetched.json\nsealed/\nchallenges/\n.*.new\n',
    );
    assert.equal(spawnSync('age', ['-d', '-i', at('identity'), at('vault/seed.age')]).stdout.length, 32);
  });

  test('is not created twice, nor without recipients or a passphrase', () => {
    assert.equal(auxcred(vault('init', '--recipient=age1x')).status, exitStatus.refused);
    const { status, stderr } = auxcred(['init', `--vault=${at('other')}`]);
    assert.equal(status, exitStatus.usage);
    assert.match(stderr, /--recipient=age1\.\.\. \(any number\) or --passphrase/);
    assert.equal(auxcred(['init', `--vault=${at('other')}`, '--recipient=age1nonsense']).status, exitStatus.usage);
  });

  test('comes back from its 24 words, and opens with a passphrase, an ssh key or a recipient', () => {
    writeFileSync(at('passphrase'), 'correct horse\n');
    const words = works(['init', `--vault=${at('paper')}`, `--passphrase-file=${at('passphrase')}`, '--print-words']);
    const again = auxcred(
      [
        'init',
        `--vault=${at('again')}`,
        '--from-words',
        `--recipient=${spawnSync('age-keygen', ['-y', at('identity')], { encoding: 'utf8' }).stdout.trim()}`,
        `--recipient=${readFileSync(at('web1/etc/ssh/ssh_host_ed25519_key.pub'), 'utf8').trim()}`,
      ],
      words,
    );
    assert.equal(again.status, 0, again.stderr);
    writeFileSync(at('again/vault.toml'), '[host.a]\n');
    const [first, second] = [at('identity'), at('web1/etc/ssh/ssh_host_ed25519_key')].map((identity) =>
      works(['scopes', 'a', `--vault=${at('again')}`, `--identity=${identity}`]),
    );
    assert.equal(first, second);
    assert.equal(
      auxcred(['scopes', 'a', `--vault=${at('again')}`, `--identity=${at('web2/etc/ssh/ssh_host_ed25519_key')}`])
        .status,
      exitStatus['no-recipient'],
    );
  });
});

describe('scopes', () => {
  test("of a host are its own and its groups', and those of nobody else", () => {
    const scopes: { scopes: { kind: string; name: string; epoch: number; seed: string }[] } = JSON.parse(
      works(operator('scopes', 'web1')),
    );
    assert.deepEqual(
      scopes.scopes.map(({ kind, name, epoch }) => [kind, name, epoch]),
      [
        ['host', 'web1', 1],
        ['group', 'db', 3],
      ],
    );
    const lone: typeof scopes = JSON.parse(works(operator('scopes', 'lone')));
    assert.deepEqual(
      lone.scopes.map(({ kind, name }) => `${kind}/${name}`),
      ['host/lone'],
    );
    const fleetSeed = spawnSync('age', ['-d', '-i', at('identity'), at('vault/seed.age')]).stdout.toString('base64');
    assert.ok(![...scopes.scopes, ...lone.scopes].some(({ seed }) => seed === fleetSeed));
  });

  test('of a host that the vault does not know are refused', () => {
    const { status, stderr } = auxcred(operator('scopes', 'wbe1'));
    assert.equal(status, exitStatus['not-found']);
    assert.match(stderr, /knows no host wbe1\nauxcred: hint: \[host\.wbe1\] in vault\.toml/);
    for (const [host, hint] of [
      ['web1.example.org', '[host."web1.example.org"] in vault.toml makes it known'],
      ['WEB1', 'lower-case letters, digits and . _ @ + -'],
    ] as const)
      assert.ok(auxcred(operator('scopes', host)).stderr.endsWith(`auxcred: hint: ${hint}\n`), host);
  });

  test('a machine takes nothing but scopes', () => {
    for (const wrong of ['', '{}', '{"version":1,"scopes":[]}'])
      assert.equal(auxcred(on('web1', 'seal', '--replace', '--scopes=-'), wrong).status, exitStatus.malformed);
    assert.equal(auxcred(on('web1', 'seal', '--replace', '--scopes=-', '--name=x'), '').status, exitStatus.usage);
  });
});

describe('both sides', () => {
  test('see the same secrets; two hosts share those of their group and no other', () => {
    for (const name of ['db-password', 'mesh', 'deploy', 'tls', 'web-env']) {
      const [here, there] = ['web1', 'web2'].map((host) => {
        const value = works(on(host, 'get', name));
        assert.equal(works(operator('get', name, `--host=${host}`)), value);
        return value;
      });
      assert.equal(here === there, ['db-password', 'mesh', 'web-env'].includes(name), name);
    }
  });

  test('see the same public halves, which the native tools confirm', () => {
    const [pub, key] = [works(operator('public', 'deploy', '--host=web1')), at('key')];
    writeFileSync(key, works(on('web1', 'get', 'deploy')), { mode: 0o600 });
    assert.equal(pub, works(on('web1', 'public', 'deploy')));
    assert.equal(spawnSync('ssh-keygen', ['-y', '-f', key], { encoding: 'utf8' }).stdout, pub);
    assert.match(pub, / deploy@web1\n$/);
    assert.equal(
      spawnSync('wg', ['pubkey'], { encoding: 'utf8', input: works(on('web2', 'get', 'mesh')) }).stdout,
      works(operator('public', 'mesh', '--host=web1')),
    );
    assert.equal(
      spawnSync('openssl', ['pkey', '-pubout'], { encoding: 'utf8', input: works(on('web1', 'get', 'tls')) }).stdout,
      works(operator('public', 'tls', '--host=web1')),
    );
  });

  test('--all --json is for configuration: of one host, or of every host', () => {
    type Keys = Record<string, { realm: string; public: string }>;
    const read = (text: string): { version: number; hosts: Record<string, Keys> } => JSON.parse(text);
    const { version, hosts } = read(works(on('web1', 'public', '--all', '--json')));
    const { web1 = {} } = hosts;
    assert.equal(version, 1);
    assert.deepEqual(Object.keys(hosts), ['web1']);
    assert.deepEqual(Object.keys(web1), ['deploy', 'mesh', 'tls']);
    for (const [name, { realm, public: key }] of Object.entries(web1)) {
      assert.match(realm, /^[0-9a-f]{64}$/);
      assert.equal(`${key.trimEnd()}\n`, works(on('web1', 'public', name)));
    }
    assert.deepEqual(read(works(operator('public', '--all', '--json', '--host=web1'))).hosts, { web1 });
    writeFileSync(
      at('vault/vault.toml'),
      '[host.web1]\ngroups = ["db"]\n[host.web2]\ngroups = ["db"]\n[group.db]\nepoch = 3\n',
    );
    const { web2 = {} } = read(works(on('web2', 'public', '--all', '--json'))).hosts;
    assert.deepEqual(web2['mesh'], web1['mesh']);
    assert.notEqual(web2['deploy']?.realm, web1['deploy']?.realm);
    assert.deepEqual(read(works(operator('public', '--all', '--json'))).hosts, { web1, web2 });
    const plain = spawnSync(process.execPath, ['dist/auxcred.cjs', 'public', '--all', '--json'], {
      encoding: 'utf8',
      env: { PATH: process.env['PATH'], AUXCRED_VAULT: at('vault'), AUXCRED_IDENTITY: at('identity') },
    });
    assert.deepEqual(
      Object.keys(read(plain.stdout).hosts),
      ['web1', 'web2'],
      "a machine without a seed of its own uses the vault's",
    );
  });

  test('--check says whether the file of a configuration is current, and what differs', () => {
    const file = at('public.json');
    const check = (...args: string[]): cli.Said => auxcred(operator('public', '--all', `--check=${file}`, ...args));
    const edit = (change: (hosts: Record<string, Record<string, { realm: string; public: string }>>) => void): void => {
      const document: { hosts: Record<string, Record<string, { realm: string; public: string }>> } = JSON.parse(
        works(operator('public', '--all', '--json')),
      );
      change(document.hosts);
      writeFileSync(file, JSON.stringify(document));
    };
    assert.match(check().stderr, /^auxcred: there is no file .*public\.json\n/);
    edit(() => undefined);
    assert.deepEqual([check().status, check('--host=web2').status], [0, 0]);
    assert.equal(
      auxcred(on('web1', 'public', '--all', `--check=${file}`)).status,
      0,
      'a machine looks at its own keys',
    );

    edit((hosts) => {
      const { web1 = {}, web2 = {} } = hosts;
      if (web1['deploy'] && web2['deploy']) web1['deploy'].public = web2['deploy'].public;
      if (web1['mesh']) web1['mesh'].realm = '0'.repeat(64);
      delete web1['tls'];
      hosts['gone'] = { '\x1b[31mkey': { realm: '', public: '' } };
    });
    const { status, stdout, stderr } = check();
    assert.deepEqual([status, stdout], [exitStatus.refused, '']);
    assert.equal(
      stderr,
      [
        'auxcred: gone:  [31mkey is no key pair any more',
        'auxcred: web1: deploy has another public half',
        'auxcred: web1: mesh has another realm',
        'auxcred: web1: tls is missing',
        `auxcred: ${file} is not current: 4 differences`,
        `auxcred: hint: auxcred public --all --json > ${file}\n`,
      ].join('\n'),
    );
    assert.equal(check('--host=web2').status, 0);
    for (const [text, told] of [
      ['{', /public\.json is not JSON/],
      ['{"version":2,"hosts":{}}', /version is not a whole number from 1 to 1/],
      ['{"version":1,"hosts":{"a":{"b":{"realm":1}}}}', /hosts\.a\.b\.realm is not text/],
    ] as const) {
      writeFileSync(file, text);
      assert.equal(check().status, exitStatus.malformed);
      assert.match(check().stderr, told);
    }
    assert.match(auxcred(operator('public', 'mesh', `--check=${file}`)).stderr, /needs --all beside --check/);
  });

  test('agree on the values of other periods', () => {
    const [july, june] = ['2026-07', '2026-06'].map((period) =>
      works(on('web1', 'get', 'db-password', `--at=${period}`)),
    );
    assert.notEqual(july, june);
    assert.equal(works(operator('get', 'db-password', '--host=web2', '--at=2026-07-31')), july);
    assert.notEqual(works(on('web1', 'get', 'db-password', '--at=2026-07', '--generation=2')), july);
    assert.match(auxcred(on('web1', 'get', 'db-password', '--at=2026')).stderr, /db-password changes within 2026/);
    assert.match(auxcred(on('web1', 'get', 'db-password', '--at=2026-13')).stderr, /2026-13 is not a period/);
  });
});

describe('looking', () => {
  test('ls lists what is declared, with its strength', () => {
    assert.match(
      works(on('web1', 'ls')),
      /^NAME +KIND +BITS +SCOPE +PERIOD +GENERATION +UNITS\ndb-password +password +191 +group\/db +\d{4}-\d\d +1 +web\.service\n/,
    );
    const rows: { name: string; strength?: number; scopes: string[]; madeOf: string[]; credentials: string[] }[] =
      JSON.parse(works(operator('ls', '--json', '--host=web2')));
    const env = rows.find(({ name }) => name === 'web-env');
    assert.deepEqual([env?.madeOf, env?.scopes, env?.strength], [['db-password', 'mesh'], ['group/db'], undefined]);
    assert.deepEqual(rows.find(({ name }) => name === 'db-password')?.credentials, [
      'db-password',
      'db-password.previous',
    ]);
  });

  test('graph shows who gets what, as text and for Graphviz', () => {
    assert.match(
      works(on('web1', 'graph')),
      /^web\.service\n├── db-password {2}password of group\/db\n├── db-password\.previous {2}password of group\/db\n├── deploy {2}ssh-ed25519 of host\/web1\n/,
    );
    const dot = works(on('web1', 'graph', '--format=dot'));
    assert.match(dot, /^digraph secrets \{/);
    assert.match(dot, /"secret db-password" \[label="db-password\\npassword, monthly", shape=ellipse\];/);
    assert.match(dot, /"secret db-password" -> "made web-env";/);
    assert.match(dot, /"secret mesh" -> "made web-env" \[label="mesh\.public"\];/);
    assert.match(dot, /"scope group\/db" -> "secret mesh";/);
    assert.match(dot, /"secret db-password" -> "unit web\.service" \[label="db-password, db-password\.previous"\];/);
  });

  test('plan shows what would change, and changes nothing', () => {
    assert.match(auxcred(on('web1', 'plan')).stderr, /nothing would change/);
    const file = at('web1/etc/auxcred/secrets.d/web.toml');
    writeFileSync(
      file,
      manifest
        .replace('[secret.tls]\nkind = "ec-p256"', '[secret.tls]\nkind = "ed25519"')
        .replace('rotate', 'generation = 2\nrotate'),
    );
    const before = readFileSync(at('web1/var/lib/auxcred/provisioned/releases.json'));
    const { stdout } = auxcred(on('web1', 'plan'));
    for (const line of [
      /^web\.service +db-password +generation 1 -> 2 +restart$/m,
      /^web\.service +tls +ec-p256 -> ed25519 +restart$/m,
      /^web\.service +web-env +db-password: generation 1 -> 2 +restart$/m,
    ])
      assert.match(stdout, line);
    assert.ok(!stdout.includes('deploy'));
    assert.deepEqual(JSON.parse(works(on('web1', 'plan', '--json'))).units, [
      { unit: 'web.service', action: 'restart' },
    ]);
    assert.ok(before.equals(readFileSync(at('web1/var/lib/auxcred/provisioned/releases.json'))));
    writeFileSync(file, manifest);
  });

  test('history shows what was active', () => {
    const rows: { change: string; generation: string }[] = JSON.parse(
      works(on('web2', 'history', 'db-password', '--json')),
    );
    assert.deepEqual(
      rows.map(({ change, generation }) => [change, generation]),
      [['new', '1']],
    );
    const mistyped = auxcred(on('web2', 'history', 'db-pasword'));
    assert.equal(mistyped.status, exitStatus['not-found']);
    assert.match(
      mistyped.stderr,
      /no secret db-pasword is declared or was ever active .*\n.*hint: did you mean db-password\?/,
    );
    assert.match(auxcred(on('web2', 'history', 'nothing')).stderr, /hint: auxcred ls shows/);
  });

  test('a reader that stops early is not an error', () => {
    const { stdout, stderr } = spawnSync(
      'sh',
      ['-c', `"${process.execPath}" dist/auxcred.cjs graph --root="${at('web1')}" | head -n 1`],
      { encoding: 'utf8' },
    );
    assert.deepEqual([stdout, stderr], ['web.service\n', '']);
  });
});

test('a new epoch of the group gives its hosts new secrets, and says so', () => {
  const old = works(on('web2', 'get', 'db-password'));
  writeFileSync(
    at('vault/vault.toml'),
    '[host.web1]\ngroups = ["db"]\n[host.web2]\ngroups = ["db"]\n[group.db]\nepoch = 4\n',
  );
  const { stderr } = auxcred(on('web2', 'seal', '--replace', '--scopes=-'), works(operator('scopes', 'web2')));
  assert.match(stderr, /every secret of group\/db is new; auxcred apply --root=\S+ activates them/);
  assert.match(works(on('web2', 'plan')), /^web\.service +db-password +epoch 3 -> 4 +restart$/m);
  works(on('web2', 'apply'));
  assert.notEqual(works(on('web2', 'get', 'db-password')), old);
  assert.equal(works(on('web2', 'get', 'db-password')), works(operator('get', 'db-password', '--host=web2')));
});

test('a vault.toml with a mistake names it', () => {
  mkdirSync(at('bad'));
  for (const [text, message] of [
    ['[host.a]\n[group.b]\nssh = ["ssh"]\n', /has no key group\.b\.ssh\n.*: ssh belongs above the first \[table\]\n$/],
    ['[host.a.example.org]\n', /has no key host\.a\.example\n.*: a name with a dot has quotes: \[host\."web1/],
    ['[host.a]\ngruops = []\n', /has no key host\.a\.gruops\nauxcred: hint: did you mean groups\?\n$/],
    ['[host.a]\nepoch = 0\n', /host\.a\.epoch is not a whole number/],
    ['[host\n', /vault\.toml:1: it is not TOML: /],
    ['[host.a]\n[host.a]\n', /vault\.toml:2: it is not TOML: trying to redefine /],
    ['[host.A]\n', /vault\.toml: "A" is not a name/],
  ] as const) {
    writeFileSync(at('bad/vault.toml'), text);
    const { status, stderr } = auxcred(['scopes', 'a', `--vault=${at('bad')}`]);
    assert.equal(status, exitStatus.malformed);
    assert.match(stderr, message);
  }
});
