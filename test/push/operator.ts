import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before } from 'node:test';
import * as cli from '../cli.ts';

/**
 * The operator's folder, with a vault, the hosts' roots, and a stand-in for ssh that runs the given command.
 */
let folder = '';
export const at = (path: string): string => join(folder, path);
export const environment = (): NodeJS.ProcessEnv => ({ PATH: process.env['PATH'], HOME: folder });
export const auxcred = (args: readonly string[], input: string | Uint8Array = ''): cli.Said =>
  cli.auxcred(args, { input, env: environment() });
export function works(args: readonly string[], input = ''): string {
  const { status, stdout, stderr } = auxcred(args, input);
  assert.equal(status, 0, `${args.join(' ')}: ${stderr}`);
  return stdout;
}
export const operator = (verb: string, ...args: string[]): string[] => [
  verb,
  `--vault=${at('vault')}`,
  `--identity=${at('identity')}`,
  ...args,
];
export interface Row {
  host: string;
  result: string;
  sent: { seeds: boolean; fixed: string[]; manifest: string[]; removed: string[] };
  units: unknown[];
  failure?: { code: string; message: string; hint?: string };
}
export function pushed(...args: string[]): { rows: Row[]; status: number | null; stderr: string } {
  const { status, stdout, stderr } = auxcred(operator('push', '--json', ...args));
  assert.notEqual(stdout, '', stderr);
  const { hosts }: { hosts: Row[] } = JSON.parse(stdout);
  return { rows: hosts, status, stderr };
}
export const put = (name: string, value: string): string => works(operator('put', '--force', name), value);
export const store = (host: string): string => at(`${host}/var/lib/auxcred`);
export const vaultToml = (more = ''): void => {
  writeFileSync(
    at('vault/vault.toml'),
    `ssh = ["${at('bin/near-ssh')}"]\n[host.web1]\ngroups = ["db"]\n${more}[host.web2]\ngroups = ["db"]\n`,
  );
};

export function makeHost(name: string): void {
  for (const path of ['etc/ssh', 'etc/auxcred/secrets.d']) mkdirSync(at(`${name}/${path}`), { recursive: true });
  writeFileSync(at(`${name}/etc/hostname`), `${name}\n`);
  writeFileSync(at(`${name}/etc/group`), 'root:x:0:\n');
  assert.equal(
    spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', at(`${name}/etc/ssh/ssh_host_ed25519_key`)]).status,
    0,
  );
}

/**
 * Creates all of it before a file's tests, and removes it after them.
 * @param state - whether hosts and vault are new, or hold what a first push brought
 */
export function useOperator(state: 'new' | 'pushed' = 'new'): void {
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'push-'));
    assert.equal(spawnSync('age-keygen', ['-o', at('identity')]).status, 0);
    works([
      'init',
      `--vault=${at('vault')}`,
      `--recipient=${spawnSync('age-keygen', ['-y', at('identity')], { encoding: 'utf8' }).stdout.trim()}`,
    ]);
    mkdirSync(at('bin'));
    const program = (name: string, text: string): void => {
      writeFileSync(at(`bin/${name}`), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
    };
    program(
      'auxcred',
      `exec '${process.execPath}' '${join(process.cwd(), 'dist/auxcred.cjs')}' "$@" --root='${folder}'/"$TARGET"`,
    );
    program('sudo', 'shift; exec "$@"');
    for (const host of ['web1', 'web2']) makeHost(host);
    mkdirSync(at('vault/all'));
    writeFileSync(at('vault/all/web.toml'), '[secret.session]\nkind = "hex"\nshare = "db"\nunits = ["web.service"]\n');
    program('near-ssh', `TARGET=\${1#*@} PATH='${at('bin')}':$PATH exec sh -c "$2"`);
    program('far-ssh', 'sleep 60');
    vaultToml();
    if (state === 'pushed') pushAll();
  });
  after(() => {
    rmSync(folder, { recursive: true });
  });
}

/** Sets vault.toml for `work`, and sets it back. */
export function withSettings<T>(change: (text: string) => string, work: () => T): T {
  const settings = readFileSync(at('vault/vault.toml'), 'utf8');
  writeFileSync(at('vault/vault.toml'), change(settings));
  try {
    return work();
  } finally {
    writeFileSync(at('vault/vault.toml'), settings);
  }
}
export const alsoHost =
  (name: string, more = 'groups = ["db"]\n') =>
  (text: string): string =>
    `${text}[host.${name}]\n${more}`;
export const failureOf = ({ rows: [row] }: { rows: Row[] }): [string | undefined, string] => [
  row?.failure?.code,
  row?.failure?.message ?? '',
];

/** Two secrets of the vault, brought with the manifest; web1 also has one of its own, and its key is enrolled. */
function pushAll(): void {
  put('host/web1/wifi', 'secret one');
  put('group/db/token', 'shared');
  assert.equal(pushed('--all', '--manifest').status, 0);
  works(['put', 'host/web1/mine', `--root=${at('web1')}`], 'put there');
  works(['enroll', 'web1', `--vault=${at('vault')}`, '--from=-'], works(['enroll', `--root=${at('web1')}`]));
}
