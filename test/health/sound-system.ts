/** A system that lacks nothing, sealed once a file of tests. Each test gets a copy of it to break. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import type { Finding } from '../../src/health/finding.ts';
import { shellWord } from '../../src/system/shell.ts';
import * as cli from '../cli.ts';

export const isRoot = process.getuid?.() === 0;
export const program = cli.program;
/** The only manifest, below the root. */
export const manifest = 'etc/auxcred/secrets.d/web.toml';

/** The copy, or what it is copied from before the first test. */
let root = '';

export const at = (path: string): string => join(root, path);
export const store = (path: string): string => at(`var/lib/auxcred/${path}`);
export const rootOption = (): string => `--root=${root}`;
/** It opens the seed too. */
export const recoveryKey = (): string => at('recovery.txt');
export const recipient = (): string => /age1\w+/.exec(readFileSync(recoveryKey(), 'utf8'))?.[0] ?? '';

interface Circumstances {
  readonly input?: string;
  readonly program?: string;
  readonly uid?: number;
  readonly environment?: Readonly<Record<string, string>>;
}

/** Runs auxcred in the copy, whatever comes of it. */
export function run(
  [verb = '', ...args]: readonly string[],
  { input = '', program: file = program, uid, environment = {} }: Circumstances = {},
): cli.Said {
  const command = [verb, rootOption(), ...args];
  const env = { PATH: process.env['PATH'], ...environment };
  if (file === program && uid === undefined) return cli.auxcred(command, { input, env });
  const user = uid === undefined ? {} : { uid, gid: uid };
  return spawnSync(process.execPath, [file, ...command], { encoding: 'utf8', input, timeout: 60_000, env, ...user });
}

/** Runs auxcred, which has to succeed. @returns what it prints */
export function auxcred(verb: string, ...args: readonly string[]): string {
  const { status, stdout, stderr } = run([verb, ...args], { input: 'value of a secret' });
  assert.equal(status, 0, `${verb}: ${stderr}${stdout}`);
  return stdout;
}

/** Runs auxcred at another time, for a whole process. */
export function auxcredAt(time: string, verb: string, ...args: readonly string[]): void {
  const { status, stderr } = spawnSync('faketime', [time, process.execPath, program, verb, rootOption(), ...args], {
    encoding: 'utf8',
    env: { PATH: process.env['PATH'], TZ: 'UTC' },
  });
  assert.equal(status, 0, stderr);
}

const isFinding = (value: unknown): value is Finding =>
  typeof value === 'object' && value !== null && 'check' in value && 'level' in value && 'mend' in value;

/** What doctor finds, without what is well. */
export function findings(circumstances: Circumstances = {}): Finding[] {
  const { status, stdout, stderr } = run(['doctor', '--json'], circumstances);
  assert.ok(status === 0 || status === exitStatus.unwell, stderr);
  const report: unknown = JSON.parse(stdout);
  const all: unknown = typeof report === 'object' && report !== null ? Reflect.get(report, 'findings') : undefined;
  assert.ok(Array.isArray(all));
  const found = all.filter(isFinding).filter(({ level }) => level !== 'ok');
  assert.equal(status, found.some(({ level }) => level !== 'note') ? exitStatus.unwell : 0);
  return found;
}

/** The checks that find something. */
export const checks = (): string[] => findings().map(({ check }) => check);

/** The only finding. */
export function only(
  check: string,
  level: Finding['level'],
  message: RegExp,
  circumstances: Circumstances = {},
): Finding {
  const all = findings(circumstances);
  assert.deepEqual(
    all.map((finding) => `${finding.level} ${finding.check}`),
    [`${level} ${check}`],
    JSON.stringify(all, undefined, 1),
  );
  const [finding] = all;
  assert.ok(finding);
  assert.match(finding.message, message);
  assert.match(finding.message, /^(?:[^A-Z]|PCR|Node).*[^.]$/);
  assert.ok(finding.why !== undefined && finding.why !== '');
  assert.ok(finding.mend.length > 0);
  return finding;
}

/** Types a command of a finding, with what its words in capitals stand for, and sees that nothing is left. */
export function fixes(
  { mend }: Finding,
  which: number,
  words: Readonly<Record<string, string>> = {},
  left: readonly string[] = [],
): void {
  let command = mend[which] ?? '';
  for (const [word, value] of Object.entries(words)) command = command.replace(word, shellWord(value));
  command = command.replace(/(^|&& )auxcred /, `$1${process.execPath} ${program} `);
  const { status, stderr } = spawnSync('sh', ['-c', command], {
    encoding: 'utf8',
    input: 'value of a secret',
    timeout: 60_000,
    env: { PATH: process.env['PATH'] },
  });
  assert.equal(status, 0, `${command}: ${stderr}`);
  assert.deepEqual(checks(), left);
}

function makeSound(): void {
  for (const folder of ['etc/ssh', 'etc/auxcred/secrets.d']) mkdirSync(at(folder), { recursive: true });
  writeFileSync(at('etc/hostname'), 'web1\n');
  writeFileSync(at('etc/group'), `auxcred:x:${String(process.getgid?.() ?? 0)}:\n`);
  writeFileSync(at('etc/passwd'), 'auxcred:x:990:990:auxcred broker:/:/usr/sbin/nologin\n');
  makeHostKey();
  assert.equal(spawnSync('age-keygen', ['-o', recoveryKey()]).status, 0);
  auxcred('seal', `--recipient=${recipient()}`);
  auxcred('put', 'wifi');
  writeFileSync(
    at(manifest),
    '[secret.key]\nkind = "hex"\nunits = ["web.service"]\n[secret.wifi]\nkind = "fixed"\nunits = ["net.service"]\n',
  );
  auxcred('apply');
}

export function makeHostKey(): void {
  const file = at('etc/ssh/ssh_host_ed25519_key');
  rmSync(file, { force: true });
  const { status } = spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', file], { input: 'y\n' });
  assert.equal(status, 0);
}

/** Seals the system before the tests of a file, and copies it before each. */
export function soundSystem(): void {
  let sound = '';
  before(() => {
    // A command that does not quote this name fails.
    sound = mkdtempSync(join(tmpdir(), 'what is sound-'));
    root = sound;
    makeSound();
  });
  after(() => {
    rmSync(sound, { recursive: true });
  });
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), "the machine's root-"));
    cpSync(sound, root, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true });
  });
  afterEach(() => {
    rmSync(root, { recursive: true });
  });
}
