import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { describe, test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import { commandLine } from '../../src/system/shell.ts';
import {
  at,
  auxcred,
  checks,
  findings,
  fixes,
  isRoot,
  manifest,
  only,
  rootOption,
  run,
  soundSystem,
  store,
} from './sound-system.ts';

soundSystem();

describe('doctor', () => {
  test('finds nothing if all is well, and says so', () => {
    assert.deepEqual(findings(), []);
    const { status, stdout, stderr } = run(['doctor']);
    assert.deepEqual([status, stdout], [0, '']);
    assert.match(stderr, /^auxcred: (\d+) of \1 checks passed\n$/);
    const all = auxcred('doctor', '--all');
    assert.match(all, /^ok: the seed opens with ssh host key in \d+ ms$/m);
    assert.match(all, /^ok: 2 credentials for 2 units are active$/m);
  });

  test('counts one credential of one unit', () => {
    writeFileSync(at(manifest), '[secret.only]\nkind = "hex"\nunits = ["web.service"]\n');
    auxcred('apply');
    assert.match(run(['doctor', '--all']).stdout, /^ok: 1 credential for 1 unit is active$/m);
  });

  test('prints what is wrong, why, and the command', () => {
    rmSync(store('provisioned'));
    const { status, stdout, stderr } = run(['doctor']);
    assert.equal(status, exitStatus.unwell);
    assert.equal(
      stdout,
      'problem: nothing is active yet [snapshot]\n    declared units get no secret\n' +
        `    $ ${commandLine('auxcred', 'apply', rootOption())}\n`,
    );
    assert.match(stderr, /checks passed; 1 problem\n$/);
  });

  test('account', () => {
    copyFileSync(at('etc/group'), at('backup'));
    for (const file of ['group', 'passwd']) {
      writeFileSync(at(`etc/${file}`), 'root:x:0:0:\n');
      assert.equal(
        only('account', 'problem', new RegExp(file === 'group' ? 'no group auxcred' : 'no user auxcred')).mend[0],
        commandLine('systemd-sysusers', rootOption(), 'auxcred.conf'),
      );
      copyFileSync(at('backup'), at('etc/group'));
    }
  });

  test('access: the seeds readable by all, the pins writable by all', { skip: !isRoot }, () => {
    for (const [path, mode] of [
      [store('seeds.age'), 0o644],
      [at('etc/auxcred/scopes.json'), 0o666],
      [store('fixed'), 0o755],
      [store('generations'), 0o777],
    ] as const) {
      chmodSync(path, mode);
      fixes(
        only('access', 'problem', new RegExp(`${path} is 0:0 0${mode.toString(8)}, not root:(?:auxcred|root) `)),
        0,
      );
    }
  });

  test('access: whoever can write to the configuration can become root', { skip: !isRoot }, () => {
    for (const path of [at('etc/auxcred'), at('etc/auxcred/secrets.d')]) {
      chownSync(path, 12345, 0);
      fixes(only('access', 'problem', new RegExp(`${path} is 12345:0 0755, not root:root 0755`)), 0);
      chmodSync(path, 0o775);
      fixes(only('access', 'problem', new RegExp(`${path} is 0:0 0775, not root:root 0755`)), 0);
    }
    const [file = ''] = readdirSync(at('etc/auxcred/secrets.d'));
    chmodSync(at(`etc/auxcred/secrets.d/${file}`), 0o666);
    fixes(only('access', 'problem', new RegExp(`${file} is 0:0 0666, not root:root 0644`)), 0);
    chmodSync(at('etc/auxcred/secrets.d'), 0o700);
    assert.deepEqual(findings(), []);
  });

  test('broker-access: what the broker needs to open the seed, and no unit file gives it', () => {
    const dropIn = at('etc/systemd/system/auxcred.service.d/50-auxcred-seal.conf');
    mkdirSync(at('usr/lib/systemd/system'), { recursive: true });
    writeFileSync(at('usr/lib/systemd/system/auxcred.service'), '[Service]\nExecStart=/bin/true\n');
    assert.deepEqual(findings(), []);
    const before = readFileSync(dropIn, 'utf8');
    rmSync(dropIn);
    const lost = only('broker-access', 'problem', /lacks LoadCredential=ssh-host-key:/);
    // An administrator's own file gives as much.
    writeFileSync(`${dropIn}.own.conf`, before);
    assert.deepEqual(findings(), []);
    auxcred('apply');
    assert.equal(existsSync(dropIn), false);
    rmSync(`${dropIn}.own.conf`);
    fixes(lost, 0);
    assert.equal(readFileSync(dropIn, 'utf8'), before);
    writeFileSync(dropIn, '[Service]\nNice=1\n');
    auxcred('apply');
    assert.match(readFileSync(dropIn, 'utf8'), /^Nice=1$/m, 'it adds, and removes nothing');
    assert.deepEqual(findings(), []);
  });

  test('leftovers', () => {
    const leftover = store(`.seeds.age.${String(spawnSync('true').pid)}.new`);
    writeFileSync(leftover, '');
    fixes(only('leftovers', 'warning', /was being written/), 0);
    assert.ok(!existsSync(leftover));
    // A file that is being written right now is none.
    writeFileSync(store(`.seeds.age.${String(process.pid)}.new`), '');
    assert.deepEqual(findings(), []);
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
    const printed = run(['doctor']).stdout;
    assert.ok(!printed.includes('\x1b'), printed);
    assert.match(printed, /^problem: .+\/record\.json, .+\/settled\.json are not root:root 0600 \[access\]$/m);
    for (const finding of all) spawnSync('sh', ['-c', finding.mend[0] ?? '']);
    assert.deepEqual(findings(), []);
  });

  const copyProgram = (): void => {
    copyFileSync('dist/auxcred.cjs', at('auxcred.cjs'));
    cpSync('dist/parts', at('parts'), { recursive: true });
  };

  test('node: the native file is missing', () => {
    copyProgram();
    only('node', 'problem', /koffi has no native file/, { program: at('auxcred.cjs') });
  });

  test("sight: says what it can't read, and takes nothing for missing", { skip: !isRoot }, () => {
    chmodSync(at(''), 0o755);
    copyProgram();
    copyFileSync('dist/koffi.node', at('koffi.node'));
    for (const file of ['auxcred.cjs', 'koffi.node']) chmodSync(at(file), 0o644);
    only('sight', 'note', /this user can't read .+\/var\/lib\/auxcred\//, { program: at('auxcred.cjs'), uid: 65534 });
    const { status, stdout } = run(['status'], { program: at('auxcred.cjs'), uid: 65534 });
    assert.equal(status, 0);
    assert.match(stdout, /^seed +not readable by this user$/m);
  });

  test('several things at once', () => {
    rmSync(store('seeds.age'));
    rmSync(at('etc/auxcred/scopes.json'));
    writeFileSync(at('etc/group'), '');
    writeFileSync(at(manifest), 'nonsense');
    assert.deepEqual(checks(), ['account', 'seed', 'manifest']);
    rmSync(at('etc'), { recursive: true });
    rmSync(at('var'), { recursive: true });
    assert.deepEqual(checks(), ['account', 'seed']);
    const { status, stdout } = run(['status']);
    assert.equal(status, exitStatus.unwell);
    assert.match(stdout, /^seed +not sealed$/m);
  });
});
