import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import * as cli from '../cli.ts';

/** A machine's root folder as an installer sees it: nothing in it runs. */
let root = '';
const at = (path: string): string => join(root, path);

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'root-'));
  for (const folder of ['etc/ssh', 'etc/auxcred/secrets.d']) mkdirSync(at(folder), { recursive: true });
  writeFileSync(at('etc/hostname'), 'Web1\n');
  writeFileSync(at('etc/group'), 'root:x:0:\n');
  writeFileSync(at('etc/auxcred/secrets.d/web.toml'), '[secret.key]\nkind = "hex"\nunits = ["web.service"]\n');
  assert.equal(
    spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', at('etc/ssh/ssh_host_ed25519_key')]).status,
    0,
  );
});
afterEach(() => {
  rmSync(root, { recursive: true });
});

const auxcred = (args: readonly string[], input = ''): cli.Said => cli.auxcred(args, { input });
const here = (verb: string, ...args: string[]): cli.Said => auxcred([verb, `--root=${root}`, ...args]);

/** The arguments, the exit status, and what standard error says. */
const mistakes: readonly [readonly string[], keyof typeof exitStatus, RegExp][] = [
  [['sael'], 'usage', /^auxcred: auxcred has no verb sael\nauxcred: hint: did you mean seal\?\n$/],
  [['encrypt'], 'usage', /no verb encrypt\nauxcred: hint: auxcred --help lists all it has\n$/],
  [['seal', '--with-kay=host'], 'usage', /no option --with-kay\nauxcred: hint: did you mean --with-key\?\n$/],
  [['seal', '--unknown'], 'usage', /no option --unknown\nauxcred: hint: it takes --with-key, /],
  [['seal', '--no-recovery=yes'], 'usage', /no option --no-recovery|takes no value/],
  [['seal', '--name='], 'usage', /--name of seal needs a value: auxcred seal --name=NAME/],
  [['seal', '--name=a', '--name=b'], 'usage', /--name of seal is given more than once/],
  [['seal', 'web1'], 'usage', /seal takes no argument, and "web1" is one too many/],
  [['stage'], 'usage', /stage needs the name of a unit: auxcred stage UNIT/],
  [['check', '--json=1'], 'usage', /--json of check takes no value/],
  [['plan', '--root=/', '--at=soon'], 'usage', /soon is not a period/],
  [['apply', '--root=/not/here'], 'usage', /--root=\/not\/here is not a folder\nauxcred: hint: .*--root=\/mnt/],
  [['doctor', '--root=/etc/passwd'], 'usage', /--root=\/etc\/passwd is not a folder/],
];

describe('the command line', () => {
  test('prints the usage without a verb', () => {
    const { status, stdout } = auxcred([]);
    assert.equal(status, 0);
    assert.match(stdout, /^Usage:\n {4}auxcred VERB/);
    for (const args of [['help'], ['--help'], ['-h']]) assert.equal(auxcred(args).stdout, stdout);
  });
  for (const [args, code, message] of mistakes)
    test(`auxcred ${args.join(' ')}`, () => {
      const { status, stdout, stderr } = auxcred(args);
      assert.equal(status, exitStatus[code]);
      assert.match(stderr, message);
      assert.equal(stdout, '');
    });
});

describe('seal', () => {
  test("and other writers refuse a root whose folders lead elsewhere or are somebody else's", {
    skip: process.getuid?.() !== 0,
  }, () => {
    const outside = mkdtempSync(join(tmpdir(), 'outside-'));
    try {
      symlinkSync(outside, at('var'));
      const { status, stderr } = here('seal', '--no-recovery');
      assert.equal(status, exitStatus.refused);
      assert.match(stderr, /var leads to \S+, which is outside of /);
      assert.deepEqual(readdirSync(outside), []);
      rmSync(at('var'));
      assert.equal(here('seal', '--no-recovery').status, 0);
      chownSync(at('etc/auxcred'), 65534, 65534);
      for (const verb of ['apply', 'provision', 'reseal'])
        assert.match(here(verb).stderr, /etc\/auxcred belongs to user 65534, who could lead the path elsewhere\n/);
      chownSync(at('etc/auxcred'), 0, 0);
      chmodSync(at('var/lib'), 0o777);
      assert.match(
        auxcred(['put', `--root=${root}`, 'wifi'], 'hunter2').stderr,
        /var\/lib can be written by more users than its owner\nauxcred: hint: chmod go-w \S+var\/lib\n/,
      );
    } finally {
      rmSync(outside, { recursive: true });
    }
  });

  test('a new seed needs a recovery', () => {
    const { status, stderr } = here('seal');
    assert.equal(status, exitStatus.usage);
    assert.match(
      stderr,
      /a new seed needs a way to recover it.*\n.*--recipient=age1\.\.\., --print-words .* --no-recovery/,
    );
    assert.ok(!existsSync(at('var/lib/auxcred/seeds.age')));
  });

  test('to the host key, opened again by the age program with that key and with a recovery identity', () => {
    assert.equal(spawnSync('age-keygen', ['-o', at('identity')]).status, 0);
    const recipient = spawnSync('age-keygen', ['-y', at('identity')], { encoding: 'utf8' }).stdout.trim();
    const sealed = here('seal', `--recipient=${recipient}`);
    assert.equal(sealed.status, 0, sealed.stderr);
    assert.equal(
      sealed.stderr.match(/on the same disk: unless that is encrypted, anyone who steals it has the secrets/g)?.length,
      1,
    );
    assert.match(sealed.stderr, /sealed the seed of host\/web1 to its ssh host key; key id [0-9a-f]{32}/);
    const opened = [at('etc/ssh/ssh_host_ed25519_key'), at('identity')].map(
      (identity) =>
        spawnSync('age', ['-d', '-i', identity, at('var/lib/auxcred/seeds.age')], { encoding: 'utf8' }).stdout,
    );
    assert.match(
      opened[0] ?? '',
      /^\{"counter":1,"policy":\{"pcrs":\[\],"withKey":"host"\},"recipients":\["age1[0-9a-z]+"\],"scopes":\[\{"epoch":1,"kind":"host","name":"web1","seed":"[^"]{44}"\}\],"version":1\}$/,
    );
    assert.equal(opened[1], opened[0]);
    assert.equal(statSync(at('var/lib/auxcred/seeds.age')).mode & 0o777, 0o640);
    assert.equal(statSync(at('var/lib/auxcred')).mode & 0o777, 0o750);
    assert.doesNotMatch(here('reseal').stderr, /share a disk/);
  });

  test('never replaces a seed, unless told to', () => {
    assert.equal(here('seal', '--no-recovery').status, 0);
    const before = readFileSync(at('var/lib/auxcred/seeds.age'));
    const again = here('seal', '--no-recovery');
    assert.equal(again.status, exitStatus.refused);
    assert.match(again.stderr, /exists, and a new seed would change every secret/);
    assert.ok(before.equals(readFileSync(at('var/lib/auxcred/seeds.age'))));
    assert.equal(here('seal', '--no-recovery', '--replace').status, 0);
  });

  test('24 words give the same seed, and so the same secrets, on another machine', () => {
    const first = here('seal', '--print-words');
    const words = first.stdout.trim();
    assert.equal(words.split(' ').length, 24);
    assert.equal(here('unseal', '--reveal').stdout.trim(), words);
    const id = /key id ([0-9a-f]{32})/.exec(first.stderr)?.[1];
    const again = auxcred(['seal', `--root=${root}`, '--replace', '--seed-file=-'], words);
    assert.equal(/key id ([0-9a-f]{32})/.exec(again.stderr)?.[1], id);
  });

  test('words that are wrong are refused, and none of them is said', () => {
    // Always these: words at random may be words of the message.
    const paper = 'legal winner thank year wave sausage worth useful '.repeat(3).trim().split(' ');
    const wrong: readonly (readonly [readonly string[], RegExp])[] = [
      [paper, /checksum of the 24 words is wrong/],
      [paper.with(23, 'xyzzy'), /word 24 is not in the BIP-39 English list/],
      [paper.slice(0, 23), /a seed has 24 words, not 23/],
    ];
    for (const [words, message] of wrong) {
      const refused = auxcred(['seal', `--root=${root}`, '--seed-file=-'], words.join(' '));
      assert.equal(refused.status, exitStatus.usage);
      assert.match(refused.stderr, message);
      const said = new Set(refused.stderr.split(/\W+/));
      assert.deepEqual(
        words.filter((word) => said.has(word)),
        [],
        refused.stderr,
      );
    }
  });

  /** Runs a command with its standard output sent there. */
  const into = (output: string, ...args: string[]): cli.Said =>
    spawnSync('sh', ['-c', `"$@" ${output}`, 'sh', process.execPath, 'dist/auxcred.cjs', ...args], {
      encoding: 'utf8',
      env: { PATH: process.env['PATH'] },
    });

  test("seals no seed whose words can't have been seen, and neither does init create a vault", () => {
    const folder = at('vault');
    for (const output of ['> /dev/full', '> /dev/null', '>&-'])
      for (const [args, made] of [
        [['seal', `--root=${root}`], at('etc/auxcred/scopes.json')],
        [
          ['init', `--vault=${folder}`, '--recipient=age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p'],
          folder,
        ],
      ] as const) {
        const { status, stderr } = into(output, ...args, '--print-words');
        assert.equal(status, exitStatus.system, output);
        assert.match(stderr, /the 24 words can't be shown, so nothing was changed: .*\n.*a terminal, a file or a pipe/);
        assert.ok(!existsSync(made));
      }
    assert.equal(into(`> '${at('words')}'`, 'seal', `--root=${root}`, '--print-words').status, 0);
    assert.equal(readFileSync(at('words'), 'utf8'), here('unseal', '--reveal').stdout);
  });

  test('shows the words before they are valid, and says so if it then fails', () => {
    mkdirSync(at('etc/systemd/system/auxcred.service.d/50-auxcred-seal.conf'), { recursive: true });
    const { status, stdout, stderr } = here('seal', '--print-words');
    assert.equal(status, exitStatus.malformed);
    assert.equal(stdout.trim().split(' ').length, 24);
    assert.match(
      stderr,
      /the 24 words were shown before this failed: they are valid only if auxcred unseal shows key id [0-9a-f]{32}\n.*50-auxcred-seal.conf is not a regular file/,
    );
    assert.ok(!existsSync(at('var/lib/auxcred/seeds.age')));
  });

  test('creates an age identity if there is no ssh host key, and says so', () => {
    rmSync(at('etc/ssh/ssh_host_ed25519_key'));
    const { status, stderr } = here('seal', '--no-recovery');
    assert.equal(status, 0, stderr);
    assert.match(stderr, /warning: this machine has no ssh host key, so an age identity was created at .*host\.key/);
    assert.equal(statSync(at('var/lib/auxcred/host.key')).mode & 0o777, 0o600);
    assert.match(here('unseal').stderr, /opens with age host key/);
    assert.match(
      readFileSync(at('etc/systemd/system/auxcred.service.d/50-auxcred-seal.conf'), 'utf8'),
      /^LoadCredential=age-host-key:\/var\/lib\/auxcred\/host\.key$/m,
    );
    assert.equal(
      spawnSync('age', ['-d', '-i', at('var/lib/auxcred/host.key'), at('var/lib/auxcred/seeds.age')]).status,
      0,
    );
  });

  test('a file that can not be read is a failure of the system, not of auxcred', () => {
    const { status, stderr } = here('seal', '--no-recovery', '--seed-file=/nonexistent');
    assert.equal(status, exitStatus.system);
    assert.match(stderr, /^auxcred: ENOENT: no such file or directory, open '\/nonexistent'$/m);
  });

  test('auto reports its choice', () => {
    const { stderr } = here('seal', '--with-key=auto', '--tpm2-device=device:/dev/tpm-not-here', '--no-recovery');
    assert.match(stderr, /--with-key=auto chose host/);
  });

  test("a name that can't be a scope name is refused", () => {
    writeFileSync(at('etc/hostname'), '../x\n');
    assert.match(here('seal', '--no-recovery').stderr, /\.\.\/x can't be used as a scope name/);
    assert.equal(here('seal', '--no-recovery', '--name=web2').status, 0);
  });
});

describe('unseal', () => {
  test('says what is wrong', () => {
    assert.equal(here('unseal').status, exitStatus['not-found']);
    here('seal', '--no-recovery');
    assert.match(here('unseal').stdout, /^SCOPE +EPOCH +KEY ID\nhost\/web1 +1 +[0-9a-f]{32}\n$/);
    const json: unknown = JSON.parse(here('unseal', '--json').stdout);
    assert.ok(
      json !== null && typeof json === 'object' && !('seed' in json) && !JSON.stringify(json).includes('"seed"'),
    );
    rmSync(at('etc/auxcred/scopes.json'));
    assert.equal(here('unseal').status, exitStatus['not-pinned']);
  });

  test('a changed host key is named', () => {
    here('seal', '--no-recovery');
    rmSync(at('etc/ssh/ssh_host_ed25519_key'));
    spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', at('etc/ssh/ssh_host_ed25519_key')]);
    const { status, stderr } = here('unseal');
    assert.equal(status, exitStatus['no-recipient']);
    assert.match(
      stderr,
      /none of this machine's keys opens the file, which is for ssh-ed25519\nauxcred: hint: the host key may have changed/,
    );
  });
});

describe('anything but a file', () => {
  const others: Readonly<Record<string, (path: string) => void>> = {
    'a folder': (path) => mkdirSync(path),
    'a FIFO': (path) => assert.equal(spawnSync('mkfifo', [path]).status, 0),
    'a loop of links': (path) => {
      symlinkSync(path, path);
    },
  };
  const files = ['etc/auxcred/scopes.json', 'etc/auxcred/rendered/manifest', 'etc/group'];
  for (const [what, make] of Object.entries(others))
    for (const file of files)
      test(`${what} in the place of ${file} is named, and waited for by nobody`, () => {
        here('seal', '--no-recovery');
        here('apply');
        rmSync(at(file));
        make(at(file));
        const said = here('apply');
        assert.equal(said.status, exitStatus.malformed, said.stderr);
        assert.match(said.stderr, new RegExp(`/${file} is (?:not a regular file|a loop of symbolic links)$`, 'm'));
        assert.match(said.stderr, /^auxcred: hint: /m);
        const { status, stderr } = here('status');
        assert.ok(status === exitStatus.unwell || status === exitStatus.malformed, stderr);
      });

  test('can be the key that opens the seed, as in --identity=<(COMMAND)', () => {
    assert.equal(spawnSync('age-keygen', ['-o', at('key')]).status, 0);
    const recipient = spawnSync('age-keygen', ['-y', at('key')], { encoding: 'utf8' }).stdout.trim();
    here('seal', `--recipient=${recipient}`);
    rmSync(at('etc/auxcred/scopes.json'));
    const { status, stderr } = spawnSync(
      'bash',
      [
        '-c',
        '"$@" --identity=<(cat "$0")',
        at('key'),
        process.execPath,
        'dist/auxcred.cjs',
        'reseal',
        `--root=${root}`,
      ],
      { encoding: 'utf8' },
    );
    assert.equal(status, 0, stderr);
  });
});

test('a folder is no input', () => {
  here('seal', '--no-recovery');
  const { status, stderr } = spawnSync(
    'sh',
    ['-c', '"$@" < /', 'sh', process.execPath, 'dist/auxcred.cjs', 'put', 'wifi', `--root=${root}`],
    { encoding: 'utf8' },
  );
  assert.equal(status, exitStatus.usage);
  assert.match(stderr, /^auxcred: standard input is a folder, not a file$/m);
});

test('standard error that nobody reads, or that is full, stops nothing halfway', () => {
  here('seal', '--no-recovery');
  for (const output of ['2> /dev/full', '2> >(exec true)']) {
    rmSync(at('etc/auxcred/rendered'), { force: true });
    const { status } = spawnSync('bash', [
      '-c',
      `sleep 0.1; "$@" ${output}`,
      'sh',
      process.execPath,
      'dist/auxcred.cjs',
      'apply',
      `--root=${root}`,
    ]);
    assert.equal(status, 0, output);
    assert.ok(existsSync(at('etc/auxcred/rendered/units/web.service.d/50-auxcred.conf')));
  }
});

describe('standard output', () => {
  test('that is full is reported as a failure', () => {
    here('seal', '--no-recovery');
    const { status, stderr } = spawnSync(
      'sh',
      ['-c', '"$@" > /dev/full', 'sh', process.execPath, 'dist/auxcred.cjs', 'ls', `--root=${root}`],
      { encoding: 'utf8' },
    );
    assert.equal(status, exitStatus.system);
    assert.match(stderr, /^auxcred: standard output can't be written: .*ENOSPC/);
  });

  test('that nobody reads does not stop anything halfway', async () => {
    here('seal', '--no-recovery');
    // A warning, which goes to standard output before anything is done.
    writeFileSync(at('etc/auxcred/secrets.d/lone.toml'), '[secret.lone]\nkind = "hex"\n');
    const child = spawn(process.execPath, ['dist/auxcred.cjs', 'apply', `--root=${root}`], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    child.stdout.destroy();
    assert.deepEqual(await once(child, 'exit'), [0, null]);
    assert.ok(existsSync(at('etc/auxcred/rendered/units/web.service.d/50-auxcred.conf')));
  });
});

describe('apply', () => {
  test('activates everything once', () => {
    here('seal', '--no-recovery');
    const first = here('apply');
    assert.match(first.stderr, /1 credential now active\nauxcred: drop-in of web\.service: added\n/);
    assert.match(
      readFileSync(at('etc/auxcred/rendered/units/web.service.d/50-auxcred.conf'), 'utf8'),
      /^# From \/etc\/auxcred\/secrets\.d\/web\.toml$/m,
    );
    const second = here('apply');
    assert.match(second.stderr, /1 credential already active\n/);
  });

  test('changes nothing if the manifest has an error', () => {
    here('seal', '--no-recovery');
    here('apply');
    const before = readFileSync(at('var/lib/auxcred/provisioned/releases.json'));
    writeFileSync(at('etc/auxcred/secrets.d/more.toml'), '[secret.x]\nunits = ["x.servce"]\n');
    const { status, stdout, stderr } = here('apply');
    assert.equal(status, exitStatus['invalid-manifest']);
    assert.match(stdout, /more\.toml:2: error: secret\.x\.units: "x\.servce" is not the name of a service/);
    assert.match(stderr, /the manifest has errors, so nothing was changed/);
    assert.ok(before.equals(readFileSync(at('var/lib/auxcred/provisioned/releases.json'))));
  });

  test('plan of a user who cannot see the store does not call the seed lost', {
    skip: process.getuid?.() !== 0 ? 'needs root, which is another user' : false,
  }, () => {
    here('seal', '--no-recovery');
    chmodSync(root, 0o755);
    chmodSync(at('var/lib/auxcred'), 0o750);
    const { status, stderr } = spawnSync(process.execPath, [cli.program, 'plan', `--root=${root}`], {
      uid: 65_534,
      gid: 65_534,
      encoding: 'utf8',
      env: { PATH: process.env['PATH'] },
    });
    assert.equal(status, exitStatus.system, stderr);
    assert.match(stderr, /^auxcred: EACCES: .*seeds\.age'\nauxcred: hint: run it as root\n$/);
  });

  test('before a seed is sealed plan shows what it would do', () => {
    const [plan, applied] = [here('plan'), here('apply')];
    assert.equal(plan.status, 0, plan.stderr);
    for (const { stderr } of [plan, applied])
      assert.match(
        stderr,
        /^auxcred: warning: no seed is sealed yet.*\nauxcred: hint: run auxcred seal\nauxcred: drop-in of web\.service: added$/m,
      );
  });

  test('before a seed is sealed renders and warns', () => {
    const { status, stderr } = here('apply');
    assert.equal(status, 0);
    assert.match(stderr, /warning: no seed is sealed yet/);
  });
});

test('check prints problems for people and for programs', () => {
  assert.match(here('check').stderr, /1 secret for 1 unit in 1 file: ok/);
  writeFileSync(at('etc/auxcred/secrets.d/x.json'), '{"secret": {"y": {"knid": "hex"}}}');
  const { status, stdout } = here('check', '--json');
  assert.equal(status, exitStatus['invalid-manifest']);
  const { problems }: { problems: { file: string; hint: string; severity: string }[] } = JSON.parse(stdout);
  assert.deepEqual(
    problems.filter(({ severity }) => severity === 'error').map(({ file, hint }) => [file, hint]),
    [['/etc/auxcred/secrets.d/x.json', 'did you mean kind?']],
  );
});

describe('a secret with a fixed period', () => {
  const manifest = (more: string): void => {
    writeFileSync(
      at('etc/auxcred/secrets.d/web.toml'),
      `[secret.key]\nkind = "hex"\nrotate = "monthly"\nunits = ["web.service"]\n${more}`,
    );
  };

  test("has that period's value, does not rotate, and is shown as fixed", () => {
    assert.equal(here('seal', '--no-recovery').status, 0);
    manifest('');
    assert.equal(here('apply').status, 0);
    const october = here('get', 'key', '--at=2025-10').stdout;
    manifest('period = "2025-10"\n');
    assert.match(here('plan').stdout, /^web\.service +key +period \d{4}-\d\d -> 2025-10 +restart$/m);
    assert.equal(here('apply').status, 0);
    assert.equal(here('get', 'key').stdout, october);
    assert.match(here('ls').stdout, /^key +hex +256 +host\/web1 +2025-10 \(held\) +1 +web\.service$/m);
    assert.deepEqual(
      JSON.parse(here('ls', '--json').stdout).map(({ rotate, period, held }: Record<string, unknown>) => ({
        rotate,
        period,
        held,
      })),
      [{ rotate: 'monthly', period: '2025-10', held: true }],
    );
    assert.match(here('history', 'key').stdout, /2025-10 +1 +period \d{4}-\d\d -> 2025-10$/m);
    assert.match(here('provision', '--due').stderr, /no secret rotates/);
    assert.match(here('plan', '--at=2099-01').stderr, /nothing would change/);
    assert.notEqual(here('get', 'key', '--at=2025-11').stdout, october);
    assert.match(here('get', 'key', '--at=2025').stderr, /key changes within 2025/);
  });
});
