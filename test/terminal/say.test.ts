/** What is said holds names of others: files of a foreign tree, hosts, units. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { test } from 'node:test';

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
