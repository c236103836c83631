import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import { findingsOf } from '../../src/health/checks.ts';
import type { Finding } from '../../src/health/finding.ts';
import { lookAt } from '../../src/health/health.ts';
import { isEncryptedDevice, swapsOnDisk } from '../../src/health/platform.ts';
import { Sight } from '../../src/health/readable-files.ts';
import { commandLine, shellWord } from '../../src/system/shell.ts';
import { type Swtpm, startSwtpm } from '../swtpm.ts';

const isRoot = process.getuid?.() === 0;

/** The starting point of this file: a system below a folder with everything it needs, active. */
let sound = '';
/** A copy of it, which one test may break. */
let root = '';
let recoveryKey = '';
let recipient = '';
const at = (path: string): string => join(root, path);
const store = (path: string): string => at(`var/lib/auxcred/${path}`);
const manifest = 'etc/auxcred/secrets.d/web.toml';

interface Said {
  status: number | null;
  stdout: string;
  stderr: string;
}
const run = (
  command: readonly string[],
  {
    input = '',
    program = resolve('dist/auxcred.cjs'),
    uid,
    environment = {},
  }: { input?: string; program?: string; uid?: number; environment?: Record<string, string> } = {},
): Said =>
  spawnSync(process.execPath, [program, ...command], {
    encoding: 'utf8',
    input,
    timeout: 60_000,
    env: { PATH: process.env['PATH'], ...environment },
    ...(uid === undefined ? {} : { uid, gid: uid }),
  });
const auxcred = (verb: string, ...args: string[]): string => {
  const { status, stdout, stderr } = run([verb, `--root=${root}`, ...args], { input: 'value of a secret' });
  assert.equal(status, 0, `${verb}: ${stderr}${stdout}`);
  return stdout;
};
/** Runs a whole process at another time. */
const auxcredAt = (time: string, verb: string, ...args: string[]): void => {
  const { status, stderr } = spawnSync(
    'faketime',
    [time, process.execPath, resolve('dist/auxcred.cjs'), verb, `--root=${root}`, ...args],
    { encoding: 'utf8', env: { PATH: process.env['PATH'], TZ: 'UTC' } },
  );
  assert.equal(status, 0, stderr);
};

const isFinding = (value: unknown): value is Finding =>
  typeof value === 'object' && value !== null && 'check' in value && 'level' in value && 'mend' in value;

/** What doctor found, except what is well. */
function findings(options: Parameters<typeof run>[1] = {}): Finding[] {
  const { status, stdout, stderr } = run(['doctor', `--root=${root}`, '--json'], options);
  assert.ok(status === 0 || status === exitStatus.unwell, stderr);
  const report: unknown = JSON.parse(stdout);
  const all: unknown = typeof report === 'object' && report !== null ? Reflect.get(report, 'findings') : undefined;
  assert.ok(Array.isArray(all));
  const found = all.filter(isFinding).filter(({ level }) => level !== 'ok');
  assert.equal(status, found.some(({ level }) => level !== 'note') ? exitStatus.unwell : 0);
  return found;
}

/** The only finding. */
function only(
  check: string,
  level: Finding['level'],
  message: RegExp,
  options: Parameters<typeof run>[1] = {},
): Finding {
  const all = findings(options);
  assert.deepEqual(
    all.map((finding) => `${finding.level} ${finding.check}`),
    [`${level} ${check}`],
    JSON.stringify(all, undefined, 1),
  );
  const [finding] = all;
  assert.ok(finding);
  assert.match(finding.message, message);
  assert.match(finding.message, /^(?:[^A-Z]|PCR|Node).*[^.]$/);
  assert.ok(finding.why !== undefined && finding.why !== '');
  assert.ok(finding.mend.length > 0);
  return finding;
}

/** Runs the command of a finding, with values for its words in capitals, and checks that no finding is left. */
function mends(
  { mend }: Finding,
  which: number,
  words: Readonly<Record<string, string>> = {},
  left: readonly string[] = [],
): void {
  let command = mend[which] ?? '';
  for (const [word, value] of Object.entries(words)) command = command.replace(word, shellWord(value));
  command = command.replace(/(^|&& )auxcred /, `$1${process.execPath} ${resolve('dist/auxcred.cjs')} `);
  const { status, stderr } = spawnSync('sh', ['-c', command], {
    encoding: 'utf8',
    input: 'value of a secret',
    timeout: 60_000,
    env: { PATH: process.env['PATH'] },
  });
  assert.equal(status, 0, `${command}: ${stderr}`);
  assert.deepEqual(
    findings().map(({ check }) => check),
    left,
  );
}

before(() => {
  // So that unquoted commands fail.
  sound = mkdtempSync(join(tmpdir(), 'what is sound-'));
  root = sound;
  for (const folder of ['etc/ssh', 'etc/auxcred/secrets.d']) mkdirSync(at(folder), { recursive: true });
  writeFileSync(at('etc/hostname'), 'web1\n');
  writeFileSync(at('etc/group'), `auxcred:x:${String(process.getgid?.() ?? 0)}:\n`);
  writeFileSync(at('etc/passwd'), 'auxcred:x:990:990:auxcred broker:/:/usr/sbin/nologin\n');
  assert.equal(
    spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', at('etc/ssh/ssh_host_ed25519_key')]).status,
    0,
  );
  recoveryKey = at('recovery.txt');
  assert.equal(spawnSync('age-keygen', ['-o', recoveryKey]).status, 0);
  recipient = /age1\w+/.exec(readFileSync(recoveryKey, 'utf8'))?.[0] ?? '';
  auxcred('seal', `--recipient=${recipient}`);
  auxcred('put', 'wifi');
  writeFileSync(
    at(manifest),
    '[secret.key]\nkind = "hex"\nunits = ["web.service"]\n[secret.wifi]\nkind = "fixed"\nunits = ["net.service"]\n',
  );
  auxcred('apply');
});
after(() => {
  rmSync(sound, { recursive: true });
});
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "the machine's root-"));
  cpSync(sound, root, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true });
});
afterEach(() => {
  rmSync(root, { recursive: true });
});

describe('doctor', () => {
  test('finds nothing if all is well, and says so', () => {
    assert.deepEqual(findings(), []);
    const { status, stdout, stderr } = run(['doctor', `--root=${root}`]);
    assert.deepEqual([status, stdout], [0, '']);
    assert.match(stderr, /^auxcred: (\d+) of \1 checks passed\n$/);
    assert.match(auxcred('doctor', '--all'), /^ok: the seed opens with ssh host key in \d+ ms$/m);
  });

  test('prints what is wrong, why, and the command', () => {
    rmSync(store('provisioned'));
    const { status, stdout, stderr } = run(['doctor', `--root=${root}`]);
    assert.equal(status, exitStatus.unwell);
    assert.equal(
      stdout,
      `problem: nothing is in force yet [snapshot]\n    units that are declared get no secret\n    $ ${commandLine('auxcred', 'apply', `--root=${root}`)}\n`,
    );
    assert.match(stderr, /checks passed; 1 problem\n$/);
  });

  test('account', () => {
    copyFileSync(at('etc/group'), at('backup'));
    for (const file of ['group', 'passwd']) {
      writeFileSync(at(`etc/${file}`), 'root:x:0:0:\n');
      assert.equal(
        only('account', 'problem', new RegExp(file === 'group' ? 'no group auxcred' : 'no user auxcred')).mend[0],
        commandLine('systemd-sysusers', `--root=${root}`, 'auxcred.conf'),
      );
      copyFileSync(at('backup'), at('etc/group'));
    }
  });

  test('access: the seeds for everybody, the pins for everybody to write', { skip: !isRoot }, () => {
    for (const [path, mode] of [
      [store('seeds.age'), 0o644],
      [at('etc/auxcred/scopes.json'), 0o666],
      [store('fixed'), 0o755],
      [store('generations'), 0o777],
    ] as const) {
      chmodSync(path, mode);
      mends(
        only('access', 'problem', new RegExp(`${path} is 0:0 0${mode.toString(8)}, not root:(?:auxcred|root) `)),
        0,
      );
    }
  });

  test('leftovers', () => {
    const leftover = store(`.seeds.age.${String(spawnSync('true').pid)}.new`);
    writeFileSync(leftover, '');
    mends(only('leftovers', 'warning', /was being written/), 0);
    assert.ok(!existsSync(leftover));
    // A file that is being written right now does not count.
    writeFileSync(store(`.seeds.age.${String(process.pid)}.new`), '');
    assert.deepEqual(findings(), []);
  });

  test('seed: none', () => {
    const words = run(['unseal', `--root=${root}`, '--reveal']).stdout;
    copyFileSync(store('seeds.age'), at('backup'));
    writeFileSync(at('words'), words);
    for (const [which, lost] of [
      [0, [store('seeds.age')]],
      [3, [store('seeds.age')]],
      [1, [store('seeds.age')]],
      [1, [store('seeds.age'), store('provisioned'), store('generations')]],
    ] as const) {
      for (const path of lost) rmSync(path, { recursive: true });
      const finding = only('seed', 'problem', /this machine's seed is lost: .*seeds\.age is missing/);
      assert.match(
        finding.why ?? '',
        /a new seed would cost every secret of host\/web1,? (?:what is active )?and 1 fixed secret;/,
      );
      assert.ok(!finding.mend.some((command) => /auxcred seal\b/.test(command)));
      assert.equal(finding.mend.at(-1), 'auxcred push web1    # where the vault is');
      // Nothing is active if the snapshot is gone too, and the recovery recipients are gone with it.
      mends(
        finding,
        which,
        { BACKUP: at('backup'), 'FILE-WITH-THE-WORDS': at('words'), 'RECOVERY-KEY': recoveryKey },
        lost.length === 1 ? [] : ['recovery', 'snapshot'],
      );
    }
    for (const path of ['var/lib/auxcred', 'etc/auxcred/scopes.json']) rmSync(at(path), { recursive: true });
    mends(only('seed', 'problem', /no seed is sealed here/), 0, { 'age1...': recipient }, ['snapshot', 'wanted']);
  });

  test('seed: damaged', () => {
    copyFileSync(store('seeds.age'), at('backup'));
    writeFileSync(store('seeds.age'), 'age-encryption.org/v1\n');
    mends(only('seed', 'problem', /seeds.age is damaged/), 0, { BACKUP: at('backup') });
  });

  test('opening: damaged inside only', () => {
    copyFileSync(store('seeds.age'), at('backup'));
    const bytes = readFileSync(store('seeds.age'));
    bytes[bytes.length - 1] = (bytes[bytes.length - 1] ?? 0) ^ 1;
    writeFileSync(store('seeds.age'), bytes);
    only('opening', 'problem', /^the seed does not open: /);
  });

  test('pins: missing, damaged', () => {
    for (const damage of [
      () => {
        rmSync(at('etc/auxcred/scopes.json'));
      },
      () => {
        writeFileSync(at('etc/auxcred/scopes.json'), '{}');
      },
    ]) {
      damage();
      mends(only('pins', 'problem', /scopes.json is (?:missing|damaged)/), 1, { 'RECOVERY-KEY': recoveryKey });
    }
  });

  test('pins: damaged, and nothing but the ssh host key opens the seed', () => {
    auxcred('reseal', `--remove-recipient=${recipient}`);
    writeFileSync(at('etc/auxcred/scopes.json'), '{');
    const { stderr } = run(['unseal', `--root=${root}`]);
    assert.match(stderr, /scopes\.json is not JSON\n.*hint: restore it from a backup; auxcred reseal --identity=FILE/);
    assert.ok(!/seal --replace(?! --seed-file)/.test(stderr), 'another seed is no way to keep this one');
    const finding = findings().find(({ check }) => check === 'pins');
    assert.ok(finding);
    assert.ok(finding.mend.every((command) => !command.includes('RECOVERY-KEY')));
    mends(finding, 1, {}, ['recovery']);
  });

  test("pins: a store of somebody else's", () => {
    copyFileSync(store('seeds.age'), at('backup'));
    copyFileSync(at('etc/auxcred/scopes.json'), at('scopes'));
    auxcred('seal', '--replace', `--recipient=${recipient}`);
    copyFileSync(at('scopes'), at('etc/auxcred/scopes.json'));
    mends(only('pins', 'problem', /the seed of host\/web1 is not the one that this machine expects/), 0, {
      BACKUP: at('backup'),
    });
  });

  test('host-key: another, none', () => {
    copyFileSync(at('etc/ssh/ssh_host_ed25519_key'), at('backup'));
    rmSync(at('etc/ssh/ssh_host_ed25519_key'));
    mends(only('host-key', 'problem', /ssh_host_ed25519_key is missing/), 0, { BACKUP: at('backup') });
    rmSync(at('etc/ssh/ssh_host_ed25519_key'));
    spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', at('etc/ssh/ssh_host_ed25519_key')], {
      input: 'y\n',
    });
    mends(only('host-key', 'problem', /is not the key that the seed was sealed to/), 1, {
      'RECOVERY-KEY': recoveryKey,
    });
  });

  test('recovery', () => {
    auxcred('reseal', `--remove-recipient=${recipient}`);
    mends(only('recovery', 'note', /^no recovery recipient$/), 0, { 'age1...': recipient });
  });

  test('unbound', () => {
    writeFileSync(store('unbound'), '');
    only('unbound', 'warning', /not sealed natively yet/);
  });

  test('manifest: with errors, changed, never applied', () => {
    rmSync(at('etc/auxcred/rendered'));
    mends(only('manifest', 'warning', /^the manifest was never applied$/), 0);
    writeFileSync(at('etc/auxcred/secrets.d/bad.toml'), '[secret.x]\nkind = "hexx"\n');
    assert.equal(
      only('manifest', 'problem', /has 1 error$/).mend[0],
      commandLine('auxcred', 'check', `--root=${root}`),
    );
    writeFileSync(at('etc/auxcred/secrets.d/bad.toml'), '[secret.x]\nkind = "hex"\nunits = ["x.service"]\n');
    mends(only('manifest', 'warning', /changed since it was applied: x.service added/), 0);
  });

  test('snapshot: written by somebody else, of an older store', () => {
    writeFileSync(
      store('provisioned/releases.json'),
      readFileSync(store('provisioned/releases.json'), 'utf8').replace('web.service', 'bad.service'),
    );
    mends(only('snapshot', 'problem', /was not made with this machine's seed/), 0);
    copyFileSync(store('seeds.age'), at('old'));
    auxcred('reseal');
    copyFileSync(at('old'), store('seeds.age'));
    mends(only('snapshot', 'problem', /seeds.age has counter 1; counter 2 was in force/), 1);
  });

  test('stale: a period that is over, and a hook that has not run', () => {
    mkdirSync(at('bin'));
    copyFileSync('/bin/false', at('bin/false'));
    for (const hook of ['', 'hook = ["/bin/false"]\n']) {
      writeFileSync(at(manifest), `[secret.key]\nkind = "hex"\nrotate = "yearly"\n${hook}units = ["web.service"]\n`);
      rmSync(store('provisioned'));
      auxcredAt('2020-05-05 12:00:00', 'apply');
      const finding = only('stale', 'warning', /^key is not what it should be by now: period 2020 -> 20\d\d$/);
      assert.equal(finding.why?.includes('hook'), hook !== '');
      // Below another root no hook runs, so that finding stays.
      mends(finding, 0, {}, hook === '' ? [] : ['stale']);
    }
  });

  test('stale: a file that is newer than the active one', () => {
    spawnSync(process.execPath, [resolve('dist/auxcred.cjs'), 'put', '--force', `--root=${root}`, 'wifi'], {
      input: 'another',
    });
    mends(only('stale', 'warning', /^wifi is not what it should be by now: value$/), 0);
  });

  test('clock', () => {
    writeFileSync(at(manifest), '[secret.key]\nkind = "hex"\nrotate = "yearly"\nunits = ["web.service"]\n');
    auxcredAt('2094-05-05 12:00:00', 'apply');
    mends(only('clock', 'problem', /key is already in its period 2094$/), 1);
  });

  test('wanted: a fixed secret that is not there', () => {
    rmSync(store('fixed/host/web1/wifi.sealed'));
    const finding = only('wanted', 'problem', /there is no host\/web1\/wifi/);
    assert.equal(finding.mend[0], commandLine('auxcred', 'put', `--root=${root}`, 'host/web1/wifi'));
    mends(finding, 0);
  });

  test('older', () => {
    copyFileSync(store('fixed/host/web1/wifi.sealed'), at('old'));
    spawnSync(process.execPath, [resolve('dist/auxcred.cjs'), 'put', '--force', `--root=${root}`, 'wifi'], {
      input: 'another',
    });
    auxcred('provision');
    copyFileSync(at('old'), store('fixed/host/web1/wifi.sealed'));
    mends(only('older', 'problem', /the file of host\/web1\/wifi is older than the active one/), 0);
  });

  test('fixed: one that does not open, one that is not a fixed secret', () => {
    const bytes = readFileSync(store('fixed/host/web1/wifi.sealed'));
    bytes[70] = (bytes[70] ?? 0) ^ 1;
    writeFileSync(store('fixed/host/web1/wifi.sealed'), bytes);
    mends(only('fixed', 'problem', /host\/web1\/wifi does not open/), 0, {}, []);
    writeFileSync(store('fixed/host/web1/notes.txt'), '');
    mends(only('fixed', 'warning', /notes.txt is no fixed secret/), 0);
  });

  test('wanted: one whose name has spaces and quotes', () => {
    writeFileSync(
      at(manifest),
      `${readFileSync(at(manifest), 'utf8')}[secret.odd]\nkind = "fixed"\npath = "Bob's $HOME"\nunits = ["odd.service"]\n`,
    );
    const finding = findings().find(({ check }) => check === 'wanted');
    assert.ok(finding);
    mends(finding, 0, {}, ['manifest']);
  });

  test('fixed: many that do not open are one finding, with the way to restore all of them', () => {
    const names = Array.from({ length: 28 }, (_, i) => `token-${String(i).padStart(2, '0')}`);
    for (const name of names) auxcred('put', name);
    cpSync(store('fixed'), at('backup'), { recursive: true });
    for (const name of names) writeFileSync(store(`fixed/host/web1/${name}.sealed`), 'x');
    const finding = only('fixed', 'problem', /^28 fixed secrets do not open: host\/web1\/token-00, .* and 22 more$/);
    assert.equal(run(['doctor', `--root=${root}`]).stdout.split('\n').length, 5);
    mends(finding, 0, { BACKUP: at('backup') });
  });

  test('fixed, leftovers, access: several at once are one finding each', { skip: !isRoot }, () => {
    const { pid } = spawnSync('true');
    for (const name of ['b c', "d'e", '\x1b[31m']) writeFileSync(store(`fixed/host/web1/${name}`), '');
    for (const name of ['seeds.age', 'pending']) writeFileSync(store(`.${name}.${String(pid)}.new`), '');
    for (const name of ['releases.json', 'record.json', 'settled.json']) chmodSync(store(`provisioned/${name}`), 0o644);
    const all = findings();
    assert.deepEqual(
      all.map(({ check }) => check),
      ['access', 'access', 'leftovers', 'fixed'],
    );
    const printed = run(['doctor', `--root=${root}`]).stdout;
    assert.ok(!printed.includes('\x1b'), printed);
    for (const finding of all) spawnSync('sh', ['-c', finding.mend[0] ?? '']);
    assert.deepEqual(findings(), []);
  });

  test('recovery, seed: a machine that was pushed to is sent to the vault, not to paper', () => {
    auxcred('reseal', `--remove-recipient=${recipient}`);
    writeFileSync(store('pushed.json'), '{"fixed":[],"manifest":{},"unfinished":false,"version":1}\n', { mode: 0o600 });
    assert.deepEqual(findings(), []);
    writeFileSync(store('seeds.age'), 'age-encryption.org/v1\n');
    assert.deepEqual(only('seed', 'problem', /is damaged/).mend.slice(1), [
      commandLine('auxcred', 'reseal', `--root=${root}`, '--scopes=FILE-FROM-THE-VAULT'),
    ]);
  });

  test('hooks: one that is missing, and one that is not a program', () => {
    const declared = (name: string): string =>
      `[secret.${name}]\nhook = ["/opt/${name}"]\nunits = ["${name}.service"]\n`;
    writeFileSync(at(manifest), declared('gone') + declared('plain'));
    mkdirSync(at('opt'));
    writeFileSync(at('opt/plain'), '');
    auxcred('apply');
    only(
      'hooks',
      'warning',
      /^the hook of gone can't run: there is no \/opt\/gone, the hook of plain can't run: \/opt\/plain is not executable$/,
    );
    const { status, stdout } = run(['check', `--root=${root}`]);
    assert.equal(status, 0);
    assert.match(
      stdout,
      /web\.toml: warning: secret\.gone\.hook: there is no \/opt\/gone\n {4}the secret is unchanged until its hook can run\n/,
    );
    chmodSync(at('opt/plain'), 0o755);
    writeFileSync(at('opt/gone'), '', { mode: 0o755 });
    assert.deepEqual(findings(), []);
  });

  test('own-credential', () => {
    mkdirSync(at('etc/systemd/system/web.service.d'), { recursive: true });
    writeFileSync(
      at('etc/systemd/system/web.service.d/own.conf'),
      '[Service]\nSetCredential=other:x\nSetCredential=key:fallback\n',
    );
    mends(
      only(
        'own-credential',
        'warning',
        /own.conf has a value of its own for a credential of web.service: SetCredential=key$/,
      ),
      0,
      { '${EDITOR:-vi}': 'rm' },
    );
  });

  test('overrides: a file that replaces the drop-in, and one that cancels its lines', () => {
    mkdirSync(at('etc/systemd/system/web.service.d'), { recursive: true });
    symlinkSync('/dev/null', at('etc/systemd/system/web.service.d/50-auxcred.conf'));
    mends(
      only(
        'overrides',
        'problem',
        /web.service.d\/50-auxcred.conf takes the place of auxcred's drop-in of web.service$/,
      ),
      0,
    );
    writeFileSync(at('etc/systemd/system/web.service.d/90-local.conf'), '[Service]\nLoadCredential=\n');
    mends(only('overrides', 'problem', /90-local.conf takes LoadCredential\w*=key:\S+ of web.service away$/), 0, {
      '${EDITOR:-vi}': 'rm',
    });
    writeFileSync(at('etc/systemd/system/web.service.d/90-local.conf'), '[Service]\nLoadCredential=\n');
    assert.match(
      run(['apply', `--root=${root}`]).stderr,
      /warning: .+90-local.conf takes away what the drop-in gives web.service: LoadCredential\w*=key:\S+\n.*hint: auxcred doctor/,
    );
  });

  test('aliases: a unit that is declared under another name', () => {
    mkdirSync(at('etc/systemd/system'), { recursive: true });
    symlinkSync('/usr/lib/systemd/system/nginx.service', at('etc/systemd/system/web.service'));
    assert.equal(
      only('aliases', 'problem', /web.service is declared, and is an alias of nginx.service$/).mend[0],
      commandLine('auxcred', 'check', `--root=${root}`),
    );
    const { status, stdout } = run(['check', `--root=${root}`]);
    assert.equal(status, exitStatus['invalid-manifest']);
    assert.match(
      stdout,
      /error: secret\.key\.units: web\.service is an alias of nginx\.service, .*\n {4}units = \["nginx\.service"\]/,
    );
    assert.equal(run(['apply', `--root=${root}`]).status, exitStatus['invalid-manifest']);
  });

  test('links: in folders that others could redirect, and undeclared ones', { skip: !isRoot }, () => {
    const file = '/run/auxcred/files/token';
    writeFileSync(at('etc/passwd'), `${readFileSync(at('etc/passwd'), 'utf8')}bob:x:1000:1000::/home/bob:/bin/sh\n`);
    for (const folder of ['etc/apt.conf.d', 'home', 'home/bob', 'home/bob/app']) mkdirSync(at(folder));
    for (const folder of ['home/bob', 'home/bob/app']) chownSync(at(folder), 1000, 1000);
    const declared = readFileSync(at(manifest), 'utf8');
    writeFileSync(
      at(manifest),
      `${declared}[secret.token]\ndelivery = "file"\nowner = "bob"\nlink = "/home/bob/app/token.conf"\n`,
    );
    auxcred('apply');
    assert.deepEqual(findings(), []);
    // As an earlier version did.
    writeFileSync(store('links.json'), '["/home/bob/app/token.conf"]\n', { mode: 0o600 });
    symlinkSync(file, at('etc/apt.conf.d/token.conf'));
    mends(only('links', 'warning', /apt\.conf\.d\/token\.conf leads to a secret's file, and nothing declares it$/), 0);
    symlinkSync(file, at('etc/apt.conf.d/token.conf'));
    renameSync(at('home/bob/app'), at('home/bob/old'));
    symlinkSync('../../etc/apt.conf.d', at('home/bob/app'));
    mends(
      only(
        'links',
        'problem',
        /apt\.conf\.d\/token\.conf was made where others could lead it: .*home\/bob\/app is a symbolic link to \.\.\/\.\.\/etc\/apt\.conf\.d$/,
      ),
      0,
    );
    const { status, stdout } = run(['check', `--root=${root}`]);
    assert.equal(status, exitStatus['invalid-manifest']);
    assert.match(stdout, /error: secret\.token\.link: .+home\/bob\/app is a symbolic link to /);
  });

  test('node: the native file is missing', () => {
    copyFileSync('dist/auxcred.cjs', at('auxcred.cjs'));
    only('node', 'problem', /koffi has no native file/, { program: at('auxcred.cjs') });
  });

  test("sight: names what it can't read, and takes nothing for missing", { skip: !isRoot }, () => {
    chmodSync(root, 0o755);
    copyFileSync('dist/auxcred.cjs', at('auxcred.cjs'));
    copyFileSync('dist/koffi.node', at('koffi.node'));
    for (const file of ['auxcred.cjs', 'koffi.node']) chmodSync(at(file), 0o644);
    only('sight', 'note', /this user may not see .+\/var\/lib\/auxcred\//, { program: at('auxcred.cjs'), uid: 65534 });
    const { status, stdout } = run(['status', `--root=${root}`], { program: at('auxcred.cjs'), uid: 65534 });
    assert.equal(status, 0);
    assert.match(stdout, /^seed +not readable by this user$/m);
  });

  test('disk, swap: what is on a disk in the clear, by what the kernel says of devices', async () => {
    const table =
      'Filename\tType\tSize\tUsed\tPriority\n/dev/sda2 partition 1 0 -2\n/dev/zram0 partition 1 0 5\n/dev/dm-1 partition 1 0 -3\n/swap file 1 0 -4\n';
    assert.deepEqual(
      swapsOnDisk(table, (device) => device === '/dev/dm-1'),
      ['/dev/sda2', '/swap'],
    );
    assert.deepEqual(
      swapsOnDisk('Filename\tType\n', () => false),
      [],
    );
    // /sys/dev/block as for a volume on LUKS, one on a plain disk, and one on both.
    const device = (name: string, id: string, ...below: string[]): string => {
      mkdirSync(at(`sys/${name}/slaves`), { recursive: true });
      if (id !== '') {
        mkdirSync(at(`sys/${name}/dm`));
        writeFileSync(at(`sys/${name}/dm/uuid`), id);
      }
      for (const one of below) symlinkSync(at(`sys/${one}`), at(`sys/${name}/slaves/${one}`));
      return at(`sys/${name}`);
    };
    const sight = new Sight();
    const [disk, luks] = [device('sda', ''), device('dm-0', 'CRYPT-LUKS2-0-root')];
    assert.deepEqual(
      [
        disk,
        luks,
        device('dm-1', 'LVM-a', 'dm-0'),
        device('dm-2', 'LVM-b', 'sda'),
        device('dm-3', 'LVM-c', 'dm-0', 'sda'),
        at('sys/none'),
      ].map((path) => isEncryptedDevice(sight, path)),
      [false, true, true, false, false, undefined],
    );

    const health = await lookAt(
      root,
      (paths) => ({ keys: { ssh: paths.sshHostKey, age: undefined }, device: undefined }),
      { open: true },
    );
    const system = {
      broker: { units: [], lastRefusal: undefined },
      units: [],
      rendered: { hasGenerator: true, outdated: [] },
      swaps: ['/dev/sda2'],
      onEncryptedDisk: false,
    };
    const notes = findingsOf({ ...health, system }).filter(({ level }) => level === 'note');
    assert.deepEqual(
      notes.map(({ check, mend }) => [check, mend.length]),
      [
        ['disk', 1],
        ['swap', 1],
      ],
    );
    assert.deepEqual(
      findingsOf({ ...health, platform: { ...health.platform, node: '20.18.0', nodeIsTooOld: true } })
        .filter(({ level }) => level !== 'ok')
        .map(({ check }) => check),
      ['node'],
    );
  });

  test('several things at once', () => {
    rmSync(store('seeds.age'));
    rmSync(at('etc/auxcred/scopes.json'));
    writeFileSync(at('etc/group'), '');
    writeFileSync(at(manifest), 'nonsense');
    assert.deepEqual(
      findings().map(({ check }) => check),
      ['account', 'seed', 'manifest'],
    );
    rmSync(at('etc'), { recursive: true });
    rmSync(at('var'), { recursive: true });
    assert.deepEqual(
      findings().map(({ check }) => check),
      ['account', 'seed'],
    );
    const { status, stdout } = run(['status', `--root=${root}`]);
    assert.equal(status, exitStatus.unwell);
    assert.match(stdout, /^seed +not sealed$/m);
  });

  describe('with a TPM', () => {
    let tpm: Swtpm;
    before(async () => {
      tpm = await startSwtpm({});
    });
    after(async () => {
      await tpm.stop();
    });
    beforeEach(() => {
      auxcred('seal', '--replace', '--with-key=tpm2', `--tpm2-device=${tpm.device}`, `--recipient=${recipient}`);
      auxcred('rm', '--force', 'wifi');
      auxcred('put', 'wifi');
      auxcred('apply');
    });

    test('pcrs: none is bound', () => {
      only('pcrs', 'note', /no PCR is bound/);
      assert.match(
        auxcred('status'),
        /^tpm +IBM SW TPM, firmware [0-9.]+, at swtpm:path=\S+, the one that the seed is sealed to$/m,
      );
    });

    test('unbound: PCRs that wait for the first boot', () => {
      auxcred('reseal', '--tpm2-pcrs=7');
      only('unbound', 'warning', /^the PCRs that were asked for are not bound yet$/);
      assert.match(
        run(['status', `--root=${root}`]).stdout,
        /^seed +sealed to tpm2, PCRs 7 to be bound at the first boot, 1 recovery recipient$/m,
      );
    });

    test('tpm: locked out', async () => {
      const guessed = await startSwtpm({});
      try {
        guessed.tool(
          'tpm2_dictionarylockout',
          '--setup-parameters',
          '--max-tries=1',
          '--recovery-time=1000',
          '--lockout-recovery-time=1000',
        );
        guessed.tool(
          'tpm2_createprimary',
          '--hierarchy=o',
          '--key-auth=right',
          '--attributes=fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|decrypt',
          '--key-context=key',
          '-Q',
        );
        guessed.tool('tpm2_flushcontext', '--transient-object');
        assert.throws(() =>
          guessed.tool(
            'tpm2_create',
            '--parent-context=key',
            '--parent-auth=wrong',
            '--public=public',
            '--private=private',
          ),
        );
        guessed.tool('tpm2_flushcontext', '--transient-object');
        auxcred('reseal', `--tpm2-device=${guessed.device}`, `--identity=${recoveryKey}`);
        const all = findings();
        assert.deepEqual(
          all.map(({ check, level }) => `${level} ${check}`),
          ['warning tpm', 'note pcrs'],
        );
        assert.match(all[0]?.message ?? '', /^the TPM is in dictionary attack lockout$/);
        assert.match(
          run(['status', `--root=${root}`]).stdout,
          /^tpm .*locked out, the one that the seed is sealed to$/m,
        );
        const [program = '', ...args] = (all[0]?.mend[0] ?? '').split(' ');
        guessed.tool(program, ...args);
        only('pcrs', 'note', /no PCR is bound/);
      } finally {
        await guessed.stop();
      }
    });

    test('counter: none is pinned', () => {
      auxcred('reseal', '--tpm2-pcrs=23');
      const pins: { tpm2Counter?: unknown } = JSON.parse(readFileSync(at('etc/auxcred/scopes.json'), 'utf8'));
      assert.notEqual(pins.tpm2Counter, undefined);
      delete pins.tpm2Counter;
      writeFileSync(at('etc/auxcred/scopes.json'), JSON.stringify(pins));
      const found = findings().find(({ check }) => check === 'counter');
      assert.match(found?.message ?? '', /no counter of the TPM remembers/);
      auxcred('reseal');
      assert.ok(findings().every(({ check }) => check !== 'counter'));
    });

    test('tpm: another one, and none', async () => {
      await tpm.stop();
      const gone = only('tpm', 'problem', /^the TPM at \S+ can't be opened: IO failure$/);
      const { stdout } = run(['status', `--root=${root}`]);
      assert.match(stdout, /^tpm +the TPM at \S+ can't be opened: IO failure$/m);
      assert.match(stdout, /^active {4}unknown while the seed is closed; manifest and drop-ins as applied$/m);
      assert.ok(
        gone.mend.every((command) => !command.includes('reseal') || command.includes('--with-key=host')),
        gone.mend.join('\n'),
      );
      const copy = mkdtempSync(join(tmpdir(), 'sealed to a TPM-'));
      cpSync(root, copy, { recursive: true, verbatimSymlinks: true });
      try {
        mends(gone, 0, { 'RECOVERY-KEY': recoveryKey });
      } finally {
        rmSync(root, { recursive: true });
        cpSync(copy, root, { recursive: true, verbatimSymlinks: true });
        rmSync(copy, { recursive: true });
      }
      renameSync(store('seeds.age'), at('aside'));
      const lost = findings().find(({ check }) => check === 'seed');
      assert.ok(
        lost?.mend.every((command) => !command.includes('reseal') || command.includes('--with-key=host')),
        lost?.mend.join('\n'),
      );
      renameSync(at('aside'), store('seeds.age'));
      tpm = await startSwtpm({});
      const other = { environment: { AUXCRED_TCTI: tpm.device } };
      const all = findings(other);
      assert.deepEqual(
        all.map(({ check, level }) => `${level} ${check}`),
        ['problem tpm', 'note pcrs'],
      );
      assert.match(all[0]?.message ?? '', /another TPM than the seed was sealed to/);
      const { status } = run(['reseal', `--root=${root}`, `--tpm2-device=${tpm.device}`, `--identity=${recoveryKey}`]);
      assert.equal(status, 0);
      only('pcrs', 'note', /no PCR is bound/);
    });
  });
});

describe('status', () => {
  test('shows the state at a glance', () => {
    const { status, stdout } = run(['status', `--root=${root}`]);
    assert.equal(status, 0);
    assert.match(
      stdout,
      /^seed {6}sealed to host, 1 recovery recipient\n {10}opens with ssh host key in \d+ ms: host\/web1\nactive {4}since \d{4}-\d\d-\d\d \d\d:\d\dZ: 2 credentials for 2 units; manifest and drop-ins as applied\nunits {5}2 units declared\nrotation {2}no secret rotates\nall is well\n$/,
    );
  });

  test('does not open the seed with --no-open', () => {
    assert.match(auxcred('status', '--no-open'), /^seed +sealed to host, 1 recovery recipient; not opened$/m);
  });

  test('says what is stale and what comes next', () => {
    writeFileSync(at(manifest), '[secret.key]\nkind = "hex"\nrotate = "yearly"\nunits = ["web.service"]\n');
    auxcredAt('2020-05-05 12:00:00', 'apply');
    const { status, stdout } = run(['status', `--root=${root}`]);
    assert.equal(status, exitStatus.unwell);
    assert.match(
      stdout,
      /^rotation {2}next \d{4}-01-01 00:00Z: key\n {10}stale: key \(period 2020 -> \d{4}\)\n1 warning: auxcred doctor says what to do\n/m,
    );
  });

  test('a secret with a fixed period does not change by itself', () => {
    writeFileSync(
      at(manifest),
      '[secret.key]\nkind = "hex"\nrotate = "yearly"\nperiod = "2020"\nunits = ["web.service"]\n',
    );
    auxcred('apply');
    assert.match(auxcred('status'), /^rotation {2}no secret rotates$/m);
  });

  test('as JSON has what formats.md says', () => {
    const report: unknown = JSON.parse(auxcred('status', '--json'));
    assert.ok(typeof report === 'object' && report !== null);
    const documentation = readFileSync('docs/formats.md', 'utf8');
    for (const key of Object.keys(report)) assert.ok(documentation.includes(`| \`${key}\` |`), key);
  });

  test('has colors only on a terminal, and none with NO_COLOR', () => {
    const inTerminal = (environment: Record<string, string>): string =>
      spawnSync(
        'script',
        ['-qec', commandLine(process.execPath, 'dist/auxcred.cjs', 'status', `--root=${root}`), '/dev/null'],
        { encoding: 'utf8', env: { PATH: process.env['PATH'], TERM: 'xterm', ...environment } },
      ).stdout;
    assert.ok(inTerminal({}).includes('\x1b[32mall is well\x1b[0m'));
    for (const environment of [{ NO_COLOR: '1' }, { TERM: 'dumb' }])
      assert.ok(!inTerminal(environment).includes('\x1b['));
    assert.ok(!auxcred('status').includes('\x1b['));
  });
});
