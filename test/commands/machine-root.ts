/** The root folder of a machine, and the program as its root runs it. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach } from 'node:test';
import { exitStatus, type FailureCode } from '../../src/failure.ts';
import { Json } from '../../src/system/json.ts';
import * as cli from '../cli.ts';

export let root = '';
export const at = (path: string): string => join(root, path);
export const seeds = 'var/lib/auxcred/seeds.age';
export const hostKey = 'etc/ssh/ssh_host_ed25519_key';

export const auxcred = (verb: string, args: readonly string[], input = ''): cli.Said =>
  cli.auxcred([verb, `--root=${root}`, ...args], { input });
export function works(verb: string, args: readonly string[] = [], input = ''): cli.Said {
  const said = auxcred(verb, args, input);
  assert.equal(said.status, 0, `${verb} ${args.join(' ')}: ${said.stderr}`);
  return said;
}
export function fails(verb: string, args: readonly string[], code: FailureCode, message: RegExp, input = ''): void {
  const said = auxcred(verb, args, input);
  assert.equal(said.status, exitStatus[code], `${verb} ${args.join(' ')}: ${said.stderr}`);
  assert.match(said.stderr, message);
}
export const secret = (): string => works('get', ['key']).stdout;
export const sealing = (): Json =>
  Json.parse(Buffer.from(works('unseal', ['--json']).stdout), 'unseal', '').at('sealing');
export const recovery = (): string[] =>
  sealing()
    .at('recovery')
    .list()
    .map((item) => item.text());

export function identity(name: string): { readonly file: string; readonly recipient: string } {
  const file = at(name);
  assert.equal(spawnSync('age-keygen', ['-o', file]).status, 0);
  return { file, recipient: spawnSync('age-keygen', ['-y', file], { encoding: 'utf8' }).stdout.trim() };
}
export const opensWith = (file: string): boolean => spawnSync('age', ['-d', '-i', file, at(seeds)]).status === 0;
export function newHostKey(): void {
  rmSync(at(hostKey), { force: true });
  assert.equal(spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', at(hostKey)]).status, 0);
}
export const declare = (more = ''): void => {
  writeFileSync(at('etc/auxcred/secrets.d/web.toml'), `[secret.key]\nkind = "hex"\nunits = ["web.service"]\n${more}`);
};
/** A backup of some of the machine's files. */
export function copyOf(...paths: readonly string[]): () => void {
  const folder = mkdtempSync(join(root, 'copy-'));
  for (const path of paths) cpSync(at(path), join(folder, path), { recursive: true, verbatimSymlinks: true });
  return () => {
    for (const path of paths) {
      rmSync(at(path), { recursive: true });
      cpSync(join(folder, path), at(path), { recursive: true, verbatimSymlinks: true });
    }
  };
}

/** Creates the root folder of a machine with an ssh host key before each test, and removes it after it. */
export function useMachineRoot(): void {
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'root-'));
    for (const folder of ['etc/ssh', 'etc/auxcred/secrets.d']) mkdirSync(at(folder), { recursive: true });
    writeFileSync(at('etc/hostname'), 'web1\n');
    writeFileSync(at('etc/group'), 'root:x:0:\n');
    declare();
    newHostKey();
  });
  afterEach(() => {
    rmSync(root, { recursive: true });
  });
}
