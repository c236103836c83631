import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach } from 'node:test';
import * as cli from '../cli.ts';

/** A machine's root folder as an installer sees it: nothing in it runs. */
export let root = '';
export const at = (path: string): string => join(root, path);

export const auxcred = (args: readonly string[], input = ''): cli.Said => cli.auxcred(args, { input });
export const here = (verb: string, ...args: string[]): cli.Said => auxcred([verb, `--root=${root}`, ...args]);

/** Creates the root before each test, with an ssh host key and a manifest, and removes it after it. */
export function useRoot(): void {
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'root-'));
    for (const folder of ['etc/ssh', 'etc/auxcred/secrets.d']) mkdirSync(at(folder), { recursive: true });
    writeFileSync(at('etc/hostname'), 'Web1\n');
    writeFileSync(at('etc/group'), 'root:x:0:\n');
    writeFileSync(at('etc/auxcred/secrets.d/web.toml'), '[secret.key]\nkind = "hex"\nunits = ["web.service"]\n');
    assert.equal(
      spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', at('etc/ssh/ssh_host_ed25519_key')]).status,
      0,
    );
  });
  afterEach(() => {
    rmSync(root, { recursive: true });
  });
}
