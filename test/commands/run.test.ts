import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import { fails, program, type Said, works } from '../cli.ts';
import { furnish } from './root.ts';

/** A machine's root folder, a runtime folder, and a vault. */
let folder = '';
const at = (path: string): string => join(folder, path);
const environment = (): NodeJS.ProcessEnv => ({
  PATH: process.env['PATH'],
  XDG_RUNTIME_DIR: at('runtime'),
  AUXCRED_VAULT: at('vault'),
  AUXCRED_IDENTITY: at('identity'),
});

const manifest = `[secret.db-password]
units = ["web.service"]

[secret.key]
kind = "ssh-ed25519"
units = ["web.service"]

[secret.raw]
kind = "bytes"
bytes = 4096
units = ["web.service"]
`;

const onMachine = (...args: readonly string[]): string[] => ['run', `--root=${at('root')}`, ...args];
/** In a process of its own, since the test is about signals and descriptors. */
function run(...args: readonly string[]): Said {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...onMachine(...args)], {
    encoding: 'utf8',
    env: environment(),
  });
  return { status, stdout, stderr };
}
const output = (...args: readonly string[]): string => {
  const { status, stdout, stderr } = run(...args);
  assert.equal(status, 0, stderr);
  assert.equal(stderr, '');
  return stdout;
};
const secret = (name: string): string => works(['get', `--root=${at('root')}`, name]).stdout;

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'run-'));
  for (const name of ['root', 'runtime']) mkdirSync(at(name));
  furnish(at('root'), manifest);
  works(['seal', `--root=${at('root')}`, '--no-recovery']);
  works(['apply', `--root=${at('root')}`]);
  assert.equal(spawnSync('age-keygen', ['-o', at('identity')]).status, 0);
  const recipient = spawnSync('age-keygen', ['-y', at('identity')], { encoding: 'utf8' }).stdout.trim();
  works(['init', `--vault=${at('vault')}`, `--recipient=${recipient}`]);
  writeFileSync(at('vault/vault.toml'), '[host.web1]\ngroups = ["dev"]\n');
  mkdirSync(at('vault/all'));
  writeFileSync(at('vault/all/web.toml'), manifest);
  works(['put', 'group/dev/token'], { input: 'of the group', env: environment() });
  works(['put', 'host/web1/wifi'], { input: 'of the host', env: environment() });
});
after(() => {
  rmSync(folder, { recursive: true });
});

describe('auxcred run', () => {
  test('gives files where a unit finds its credentials, for the command and what it starts', () => {
    assert.equal(
      output(
        '--file=db-password',
        '--file=again=db-password',
        '--',
        'sh',
        '-c',
        'cd "$CREDENTIALS_DIRECTORY"; cat db-password again; cat db-password; ls',
      ),
      `${secret('db-password').repeat(3)}again\ndb-password\n`,
    );
    assert.equal(output('--file=raw', '--', 'sh', '-c', 'wc -c < "$CREDENTIALS_DIRECTORY/raw"'), '4096\n');
    assert.deepEqual(readdirSync(at('runtime')), []);
  });

  test('gives files that ssh takes for private keys, and that cannot be found elsewhere', () => {
    const key = output(
      '--file=k=key',
      '--',
      'sh',
      '-c',
      'ssh-keygen -y -f "$CREDENTIALS_DIRECTORY/k"; stat -Lc %a,%h "$CREDENTIALS_DIRECTORY/k"',
    );
    assert.equal(key, `${works(['public', `--root=${at('root')}`, 'key']).stdout}400,0\n`);
  });

  test('gives variables only if they are asked for, and nothing in arguments', () => {
    const value = secret('db-password');
    assert.equal(output('--env=PGPASSWORD=db-password', '--', 'sh', '-c', 'printf %s "$PGPASSWORD"'), value);
    const seen = output(
      '--file=db-password',
      '--',
      'sh',
      '-c',
      'tr "\\0" "\\n" < /proc/self/environ; cat /proc/$PPID/cmdline /proc/$PPID/environ 2>/dev/null; ' +
        'ls -l "$CREDENTIALS_DIRECTORY"',
    );
    assert.ok(seen.includes('CREDENTIALS_DIRECTORY='));
    assert.ok(!seen.includes(value));
    const look = 'echo "${CREDENTIALS_DIRECTORY-none}"; ls /proc/self/fd';
    const { stdout: without } = spawnSync('sh', ['-c', look], { encoding: 'utf8', env: environment() });
    assert.equal(output('--', 'sh', '-c', look), without, 'without files there is no folder, and no descriptor');
    fails(
      onMachine('--env=X=raw', '--', 'true'),
      'usage',
      /raw is not text that an environment can hold\n.*--file=X=raw/,
    );
  });

  test("gives the vault's secrets too, declared and fixed", () => {
    const { stdout } = spawnSync(
      process.execPath,
      [
        program,
        ...[
          'run',
          '--host=web1',
          '--env=A=group/dev/token',
          '--env=B=host/web1/wifi',
          '--env=C=wifi',
          '--file=db-password',
        ],
        ...['--', 'sh', '-c', 'echo "$A, $B, $C"; cat "$CREDENTIALS_DIRECTORY/db-password"'],
      ],
      { encoding: 'utf8', env: environment() },
    );
    const declared = works(['get', '--host=web1', 'db-password'], { env: environment() }).stdout;
    assert.equal(stdout, `of the group, of the host, of the host\n${declared}`);
  });

  test("leaves options after -- to the command, and ends with the command's status", () => {
    assert.equal(output('--', 'printf', '%s|', '--file=x', '--help', '--no-x', '--'), '--file=x|--help|--no-x|--|');
    assert.equal(run('--', 'sh', '-c', 'exit 42').status, 42);
    const missing = run('--', at('missing'));
    assert.equal(missing.status, 127);
    assert.match(missing.stderr, /missing can't be run: there is no such program\n$/);
    assert.equal(run('--', at('identity')).status, 126);
  });

  test('passes signals on, and ends by the one that ended the command', async () => {
    const started = async (script: string, ...options: readonly string[]): Promise<ChildProcess> => {
      const child = spawn(process.execPath, [program, ...onMachine(...options, '--', 'sh', '-c', script)], {
        env: environment(),
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      assert.equal(String((await once(child.stdout, 'data'))[0]), 'ready\n');
      return child;
    };
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const) {
      const trap = `trap 'exit 7' ${signal.slice(3)}; echo ready; while :; do sleep 0.05; done`;
      const trapping = await started(trap, '--file=db-password');
      trapping.kill(signal);
      assert.deepEqual(await once(trapping, 'exit'), [7, null], signal);
    }
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      const dying = await started('echo ready; exec sleep 60', '--file=db-password');
      dying.kill(signal);
      assert.deepEqual(await once(dying, 'exit'), [null, signal]);
    }
    assert.deepEqual(readdirSync(at('runtime')), []);
    const killed = spawnSync(process.execPath, [program, ...onMachine('--', 'sh', '-c', 'kill -KILL $$')], {
      env: environment(),
    });
    assert.equal(killed.signal, 'SIGKILL');
  });

  test('leaves the interrupt of a terminal to the terminal, which sends it to the command as well', () => {
    // script(1) makes a terminal. The command counts how often it is interrupted.
    const inner = 'n=0; trap \'n=$((n+1))\' INT; echo ready; sleep 1; sleep 0.2; echo "interrupted $n"';
    writeFileSync(at('inner.sh'), inner);
    const line = `${process.execPath} ${program} ${onMachine('--', 'sh', at('inner.sh')).join(' ')}`;
    const { stdout } = spawnSync(
      'sh',
      [
        '-c',
        `(sleep 0.1; while ! grep -q ready ${at('seen')}; do sleep 0.05; done; printf '\\003'; sleep 2) |
        script -qfc '${line}' ${at('seen')}`,
      ],
      { encoding: 'utf8', env: environment() },
    );
    assert.match(stdout, /interrupted 1\r\n/);
  });

  test('wipes the memory when the command ends, also for a process that it left behind', () => {
    const left = at('left');
    // Opened before the command ends, and read once the folder is gone: until then, nothing is wiped.
    const waits = 'n=0; until [ "$(stat -Lc %s /dev/fd/9)" = 0 ] || [ $n = 400 ]; do n=$((n+1)); sleep 0.02; done';
    const script = `exec 9< "$CREDENTIALS_DIRECTORY/db-password"; wc -c <&9; (${waits}; wc -c < /dev/fd/9 > ${left}.new; mv ${left}.new ${left}) > /dev/null 2>&1 &`;
    assert.equal(output('--file=db-password', '--', 'sh', '-c', script), `${String(secret('db-password').length)}\n`);
    const waited = spawnSync('sh', ['-c', `while ! [ -e ${left} ]; do sleep 0.02; done; cat ${left}`], {
      encoding: 'utf8',
      timeout: 20_000,
    });
    assert.equal(waited.stdout, '0\n');
  });

  test('refuses what is not clear', () => {
    fails(onMachine('true'), 'usage', /needs -- before its command: auxcred run -- true/);
    fails(onMachine('key', '--', 'true'), 'usage', /before --, and "key" is none\n.*--file=key or --env=NAME=key/);
    fails(onMachine('--'), 'usage', /needs a command/);
    fails(onMachine('--env=X', '--', 'true'), 'usage', /--env=X names no secret/);
    fails(onMachine('--env=1X=key', '--', 'true'), 'usage', /"1X" is not the name of a variable/);
    fails(onMachine('--file=a/b', '--', 'true'), 'usage', /"a\/b" is not the name of a file\n.*NAME=SECRET/);
    fails(onMachine('--file=..=key', '--', 'true'), 'usage', /is not the name of a file/);
    fails(
      onMachine('--file=key', '--file=key=db-password', '--', 'true'),
      'usage',
      /--file=key is given more than once/,
    );
    const { status } = fails(onMachine('--file=other', '--', 'true'), 'not-found', /other/);
    assert.equal(status, exitStatus['not-found']);
  });
});
