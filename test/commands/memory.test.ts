/** A fleet seed in the memory of `push`, and a process of the same user that tries to get it. */
import assert from 'node:assert/strict';
import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, describe, test } from 'node:test';

/** Root could read any memory, so all of this runs as another user. */
const user = process.getuid?.() === 0 ? 65_534 : (process.getuid?.() ?? 0);
const identity = { uid: user, gid: process.getuid?.() === 0 ? 65_534 : (process.getgid?.() ?? 0) };

let folder = '';
const at = (path: string): string => join(folder, path);
const environment = (): NodeJS.ProcessEnv => ({ PATH: process.env['PATH'], HOME: folder });
const program = resolve('dist/auxcred.cjs');
function works(command: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(command, args, {
    ...identity,
    encoding: 'utf8',
    cwd: folder,
    env: environment(),
  });
  assert.equal(status, 0, `${command} ${args.join(' ')}: ${stderr}`);
  return stdout;
}

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'memory-'));
  chownSync(folder, identity.uid, identity.gid);
  works('age-keygen', '-o', at('identity'));
  works(
    process.execPath,
    program,
    'init',
    `--vault=${at('vault')}`,
    `--recipient=${works('age-keygen', '-y', at('identity')).trim()}`,
  );
  writeFileSync(at('vault/vault.toml'), `ssh = ["${at('ssh')}"]\n[host.web1]\n`);
  works('mkfifo', at('started'), at('end'));
  writeFileSync(at('ssh'), `#!/bin/sh\necho $$ > '${at('started')}'\nread -r end < '${at('end')}'\n`);
  chmodSync(at('ssh'), 0o755);
});
after(() => {
  rmSync(folder, { recursive: true });
});

/** A push that waits for its ssh, with the fleet seed in its memory. */
async function waitingPush(): Promise<{
  pid: number;
  ssh: number;
  shell: ChildProcessWithoutNullStreams;
  said: () => string;
}> {
  const shell = spawn(
    'bash',
    [
      '-c',
      'ulimit -c unlimited; "$@" & echo $!; wait $!',
      'bash',
      process.execPath,
      program,
      'push',
      `--vault=${at('vault')}`,
      `--identity=${at('identity')}`,
      'web1',
    ],
    { ...identity, cwd: folder, env: environment() },
  );
  let said = '';
  shell.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  // If it ends before its ssh starts, the wait for that has to be ended.
  shell.once('close', () => {
    const fd = openSync(at('started'), 'r+');
    writeSync(fd, 'never\n');
    closeSync(fd);
  });
  const [pid, ssh] = await Promise.all([
    once(shell.stdout.setEncoding('utf8'), 'data'),
    readFile(at('started'), 'utf8'),
  ]);
  return { pid: Number(pid), ssh: Number(ssh), shell, said: () => said };
}

describe('a process that holds the fleet seed', () => {
  test("leaves no core dump and can't be traced; the programs that it runs are not affected", async () => {
    const push = await waitingPush();
    try {
      assert.deepEqual(
        [push.pid, push.ssh].map((pid) => statSync(`/proc/${String(pid)}/mem`).uid),
        [0, user],
      );
      const tracer = spawnSync('strace', ['-p', String(push.pid)], { ...identity, encoding: 'utf8', timeout: 10_000 });
      assert.equal(tracer.status, 1);
      assert.match(tracer.stderr, /not permitted/);
    } finally {
      process.kill(push.pid, 'SIGABRT');
      process.kill(push.ssh, 'SIGKILL');
    }
    assert.deepEqual(await once(push.shell, 'close'), [128 + 6, null]);
    assert.doesNotMatch(push.said(), /core dumped/);
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.startsWith('core')),
      [],
    );
  });

  test('starts no debugger', async () => {
    const push = await waitingPush();
    process.kill(push.pid, 'SIGUSR1');
    writeFileSync(at('end'), '\n');
    assert.deepEqual(await once(push.shell, 'close'), [16, null]);
    assert.doesNotMatch(push.said(), /Debugger/);
  });
});
