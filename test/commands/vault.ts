/** An operator's vault, its keys, and the program as the operator runs it. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach } from 'node:test';
import * as cli from '../cli.ts';

export const recipientOf = (identity: string): string =>
  spawnSync('age-keygen', ['-y', at(identity)], { encoding: 'utf8' }).stdout.trim();

let folder = '';
export const at = (path: string): string => join(folder, path);
export const environment = (): NodeJS.ProcessEnv => ({
  PATH: process.env['PATH'],
  HOME: folder,
  AUXCRED_VAULT: at('vault'),
  AUXCRED_IDENTITY: at('identity'),
  GIT_AUTHOR_NAME: 'a',
  GIT_AUTHOR_EMAIL: 'a@example.org',
  GIT_COMMITTER_NAME: 'a',
  GIT_COMMITTER_EMAIL: 'a@example.org',
});
const { program } = cli;
export const auxcred = (args: readonly string[], input: string | Buffer = '', more: NodeJS.ProcessEnv = {}): cli.Said =>
  cli.auxcred(args, { input, env: { ...environment(), ...more }, encoding: 'latin1' });
export function works(args: readonly string[], input: string | Buffer = ''): string {
  const { status, stdout, stderr } = auxcred(args, input);
  assert.equal(status, 0, `${args.join(' ')}: ${stderr}`);
  return stdout;
}
export function fails(args: readonly string[], status: number, message: RegExp, input: string | Buffer = ''): void {
  const said = auxcred(args, input);
  assert.equal(said.status, status, `${args.join(' ')}: ${said.stderr}`);
  assert.match(said.stderr, message);
}
/** At a terminal, with these keys typed. */
export function typed(args: readonly string[], keys: string): cli.Said {
  const command = [process.execPath, program, ...args].map((word) => `'${word}'`).join(' ');
  const { status, stdout } = spawnSync('script', ['-qec', command, '/dev/null'], {
    input: keys,
    env: environment(),
    encoding: 'utf8',
  });
  return { status, stdout, stderr: stdout };
}
/** With a pipe for standard input that does not block, as another program may have left it, filled a part at a time. */
export async function piped(args: readonly string[], parts: readonly string[], end: 'ended' | 'open'): Promise<void> {
  assert.equal(spawnSync('mkfifo', [at('pipe')]).status, 0);
  const from = openSync(at('pipe'), constants.O_RDONLY | constants.O_NONBLOCK);
  const to = await open(at('pipe'), 'w');
  try {
    const child = spawn(process.execPath, [program, ...args], { stdio: [from, 'ignore', 'pipe'], env: environment() });
    assert.ok(child.stderr);
    const [ended, said] = [once(child, 'exit'), text(child.stderr)];
    closeSync(from);
    for (const part of parts) await to.write(part);
    if (end === 'ended') await to.close();
    const [status] = await ended;
    assert.equal(status, 0, await said);
  } finally {
    await to.close().catch(() => undefined);
    rmSync(at('pipe'));
  }
}
export const file = (name: string): string => at(`vault/fixed/${name}.sealed`);
export const names = (): string[] =>
  works(['ls', '--flat'])
    .split('\n')
    .filter((line) => line !== '');

/** Creates vault and keys before each test, and removes them after it. */
export function useVault(): void {
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'fixed-'));
    assert.equal(spawnSync('age-keygen', ['-o', at('identity')]).status, 0);
    works([
      'init',
      `--recipient=${spawnSync('age-keygen', ['-y', at('identity')], { encoding: 'utf8' }).stdout.trim()}`,
    ]);
    writeFileSync(at('vault/vault.toml'), '# our hosts\n[host.web1]\ngroups = ["db"]\n[host.web2]\ngroups = ["db"]\n');
  });
  afterEach(() => {
    rmSync(folder, { recursive: true });
  });
}
