/** SIGKILL before every system call that changes a file, by strace's fault injection: what is in force is what was, or what was meant. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { auxcred, furnish, listing, manifestIn, must, stateOf } from './root.ts';

const older = `
[secret.a]
rotate = "yearly"
period = "2025"
units = ["a.service"]
[secret.wifi]
kind = "fixed"
units = ["b.service"]
`;
const newer = `
[secret.a]
rotate = "yearly"
period = "2026"
previous = true
units = ["a.service", "c.service"]
[secret.wifi]
kind = "fixed"
units = ["b.service"]
[secret.token]
kind = "fixed"
units = ["a.service"]
`;
const recovery = 'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p';

const calls = ['openat', 'write', 'pwrite64', 'rename', 'renameat', 'renameat2', 'symlink', 'symlinkat', 'unlink', 'unlinkat', 'mkdir', 'mkdirat', 'rmdir', 'fsync', 'fdatasync', 'fchmod', 'chmod', 'fchown', 'chown', 'link', 'linkat', 'ftruncate'];

let folder = '';
before(() => { folder = mkdtempSync(join(tmpdir(), 'killed-')); });
after(() => { rmSync(folder, { recursive: true, force: true }); });

/** Runs auxcred under strace, threads included. */
const traced = (options: readonly string[], args: readonly string[]) =>
  spawnSync('strace', ['-f', '-qq', ...options, process.execPath, 'dist/auxcred.cjs', ...args], { encoding: 'utf8', env: { PATH: process.env['PATH'] } });

/** The system calls by which a run changes files below `root`: the call's name and the how-manieth of its name it is. */
function changesOf(root: string, args: readonly string[]): { call: string; number: number; line: string }[] {
  const log = join(folder, 'trace');
  const { status, stderr } = traced(['-y', '-s', '200', '-e', `trace=${calls.join(',')}`, '-o', log], args);
  assert.equal(status, 0, stderr);
  const counts = new Map<string, number>();
  return readFileSync(log, 'utf8').split('\n').flatMap((line) => {
    const [, thread = '', call = ''] = /^(\d+) +([a-z0-9]+)\(/.exec(line) ?? [];
    if (call === '') return [];
    const number = 1 + (counts.get(`${thread} ${call}`) ?? 0);
    counts.set(`${thread} ${call}`, number);
    return line.includes(root) && (call !== 'openat' || line.includes('O_CREAT')) ? [{ call, number, line }] : [];
  });
}

/**
 * Kills `args` before each of its changes, looks at what is in force, and runs it again.
 * @param again - how to go on afterwards, where the same command is refused once it did its work
 */
async function killEverywhere(name: string, prepare: (root: string) => void, args: (root: string) => string[], again: (root: string) => void): Promise<void> {
  const origin = join(folder, name);
  furnish(origin, older);
  prepare(origin);
  const copy = (to: string): string => {
    cpSync(origin, join(folder, to), { recursive: true, verbatimSymlinks: true });
    return join(folder, to);
  };
  const whole = copy(`${name}-whole`);
  const changes = changesOf(whole, args(whole));
  again(whole);
  const [old, now] = [await stateOf(origin), await stateOf(whole)];
  assert.notDeepEqual(now, old);
  // Seeds and snapshot are bound to each other only by the counter, so a run that writes both may be killed between them.
  const parts = (state: typeof old) => ({ seeds: [state.counter, state.recipients], snapshot: [state.releases, state.record, state.fixed], dropIns: [state.dropIns, state.rendered] });
  let killed = 0;
  for (const { call, number, line } of changes) {
    const root = copy(`${name}-killed`);
    const { signal, status } = traced(['-e', `trace=${call}`, '-e', `inject=${call}:signal=SIGKILL:when=${String(number)}`, '-o', '/dev/null'], args(root));
    if (signal === 'SIGKILL' || status === 137) killed++;
    const [was, is, meant] = [old, await stateOf(root), now].map(parts);
    for (const part of ['seeds', 'snapshot', 'dropIns'] as const) {
      const value = JSON.stringify(is?.[part]);
      assert.ok(value === JSON.stringify(was?.[part]) || value === JSON.stringify(meant?.[part]), `${part} after a kill at ${line}: ${value}`);
    }
    again(root);
    assert.deepEqual(await stateOf(root), now, `after a kill at ${line}, and again`);
    assert.deepEqual(listing(root), listing(whole), `left behind by a kill at ${line}`);
    rmSync(root, { recursive: true });
  }
  assert.ok(killed > 0.9 * changes.length, `${String(killed)} of ${String(changes.length)} were killed`);
}

const putFixed = (root: string): void => {
  for (const name of ['wifi', 'token']) must(['put', name, `--root=${root}`], `value of ${name}`);
};

describe('killed at any system call that changes a file', () => {
  test('apply leaves what was in force or what was meant, and the next one leaves nothing else', async () => {
    await killEverywhere('apply', (root) => {
      must(['seal', '--no-recovery', `--root=${root}`]);
      putFixed(root);
      must(['apply', `--root=${root}`]);
      // A generation and a rendering to throw away.
      writeFileSync(manifestIn(root), `${older}[secret.b]\nkind = "uuid"\nunits = ["b.service"]\n`);
      must(['apply', `--root=${root}`]);
      writeFileSync(manifestIn(root), newer);
    }, (root) => ['apply', `--root=${root}`], (root) => { must(['apply', `--root=${root}`]); });
  });

  test('seal leaves no seed or one that opens', async () => {
    await killEverywhere('seal', () => undefined, (root) => ['seal', '--no-recovery', `--root=${root}`], (root) => {
      const { status, stderr } = auxcred(['seal', '--no-recovery', `--root=${root}`]);
      if (status !== 0) assert.match(stderr, /seeds\.age exists/);
      must(['unseal', `--root=${root}`]);
    });
  });

  test('reseal leaves the old seeds or the new ones, and what is in force with them', async () => {
    await killEverywhere('reseal', (root) => {
      must(['seal', '--no-recovery', `--root=${root}`]);
      putFixed(root);
      must(['apply', `--root=${root}`]);
    }, (root) => ['reseal', `--add-recipient=${recovery}`, `--root=${root}`], (root) => {
      if (!must(['unseal', '--json', `--root=${root}`]).stdout.includes(recovery)) must(['reseal', `--add-recipient=${recovery}`, `--root=${root}`]);
      must(['provision', `--root=${root}`]);
    });
  });
});
