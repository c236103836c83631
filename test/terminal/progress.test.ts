/** What `plan` and `push` show while they wait. They wait for something that the test holds back. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { root, useMachineRoot, works } from '../commands/machine-root.ts';
import { device, sealedTo, swtpm, useTpm } from '../commands/machine-tpm.ts';
import { at, environment, operator, useOperator } from '../push/operator.ts';
import { ended, says, start } from './on-terminal.ts';

const eraseLine = '\r\x1b[K';

describe('progress of plan', () => {
  useMachineRoot();
  useTpm();

  test('a plan that waits for the TPM says so on a terminal, on one line that is gone at the end', async () => {
    works('seal', ['--with-key=tpm2', '--no-recovery', ...sealedTo()]);
    works('apply', [device()]);
    swtpm.signal('SIGSTOP');
    const plan = start(true, ['plan', `--root=${root}`, device()]);
    try {
      await says(/opening the seeds/, plan);
    } finally {
      swtpm.signal('SIGCONT');
    }
    await ended(plan);
    assert.equal(plan.said(), `${eraseLine}auxcred: opening the seeds${eraseLine}auxcred: nothing would change\r\n`);
  });

  test('shows nothing of it in a pipe, nor of what is done within a second', async () => {
    works('seal', ['--with-key=tpm2', '--no-recovery', ...sealedTo()]);
    works('apply', [device()]);
    swtpm.signal('SIGSTOP');
    const plan = start(false, ['plan', `--root=${root}`, device()]);
    // Long enough for a line on a terminal; a slower machine only takes longer to say nothing.
    await sleep(1500);
    swtpm.signal('SIGCONT');
    await ended(plan);
    assert.equal(plan.said(), 'auxcred: nothing would change\n');
  });
});

describe('progress of push', () => {
  useOperator();

  test('says on a terminal which hosts it waits for, below what it says of others', async () => {
    assert.equal(spawnSync('mkfifo', [at('held')]).status, 0);
    writeFileSync(
      at('bin/held-ssh'),
      `#!/bin/sh\ncase $1 in *web2) read -r line < '${at('held')}';; esac\nexec '${at('bin/near-ssh')}' "$@"\n`,
      { mode: 0o755 },
    );
    writeFileSync(
      at('vault/vault.toml'),
      `ssh = ["${at('bin/held-ssh')}"]\n[host.web1]\ngroups = ["db"]\n[host.web2]\ngroups = ["db"]\n`,
    );
    const push = start(true, operator('push', '--all', '--manifest'), environment());
    await says(/auxcred: 1 of 2 hosts; web2/, push);
    closeSync(openSync(at('held'), 'w'));
    await ended(push);
    const text = push.said();
    assert.match(text, /\r\x1b\[Kauxcred: 1 of 2 hosts; web2/);
    // The last line of progress is erased before the table.
    assert.match(text, /\r\x1b\[KHOST +RESULT/);
    assert.doesNotMatch(text.slice(text.indexOf('HOST')), /of 2 hosts/);
  });
});
