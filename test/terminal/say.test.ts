/** What is said holds names of others: files of a foreign tree, hosts, units. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { program } from '../cli.ts';

test('nothing that is said acts on the terminal, or begins a line of its own', () => {
  const code = `const { say, warn, sayFailure } = await import(${JSON.stringify(resolve('build/src/terminal/say.js'))});
    const { Failure } = await import(${JSON.stringify(resolve('build/src/failure.js'))});
    const name = 'x\\x1b]0;owned\\x07\\nauxcred: done\\u009b31m';
    say(name); warn(name, name); sayFailure(new Failure('system', name, { hint: name })); sayFailure(new Error(name));`;
  const { stderr, status } = spawnSync(process.execPath, ['--input-type=module', '-e', code], { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  assert.doesNotMatch(stderr.replaceAll('\n', ''), /[\p{Cc}]/u);
  const lines = stderr.trimEnd().split('\n');
  assert.equal(lines.length, 6);
  for (const line of lines) assert.match(line, /^auxcred: .*x \]0;owned {2}auxcred: done 31m$/);
});

test('output that a file takes only in part ends with a failure', () => {
  const folder = mkdtempSync(join(tmpdir(), 'auxcred-say-'));
  try {
    // A file that may have 1 KiB is full in the middle of a write, as a disk may be.
    const script = 'ulimit -f 2; exec "$@" > out';
    const command = ['-c', script, 'sh', process.execPath, program, 'help', 'seal'];
    const { status, stderr } = spawnSync('sh', command, { cwd: folder, encoding: 'utf8' });
    assert.match(stderr, /^auxcred: standard output can't be written: EFBIG: .*\n$/);
    assert.equal(status, 16);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
