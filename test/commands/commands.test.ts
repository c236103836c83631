import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import * as cli from '../cli.ts';
import { at, auxcred, here, root, useRoot } from './sealable-root.ts';

useRoot();

/** The arguments, the exit status, and what standard error says. */
const mistakes: readonly [readonly string[], keyof typeof exitStatus, RegExp][] = [
  [['sael'], 'usage', /^auxcred: auxcred has no verb sael\nauxcred: hint: did you mean seal\?\n$/],
  [['encrypt'], 'usage', /no verb encrypt\nauxcred: hint: auxcred --help lists them\n$/],
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
  /** Commands whose whole output is one text, and one that prints line by line. */
  const whole = [['graph', '--format=svg'], ['status', '--prometheus'], ['audit', '--key'], ['get', 'key'], ['graph']];
  const redirected = (args: readonly string[], how: string): { status: string; stderr: string } => {
    const script = `"$@" ${how}`;
    const command = [process.execPath, 'dist/auxcred.cjs', ...args, `--root=${root}`];
    const { stdout, stderr } = spawnSync('bash', ['-c', script, 'bash', ...command], { encoding: 'utf8' });
    return { status: stdout.trim(), stderr };
  };

  test('that nobody reads any more is no failure, whatever is printed', () => {
    here('seal', '--no-recovery');
    here('apply');
    for (const args of whole) {
      const said = redirected(args, '| true; echo "${PIPESTATUS[0]}"');
      assert.deepEqual(said, { status: '0', stderr: '' }, args.join(' '));
    }
  });

  test('that is full is named as what is full, whatever is printed', () => {
    here('seal', '--no-recovery');
    here('apply');
    for (const args of whole) {
      const { status, stderr } = redirected(args, '> /dev/full; echo $?');
      assert.equal(status, String(exitStatus.system), args.join(' '));
      assert.match(stderr, /^auxcred: standard output can't be written: ENOSPC.*\n$/, args.join(' '));
    }
  });

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
