/** `auxcred gokey`, compared with the program that runs here. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { lstatSync, readFileSync, statSync, symlinkSync } from 'node:fs';
import { describe, test } from 'node:test';
import * as cli from '../cli.ts';
import { newGokey } from './programs.ts';
import { at, file, sealedSeed, useFolder } from './seed-files.ts';

useFolder();

describe('auxcred gokey', () => {
  const environment = (more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv => ({ PATH: process.env['PATH'], ...more });
  const run = (args: readonly string[], more?: NodeJS.ProcessEnv): cli.Said =>
    cli.auxcred(['gokey', ...args], { env: environment(more), encoding: 'latin1' });

  test("takes gokey's flags, and gives its bytes and its exit statuses", async () => {
    const program = await newGokey();
    const master = file('master', ' pw with spaces \n');
    const seed = file('seed', sealedSeed('pw with spaces', new Uint8Array(randomBytes(40))));
    const skipped = file('skipped', Buffer.concat([Buffer.alloc(9), readFileSync(seed)]));
    for (const args of [
      ['-P', master, '-r', 'x'],
      [`-P=${master}`, '-r=x', '-l=20'],
      [`--P=${master}`, '--r', 'x', '--t', 'raw', '--u'],
      ['-P', master, '-r', 'x', '-u=false', '-t', 'ec256'],
      ['-P', master, '-r', 'x', '-u=true', '-t', 'ec256'],
      ['-P', master, '-r', 'x', '-s', seed],
      ['-P', master, '-r', 'x', '-s', skipped, '-skip', '9'],
      ['-P', master, '-r', 'x', '-s', skipped],
      ['-P', master, '-r', 'x', '-s', seed, '-skip', '-1'],
      ['-P', master, '-r', 'x', '-s', seed, '-skip', '9999'],
      ['-P', master, '-r', 'x', '-skip', '-1'],
      ['-P', master],
      ['-P', master, '-r', 'x', '-l', '7'],
      ['-P', master, '-r', 'x', '-l', '0'],
      ['-P', master, '-r', 'x', '-l', 'abc'],
      ['-P', master, '-r', 'x', '-t', 'raw'],
      ['-P', master, '-r', 'x', '-t', 'foo'],
      ['-P', master, '-r', 'x', '-t', 'ed25519', '-u', '-l', '5'],
      ['-P', at('missing'), '-r', 'x'],
      ['-P', master, '-r', 'x', '-s', at('missing')],
      ['-P', master, '-r', 'x', '-zz'],
      ['-P', master, '-r', 'x', '-u=maybe'],
      ['-P', master, '-r'],
      ['-P', master, '-r', 'x', 'more', '-l', 'abc'],
      ...['010', '0x10', '1_0', '0b1001', '08', '1__0', '+12', '9223372036854775808'].map((length) => [
        '-P',
        master,
        '-r',
        'x',
        '-l',
        length,
      ]),
      ['-P', master, '-r', 'x', '-s', skipped, '-skip', '011'],
      ['-P', master, '-r', 'x', '-=x'],
      ['-P', master, '-r', 'x', '---u'],
      ['-P', master, '-r', 'x', '--', '-l', 'abc'],
      ['-h'],
      ['--help'],
      ['-P', master, '-zz', '-h'],
    ]) {
      const [theirs, ours] = [
        spawnSync(program, args, { encoding: 'latin1', env: environment(), input: '' }),
        run(args),
      ];
      assert.equal(ours.status, theirs.status, `${args.join(' ')}: ${ours.stderr}`);
      if (theirs.status === 0) assert.equal(ours.stdout, theirs.stdout, args.join(' '));
      else assert.equal(ours.stdout, '');
    }
  });

  test('takes the master password from GOKEY_ROOT_PASS, and writes files that only their owner may read', () => {
    const fromFile = run(['-P', file('plain', 'pw'), '-r', 'x']).stdout;
    assert.equal(run(['-r', 'x'], { GOKEY_ROOT_PASS: 'pw' }).stdout, fromFile);
    assert.equal(run(['-r', 'x', '-o', at('out')], { GOKEY_ROOT_PASS: 'pw' }).stdout, '');
    assert.equal(readFileSync(at('out'), 'latin1'), fromFile);
    assert.equal(statSync(at('out')).mode & 0o777, 0o600);
  });

  test('uses GOKEY_ROOT_PASS if the file is empty, and makes a seed file whatever the given length, as the program does', async () => {
    const program = await newGokey();
    const args = ['-P', file('empty', ' \n'), '-r', 'x'];
    const theirs = spawnSync(program, args, {
      encoding: 'latin1',
      env: environment({ GOKEY_ROOT_PASS: 'pw' }),
      input: '',
    });
    assert.equal(theirs.status, 0);
    assert.deepEqual(
      [run(args, { GOKEY_ROOT_PASS: 'pw' }).stdout, run(['-r', 'x'], { GOKEY_ROOT_PASS: 'pw' }).stdout],
      [theirs.stdout, theirs.stdout],
    );
    const { status, stdout } = run(['-P', file('plain', 'pw'), '-t', 'seed', '-l', '5']);
    assert.deepEqual([status, stdout.length], [0, 256]);
  });

  test('refuses a realm or a password in the environment that was not UTF-8', () => {
    for (const said of [
      run(['-P', file('plain', 'pw'), '-r', 'a\ufffd']),
      run(['-r', 'a'], { GOKEY_ROOT_PASS: '\ufffd' }),
    ]) {
      assert.deepEqual([said.status, said.stdout], [1, '']);
      assert.match(said.stderr, /is not UTF-8\n$/);
    }
    const raw = spawnSync(
      'sh',
      ['-c', 'exec "$0" dist/auxcred.cjs gokey -P "$1" -r "$(printf "\\377")"', process.execPath, at('plain')],
      { encoding: 'latin1', env: environment(), input: '' },
    );
    assert.deepEqual([raw.status, raw.stdout], [1, '']);
  });

  test('writes through links and to pipes, and replaces nothing but files', async () => {
    const expected = run(['-P', file('plain', 'pw'), '-r', 'x']).stdout;
    file('target', 'a longer text that has to go');
    symlinkSync('target', at('link'));
    assert.equal(run(['-P', at('plain'), '-r', 'x', '-o', at('link')]).status, 0);
    assert.ok(lstatSync(at('link')).isSymbolicLink());
    assert.equal(readFileSync(at('target'), 'latin1'), expected);
    assert.equal(spawnSync('mkfifo', [at('fifo')]).status, 0);
    const reader = spawn('cat', [at('fifo')], { stdio: ['ignore', 'pipe', 'inherit'] });
    const read = once(reader.stdout, 'data');
    assert.equal(run(['-P', at('plain'), '-r', 'x', '-o', at('fifo')]).status, 0);
    assert.deepEqual(await read, [Buffer.from(expected, 'latin1')]);
    assert.ok(lstatSync(at('fifo')).isFIFO());
  });

  test('asks twice unless there is a seed file, and again if nothing or something else was entered', () => {
    /** Standard output goes to a file, so that only the questions are on the terminal. */
    const typed = (args: string, keys: string): { status: number | null; terminal: string; stdout: string } => {
      const { status, stdout } = spawnSync(
        'script',
        ['-qec', `'${process.execPath}' dist/auxcred.cjs gokey ${args} > '${at('typed')}'`, '/dev/null'],
        { input: keys, env: environment(), encoding: 'utf8' },
      );
      return { status, terminal: stdout, stdout: readFileSync(at('typed'), 'latin1') };
    };
    const questions = (terminal: string): number => terminal.split('master password').length - 1;
    const expected = run(['-P', file('plain', 'hunter2'), '-r', 'x']).stdout;
    const twice = typed('-r x', 'hunter2\nhunter2\n');
    assert.deepEqual([twice.status, twice.stdout, questions(twice.terminal)], [0, expected, 2]);
    assert.equal(typed('-r x', '\nhunter2\nhunter2\n').stdout, expected);
    const other = typed('-r x', 'hunter2\nhunter3\nhunter2\nhunter2\n');
    assert.deepEqual([other.status, other.stdout], [0, expected]);
    assert.match(other.terminal, /the two passwords differ: try again/);
    const seed = file('seed', sealedSeed('hunter2', new Uint8Array(randomBytes(40))));
    const once_ = typed(`-r x -s '${seed}'`, 'hunter2\n');
    assert.deepEqual(
      [once_.status, once_.stdout, questions(once_.terminal)],
      [0, run(['-P', at('plain'), '-r', 'x', '-s', seed]).stdout, 1],
    );
    const wrong = typed(`-r x -s '${seed}'`, 'hunter3\n');
    assert.deepEqual([wrong.status, wrong.stdout], [1, '']);
    assert.match(wrong.terminal, /the master password does not open the seed file/);
    const left = typed('-r x', '\n\n\u0004');
    assert.deepEqual([left.status, left.stdout], [1, '']);
  });

  test('refuses -p with the reason, and RSA with a hint', () => {
    const refused = run(['-p', 'pw', '-r', 'x']);
    assert.equal(refused.status, 2);
    assert.match(refused.stderr, /-p would show the master password to every process/);
    assert.ok(!refused.stderr.includes('pw:'));
    const { status, stderr } = run(['-P', file('plain', 'pw'), '-r', 'x', '-t', 'rsa4096', '-u']);
    assert.equal(status, 1);
    assert.match(stderr, /get = \["gokey", "-P", "FILE", "-s", "SEED", "-r", "\{name\}", "-t", "rsa4096"\]/);
  });
});
