/** Native programs as references, in a folder of their own. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export class Folder {
  readonly path = mkdtempSync(join(tmpdir(), 'auxcred-derive-'));

  write(name: string, content: string | Uint8Array): string {
    const path = join(this.path, name);
    writeFileSync(path, content, { mode: 0o600 });
    return path;
  }

  read(name: string): Buffer {
    return readFileSync(join(this.path, name));
  }

  /** The standard output of a program, which has to succeed. */
  run(command: string, args: readonly string[], input: string | Uint8Array = ''): Buffer {
    const { status, stdout, stderr, error } = spawnSync(command, args, {
      input,
      cwd: this.path,
      env: { PATH: process.env['PATH'], LC_ALL: 'C' },
      maxBuffer: 64 << 20,
    });
    assert.equal(error, undefined);
    assert.equal(status, 0, `${command} ${args.join(' ')}: ${stderr.toString()}`);
    return stdout;
  }

  remove(): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}
