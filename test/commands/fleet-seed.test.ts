import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { encodeBech32 } from '../../src/age/bech32.ts';
import { exitStatus } from '../../src/failure.ts';
import { at, auxcred, environment, fails, recipientOf, typed, useVault, works } from './vault.ts';

useVault();

/** An age plugin that turns every bit of the file key over: the protocol of C2SP's age-plugin, without a device. */
const agePlugin = `#!${process.execPath}
const { readSync, writeSync } = require('node:fs');
let left = '';
const line = () => {
  for (;;) {
    const end = left.indexOf('\\n');
    if (end !== -1) { const found = left.slice(0, end); left = left.slice(end + 1); return found; }
    const chunk = Buffer.alloc(4096);
    left += chunk.toString('latin1', 0, readSync(0, chunk));
  }
};
const stanza = () => {
  const [, type, ...args] = line().split(' ');
  let body = '', more;
  do { more = line(); body += more; } while (more.length === 64);
  return { type, args, body: Buffer.from(body, 'base64') };
};
const base64 = (bytes) => bytes.toString('base64').replace(/=+$/, '');
const send = (head, body = Buffer.alloc(0)) => writeSync(1, '-> ' + head + '\\n' + base64(body) + '\\n');
const turned = (key) => key.map((byte) => byte ^ 255);
const received = [];
for (let next = stanza(); next.type !== 'done'; next = stanza()) received.push(next);
const isMine = ({ type, args }) =>
  type === 'wrap-file-key' || (type === 'recipient-stanza' && args[1] === 'auxtest');
const mine = received.filter(isMine);
for (const { type, body } of mine) {
  if (type === 'wrap-file-key') send('recipient-stanza 0 auxtest', turned(body));
  else send('file-key 0', turned(body));
  stanza();
}
send('done');
`;

describe('git', () => {
  const git = (...args: string[]): string =>
    spawnSync('git', ['-C', at('vault'), ...args], { encoding: 'utf8', env: environment() }).stdout;

  test('commits every change, and never the fleet seed', () => {
    rmSync(at('vault'), { recursive: true });
    works([
      'init',
      '--git',
      `--recipient=${spawnSync('age-keygen', ['-y', at('identity')], { encoding: 'utf8' }).stdout.trim()}`,
    ]);
    writeFileSync(at('vault/vault.toml'), '[host.web1]\n');
    works(['put', 'host/web1/a'], 'x');
    works(['put', 'host/web1/a', '--force'], 'y');
    works(['generate', 'host/web1/b']);
    works(['mv', 'host/web1/a', 'host/web1/c']);
    works(['rm', '--force', 'host/web1/b']);
    works(['rekey', '--next', 'host/web1']);
    assert.deepEqual(git('log', '--format=%s', '--reverse').trim().split('\n'), [
      'Make the vault',
      'Add host/web1/a',
      'Change host/web1/a',
      'Generate host/web1/b',
      'Move host/web1/a to host/web1/c',
      'Remove host/web1/b',
      'Rekey host/web1',
    ]);
    assert.deepEqual(git('ls-files').trim().split('\n'), ['.gitignore', 'fixed/host/web1/c.sealed', 'vault.toml']);
    assert.equal(git('status', '--porcelain'), '');
  });

  test('that fails loses only the commit; git = false makes none', () => {
    mkdirSync(at('vault/.git'));
    const { status, stderr } = auxcred(['put', 'host/web1/a'], 'x');
    assert.equal(status, 0);
    assert.match(stderr, /warning: the change was made, but git did not commit it/);
    assert.equal(works(['get', 'host/web1/a']), 'x');
    rmSync(at('vault/.git'), { recursive: true });
    git('init', '-q');
    writeFileSync(at('vault/vault.toml'), 'git = false\n[host.web1]\n');
    works(['put', 'host/web1/b'], 'x');
    assert.equal(git('log', '--format=%s'), '');
  });
});

describe('a commit that git refuses', () => {
  const git = (vault: string, ...args: string[]): string => {
    const { status, stdout, stderr } = spawnSync('git', ['-C', at(vault), ...args], {
      encoding: 'utf8',
      env: environment(),
    });
    assert.equal(status, 0, stderr);
    return stdout;
  };
  const started = (vault = 'vault'): void => {
    mkdirSync(at(vault), { recursive: true });
    git(vault, 'init', '-q', '-b', 'main');
    git(vault, 'add', '-A');
    git(vault, 'commit', '-q', '--allow-empty', '-m', 'Start');
  };
  const put = (more: NodeJS.ProcessEnv = {}): { hint: string; stderr: string } => {
    const { status, stderr } = auxcred(['put', '--force', 'host/web1/a'], 'x', more);
    assert.equal(status, 0, stderr);
    return { hint: /^auxcred: hint: (.*)$/m.exec(stderr)?.[1] ?? '', stderr };
  };
  const runs = (command: string): void => {
    const { status, stderr } = spawnSync('sh', ['-c', command], {
      encoding: 'utf8',
      env: { ...environment(), GIT_EDITOR: 'echo Later >' },
    });
    assert.equal(status, 0, stderr);
  };

  test('is made by the command of the hint, once its reason is gone', () => {
    started();
    const hook = at('vault/.git/hooks/pre-commit');
    writeFileSync(hook, '#!/bin/sh\necho "not on a Friday" >&2\nexit 1\n', { mode: 0o755 });
    const refused = put();
    assert.match(refused.stderr, /warning: the change was made, but git did not commit it: not on a Friday\n/);
    rmSync(hook);
    runs(refused.hint);
    assert.equal(git('vault', 'status', '--porcelain'), '');

    writeFileSync(at('vault/.git/index.lock'), '');
    const locked = put();
    assert.match(locked.stderr, /git did not commit it: fatal: Unable to create '.*index\.lock': File exists\.\n/);
    rmSync(at('vault/.git/index.lock'));
    runs(locked.hint);
    assert.equal(git('vault', 'status', '--porcelain'), '');
  });

  test('without git says that git is missing', () => {
    started();
    mkdirSync(at('empty'));
    const { hint, stderr } = put({ PATH: at('empty') });
    assert.match(stderr, /git did not commit it: git can't be run: there is no such program\n/);
    assert.equal(hint, 'apt install git');
  });

  test('is not made in the repository whose hook runs auxcred', () => {
    started();
    started('other');
    const before = git('other', 'rev-parse', 'HEAD');
    const { stderr } = put({ GIT_DIR: at('other/.git'), GIT_INDEX_FILE: at('other/.git/index') });
    assert.equal(stderr, 'auxcred: put host/web1/a\n');
    assert.equal(git('other', 'rev-parse', 'HEAD'), before);
    assert.equal(git('vault', 'log', '-1', '--format=%s'), 'Add host/web1/a\n');
  });

  test('is on no branch if HEAD is detached, which is said', () => {
    started();
    git('vault', 'checkout', '-q', '--detach');
    const { hint, stderr } = put();
    assert.match(stderr, /warning: the change was made, but no branch has its commit, since HEAD is detached\n/);
    runs(hint.replace(/ gives it one;.*/, ''));
    assert.equal(git('vault', 'symbolic-ref', '--short', 'HEAD'), 'NAME\n');
    assert.equal(git('vault', 'log', '-1', '--format=%s'), 'Add host/web1/a\n');
  });
});

describe('a merge of two operators', () => {
  const git = (vault: string, ...args: string[]): string =>
    spawnSync('git', ['-C', at(vault), ...args], { encoding: 'utf8', env: environment() }).stdout;
  /** A second clone in which the same things changed, merged into the vault. */
  const merge = (change: (vault: string) => void): void => {
    git('vault', 'init', '-q', '-b', 'main');
    works(['put', 'host/web1/a'], 'x');
    works(['put', 'group/db/b'], 'x');
    git('vault', 'add', '-A');
    git('vault', 'commit', '-q', '-m', 'Start');
    git('.', 'clone', '-q', at('vault'), 'second');
    copyFileSync(at('vault/seed.age'), at('second/seed.age'));
    for (const vault of ['vault', 'second']) {
      change(vault);
      git(vault, 'add', '-A');
      git(vault, 'commit', '-q', '-m', 'Change it');
    }
    git('vault', 'pull', '-q', '--no-rebase', at('second'), 'main');
  };

  test('that conflicts is not settled by the next change', () => {
    merge((vault) => {
      for (const name of ['host/web1/a', 'group/db/b'])
        assert.equal(auxcred(['put', '--force', name], vault, { AUXCRED_VAULT: at(vault) }).status, 0);
    });
    const conflicts = 'UU fixed/group/db/b.sealed\nUU fixed/host/web1/a.sealed\n';
    assert.equal(git('vault', 'status', '--porcelain'), conflicts);
    const { status, stderr } = auxcred(['put', '--force', 'host/web1/a'], 'settled');
    assert.equal(status, 0);
    assert.match(
      stderr,
      /git did not commit it: a merge left conflicts in fixed\/group\/db\/b\.sealed, fixed\/host\/web1\/a\.sealed\n/,
    );
    assert.equal(git('vault', 'status', '--porcelain'), conflicts);
    // One of the two values lies there, and nobody has chosen it.
    for (const args of [
      ['push', 'web1'],
      ['copy', 'web2', '--no-seeds'],
    ])
      fails(args, exitStatus.refused, /a merge left conflicts in fixed\/.*hint: in \S+: git checkout --ours FILE/s);
    git('vault', 'checkout', '-q', '--theirs', 'fixed/group/db/b.sealed');
    git('vault', 'add', '-A');
    git('vault', 'commit', '-q', '-m', 'Merge');
    assert.equal(works(['get', 'host/web1/a']), 'settled');
    assert.equal(works(['get', 'group/db/b']), 'second');
  });

  test('that conflicts in vault.toml or an enrollment is told from a mistake in it', () => {
    const enrolled = 'enrolled/web1.json';
    for (const path of ['vault.toml', enrolled]) {
      rmSync(at('vault/.git'), { recursive: true, force: true });
      rmSync(at('second'), { recursive: true, force: true });
      mkdirSync(at('vault/enrolled'), { recursive: true });
      const before = readFileSync(at('vault/vault.toml'), 'utf8');
      rmSync(at('vault/fixed'), { recursive: true, force: true });
      merge((vault) => {
        mkdirSync(at(`${vault}/enrolled`), { recursive: true });
        writeFileSync(at(`${vault}/${path}`), `${path === enrolled ? '' : before}# by ${vault}\n`);
      });
      fails(
        ['enroll', 'web1'],
        exitStatus.malformed,
        /(?:vault\.toml:6|web1\.json:1): a merge left a conflict here\nauxcred: hint: keep one side, or both/,
      );
      git('vault', 'merge', '--abort');
      writeFileSync(at('vault/vault.toml'), before);
    }
  });
});

describe('a vault without its fleet seed, such as a clone', () => {
  const init = (...args: string[]): string[] => ['init', `--recipient=${recipientOf('identity')}`, ...args];

  test('gets no other one', () => {
    works(['put', 'host/web1/a'], 'x');
    renameSync(at('vault/seed.age'), at('kept'));
    fails(['verify'], exitStatus['not-found'], /there is no fleet seed at .*\nauxcred: hint: copy seed\.age from /);
    fails(init(), exitStatus.refused, /has fixed secrets or hosts of a fleet seed already.*\n.*copy seed\.age from /);
    const words = works([...init('--print-words'), `--vault=${at('other')}`]);
    fails(init('--from-words'), exitStatus.refused, /no secret in .* under the fleet seed of these words/, words);
    assert.equal(existsSync(at('vault/seed.age')), false);
    renameSync(at('kept'), at('vault/seed.age'));
    works(['verify']);
  });

  test('is not made without the history that was asked for', () => {
    const call = [...init('--git'), `--vault=${at('other')}`];
    const { status, stderr } = auxcred(call, '', { PATH: at('bin') });
    assert.equal(status, exitStatus['not-found'], stderr);
    assert.match(stderr, /^auxcred: git can't be run, so nothing was created: there is no such program\n/);
    assert.equal(existsSync(at('other')), false);
  });

  test('takes it from its words, in a later epoch too', () => {
    rmSync(at('vault'), { recursive: true });
    const words = works(init('--print-words'));
    writeFileSync(at('vault/vault.toml'), '[host.web1]\n');
    works(['put', 'host/web1/a'], 'x');
    writeFileSync(at('vault/vault.toml'), '[host.web1]\nepoch = 2\n');
    rmSync(at('vault/seed.age'));
    works(init('--from-words'), words);
    works(['rekey']);
    assert.equal(works(['get', 'host/web1/a']), 'x');
  });
});

describe('the fleet seed', () => {
  const newKey = (name: string): string => {
    spawnSync('age-keygen', ['-o', at(name)]);
    return spawnSync('age-keygen', ['-y', at(name)], { encoding: 'utf8' }).stdout.trim();
  };

  test('is re-encrypted to other recipients, and stays the same seed', () => {
    works(['put', 'host/web1/a'], 'x');
    const scopes = works(['scopes', 'web1']);
    const [mine, theirs] = [newKey('mine'), newKey('theirs')];
    fails(
      ['rewrap', `--recipient=${theirs}`],
      exitStatus['no-recipient'],
      /none of the available keys opens the new file, so nothing was changed/,
    );
    assert.equal(works(['scopes', 'web1']), scopes);
    works([
      'rewrap',
      `--recipient=${theirs}`,
      `--recipient=${mine}`,
      `--identity=${at('identity')}`,
      `--identity=${at('mine')}`,
    ]);
    for (const identity of ['mine', 'theirs'])
      assert.equal(auxcred(['scopes', 'web1'], '', { AUXCRED_IDENTITY: at(identity) }).stdout, scopes);
    assert.equal(auxcred(['scopes', 'web1']).status, exitStatus['no-recipient']);
    assert.equal(auxcred(['get', 'host/web1/a'], '', { AUXCRED_IDENTITY: at('mine') }).stdout, 'x');
  });

  test('is encrypted to an ssh key, which is named by its fingerprint', () => {
    spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', at('second')]);
    const key = readFileSync(at('second.pub'), 'utf8').trim();
    const { stderr } = auxcred(['rewrap', `--recipient=${recipientOf('identity')}`, `--recipient=${key}`]);
    const shown = spawnSync('ssh-keygen', ['-lf', at('second.pub')], { encoding: 'utf8' }).stdout.split(' ')[1] ?? '';
    assert.ok(stderr.includes(`ssh-ed25519 ${shown} now;`), stderr);
    assert.equal(auxcred(['verify'], '', { AUXCRED_IDENTITY: at('second') }).status, 0);
  });

  test('is encrypted to a plugin and other recipients, by the age program', () => {
    mkdirSync(at('bin'));
    writeFileSync(at('bin/age-plugin-auxtest'), agePlugin, { mode: 0o755 });
    const path = `${at('bin')}:${process.env['PATH'] ?? ''}`;
    const [recipient = '', identity = ''] = ['age1auxtest', 'age-plugin-auxtest-'].map((prefix) =>
      Buffer.from(encodeBech32(prefix, new Uint8Array(32).fill(1))).toString(),
    );
    writeFileSync(at('plugged'), `# a key that never leaves its device\n${identity.toUpperCase()}\n`);
    const scopes = works(['scopes', 'web1']);
    const said = auxcred(['rewrap', `--recipient=${recipient}`, `--recipient=${newKey('mine')}`], '', {
      PATH: path,
      AUXCRED_IDENTITY: at('plugged'),
    });
    assert.equal(said.status, exitStatus['no-recipient'], said.stderr);
    const wrapped = auxcred(
      [
        'rewrap',
        `--recipient=${recipient}`,
        `--recipient=${newKey('mine')}`,
        `--identity=${at('identity')}`,
        `--identity=${at('plugged')}`,
      ],
      '',
      { PATH: path },
    );
    assert.equal(wrapped.status, 0, wrapped.stderr);
    assert.match(readFileSync(at('vault/seed.age'), 'latin1'), /\n-> auxtest\n(?:.*\n)*-> X25519 /);
    for (const key of ['plugged', 'mine'])
      assert.equal(auxcred(['scopes', 'web1'], '', { PATH: path, AUXCRED_IDENTITY: at(key) }).stdout, scopes);
  });

  test('that is damaged is said to be damaged, and not that no key opens it', () => {
    const file = at('vault/seed.age');
    const whole = readFileSync(file);
    for (const damaged of [
      whole.subarray(0, -1),
      whole.subarray(0, 30),
      Buffer.from(whole.map((byte, i) => (i === whole.length - 20 ? byte ^ 1 : byte))),
      Buffer.alloc(0),
    ]) {
      writeFileSync(file, damaged);
      const { status, stderr } = auxcred(['scopes', 'web1'], '', { AUXCRED_IDENTITY: at('identity') });
      assert.equal(status, exitStatus.malformed, stderr);
      assert.match(stderr, /vault\/seed\.age is damaged: .*\n.*restore it from a backup/);
    }
    writeFileSync(file, whole);
  });

  test('is re-encrypted to a passphrase, and back', () => {
    const scopes = works(['scopes', 'web1']);
    writeFileSync(at('passphrase'), '\n');
    const empty = auxcred(['rewrap', `--passphrase-file=${at('passphrase')}`], '', {
      AUXCRED_IDENTITY: at('identity'),
    });
    assert.equal(empty.status, exitStatus.usage);
    assert.match(empty.stderr, /^auxcred: the passphrase in .*\/passphrase is empty\n/);
    writeFileSync(at('passphrase'), 'correct horse\n');
    works(['rewrap', `--passphrase-file=${at('passphrase')}`]);
    assert.equal(typed(['scopes', 'web1'], 'wrong\n').status, exitStatus['no-recipient']);
    const back = typed(['rewrap', `--recipient=${newKey('new')}`, '--force'], 'correct horse\n');
    assert.equal(back.status, 0, back.stdout);
    assert.equal(auxcred(['scopes', 'web1'], '', { AUXCRED_IDENTITY: at('new') }).stdout, scopes);
  });
});
