import assert from 'node:assert/strict';
import { chmodSync, chownSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { manifestOf } from '../../src/manifest/manifest.ts';
import { runHook } from '../../src/provision/hook.ts';
import { withMachineProblems } from '../../src/provision/machine-problems.ts';

describe('hooks that others could replace', {
  skip: process.getuid?.() === 0 ? false : 'only root can set owners',
}, () => {
  let folder = '';
  let program = '';
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'hook-'));
    program = join(folder, 'tell');
    writeFileSync(program, '#!/bin/sh\n', { mode: 0o755 });
  });
  afterEach(() => {
    rmSync(folder, { recursive: true });
  });

  /** What `check` reports, which has to agree with what running it does. */
  const outcome = (): string => {
    const manifest = withMachineProblems(
      '/',
      manifestOf([
        {
          path: '/etc/auxcred/secrets.d/web.toml',
          text: `[secret.a]\nunits = ["no-such.service"]\nhook = ["${program}"]\n`,
        },
      ]),
    );
    const said = manifest.problems.map(({ key, message }) => `${key ?? ''}: ${message}`);
    const [declaration] = manifest.declarations;
    assert.ok(declaration);
    try {
      runHook(declaration, { before: new Uint8Array(0), after: new Uint8Array(0) });
      assert.deepEqual(said, []);
      return 'runs';
    } catch (_error) {
      assert.equal(said.length, 1);
      return said.join('\n').replaceAll(folder, '');
    }
  };

  test('a hook that only root can replace runs', () => {
    assert.equal(outcome(), 'runs');
  });
  test('one that a user owns does not', () => {
    chownSync(program, 65534, 65534);
    assert.equal(
      outcome(),
      'secret.a.hook: /tell would run as root: /tell belongs to user 65534, who could lead the path elsewhere',
    );
  });
  test('one that is writable by everybody does not', () => {
    chmodSync(program, 0o777);
    assert.equal(
      outcome(),
      'secret.a.hook: /tell would run as root: /tell can be written by more users than its owner',
    );
  });
  test("one in a user's folder does not", () => {
    chownSync(folder, 65534, 65534);
    assert.equal(
      outcome(),
      `secret.a.hook: /tell would run as root: ${tmpdir()} can be written by more users than its owner`,
    );
  });
});
