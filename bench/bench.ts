/** `npm run bench`: ratios against a peer or a floor, all measured in this one run on this one machine. */
import { spawn, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { hkdfSync } from 'node:crypto';
import type { KindOptions } from '../src/derive/kind.ts';
import { deriveSecret } from '../src/derive/secret.ts';
import { applyRendering } from '../src/deliver/rendered-folder.ts';
import { readManifest } from '../src/manifest/manifest.ts';
import { pathsUnder } from '../src/system/paths.ts';
import { auxcredMachine, manifestPath, secretToml } from '../test/auxcred-machine.ts';
import type { Machine } from '../test/machine/machine.ts';
import { startSwtpm } from '../test/swtpm.ts';
import { startTpmProxy, type TpmProxy } from '../test/tpm-proxy.ts';

interface Row {
  readonly what: string;
  readonly measured: string;
  readonly against: string;
  readonly ratio: string;
  readonly goal: string;
}

const rows: Row[] = [];
const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
const ms = (value: number): string => `${value.toFixed(value < 20 ? 1 : 0)} ms`;

function compare(what: string, name: string, measured: number, peer: string, floor: number, goal: number | undefined): void {
  const ratio = measured / floor;
  rows.push({ what, measured: `${name} ${ms(measured)}`, against: `${peer} ${ms(floor)}`, ratio: `${ratio.toFixed(2)} x`, goal: goal === undefined ? '' : `<= ${goal.toFixed(2)} x ${ratio <= goal ? 'met' : 'MISSED'}` });
}

/** The median time of each command, run in turn, so that a change of the machine's mood meets all alike. */
function timeCommands<Name extends string>(rounds: number, commands: Readonly<Record<Name, readonly string[]>>, more: NodeJS.ProcessEnv = {}): Record<Name, number> {
  const times = new Map<string, number[]>();
  for (let round = 0; round < rounds; round++) {
    for (const name in commands) {
      const [program = '', ...args] = commands[name];
      const started = process.hrtime.bigint();
      const { status } = spawnSync(program, args, { stdio: 'ignore', env: { PATH: process.env['PATH'], ...more } });
      if (status !== 0) throw new Error(`${name} failed with status ${String(status)}`);
      times.set(name, [...(times.get(name) ?? []), Number(process.hrtime.bigint() - started) / 1e6]);
    }
  }
  const medians: Partial<Record<Name, number>> = {};
  for (const name in commands) medians[name] = median(times.get(name) ?? []);
  const complete = (candidate: Partial<Record<Name, number>>): candidate is Record<Name, number> => Object.keys(commands).every((name) => name in candidate);
  if (!complete(medians)) throw new Error('a command was not timed');
  return medians;
}

/** The generator on the machine at hand, in a root folder of its own; it writes to memory, as it does at boot. */
function benchGenerator(): void {
  const folder = mkdtempSync('/dev/shm/bench-');
  try {
    const root = join(folder, 'root');
    mkdirSync(join(root, 'etc/auxcred/secrets.d'), { recursive: true });
    writeFileSync(join(root, 'etc/auxcred/secrets.d/web.toml'), Array.from({ length: 20 }, (_, i) => secretToml(`key-${String(i)}`, [`unit-${String(i)}.service`])).join(''));
    applyRendering(pathsUnder(root), readManifest(root));
    const front = (name: string, at: string): string => {
      const path = join(folder, name);
      writeFileSync(path, readFileSync('generators/auxcred-generator', 'utf8').replaceAll('@root@', at).replace('@node@', process.execPath).replace('@libdir@', join(process.cwd(), 'dist')), { mode: 0o755 });
      return path;
    };
    const changed = join(folder, 'changed');
    cpSync(root, changed, { recursive: true, verbatimSymlinks: true });
    writeFileSync(join(changed, 'etc/auxcred/secrets.d/web.toml'), `${readFileSync(join(root, 'etc/auxcred/secrets.d/web.toml'), 'utf8')}\n`);
    const out = (name: string): string => { mkdirSync(join(folder, name)); return join(folder, name); };
    const fstab = ['/usr/lib/systemd/system-generators/systemd-fstab-generator', '/lib/systemd/system-generators/systemd-fstab-generator'].find(existsSync) ?? '';
    const times = timeCommands(60, {
      fstab: [fstab, out('fstab'), out('fstab.early'), out('fstab.late')],
      fast: [front('fast-front', root), out('fast'), join(folder, 'x'), join(folder, 'x')],
      slow: [front('slow-front', changed), out('slow'), join(folder, 'x'), join(folder, 'x')],
      node: [process.execPath, '-e', '0'],
    });
    if (readdirSync(join(folder, 'fast')).length !== 20 || readdirSync(join(folder, 'slow')).length !== 21) throw new Error('the generator did not do its work');
    compare('generator, manifest as applied', 'auxcred', times.fast, 'systemd-fstab-generator', times.fstab, 1);
    compare('generator, manifest changed', 'auxcred', times.slow, 'node -e 0', times.node, 1.15);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Secrets a second of each kind, against the one HKDF of OpenSSL's that any of them needs at least. */
function benchKinds(): void {
  const seed = new Uint8Array(32).fill(7);
  const alnum = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
  const kinds: readonly KindOptions[] = [
    { kind: 'password', length: 32, alphabet: alnum, require: [] }, { kind: 'passphrase', words: 6, separator: '-', capitalize: false }, { kind: 'hex', bytes: 32 }, { kind: 'base64', bytes: 32 },
    { kind: 'bytes', bytes: 32 }, { kind: 'uuid' }, { kind: 'wireguard-psk' }, { kind: 'wireguard' }, { kind: 'age' }, { kind: 'ssh-ed25519', comment: 'a@b' }, { kind: 'ed25519' }, { kind: 'x25519' }, { kind: 'ec-p256' },
  ];
  const rate = (work: (i: number) => void): number => {
    for (let i = 0; i < 200; i++) work(i);
    const start = performance.now();
    let done = 0;
    while (performance.now() - start < 300) for (let i = 0; i < 20; i++) work(done++);
    return (done / (performance.now() - start)) * 1000;
  };
  const floor = rate((i) => hkdfSync('sha256', seed, 'auxcred/v1/leaf', String(i), 32));
  for (const options of kinds) {
    const each = rate((i) => deriveSecret(seed, { name: `secret-${String(i)}`, options, period: '', generation: 1 }));
    rows.push({ what: `derive, ${options.kind}`, measured: `auxcred ${each.toFixed(0)}/s`, against: `OpenSSL's HKDF ${floor.toFixed(0)}/s`, ratio: `${(floor / each).toFixed(1)} x`, goal: '' });
  }
}

/** A fixed folder of 10,000 secrets, beside one of 10 and beside a password store of the same size. */
function benchFixed(): void {
  const folder = mkdtempSync('/dev/shm/bench-');
  const environment = { HOME: folder, GNUPGHOME: join(folder, 'gnupg'), PASSWORD_STORE_DIR: join(folder, 'store'), AUXCRED_IDENTITY: join(folder, 'identity') };
  const must = (program: string, args: readonly string[], input = ''): string => {
    const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8', input, env: { PATH: process.env['PATH'], ...environment }, maxBuffer: 64 << 20 });
    if (status !== 0) throw new Error(`${program} ${args[0] ?? ''}: ${stderr.slice(-500)}`);
    return stdout.trim();
  };
  const auxcred = (size: number, ...args: readonly string[]): string[] => [process.execPath, 'dist/auxcred.cjs', ...args, `--vault=${join(folder, String(size))}`];
  try {
    must('age-keygen', ['-o', join(folder, 'identity')]);
    const recipient = must('age-keygen', ['-y', join(folder, 'identity')]);
    for (const size of [10, 2500, 10_000]) {
      const plain = join(folder, `plain-${String(size)}`);
      for (let i = 0; i < size; i++) {
        if (i % 100 === 0) mkdirSync(join(plain, `d${String(i / 100)}`), { recursive: true });
        writeFileSync(join(plain, `d${String(Math.floor(i / 100))}/secret-${String(i)}`), `value ${String(i)}`);
      }
      const [, ...init] = auxcred(size, 'init', `--recipient=${recipient}`);
      must(process.execPath, init);
      writeFileSync(join(folder, String(size), 'vault.toml'), '[host.web1]\n');
      const [, ...taken] = auxcred(size, 'import', plain, 'host/web1');
      must(process.execPath, taken);
    }
    mkdirSync(join(folder, 'gnupg'), { mode: 0o700 });
    must('gpg', ['--batch', '--quiet', '--passphrase', '', '--quick-gen-key', 'bench@example.org']);
    must('pass', ['init', 'bench@example.org']);
    must('pass', ['insert', '-e', 'd0/secret-0'], 'value 0\n');
    const encrypted = readFileSync(join(folder, 'store/d0/secret-0.gpg'));
    for (let i = 0; i < 10_000; i++) {
      mkdirSync(join(folder, `store/d${String(Math.floor(i / 100))}`), { recursive: true });
      writeFileSync(join(folder, `store/d${String(Math.floor(i / 100))}/secret-${String(i)}.gpg`), encrypted);
    }
    const times = timeCommands(11, {
      ls: auxcred(10_000, 'ls'), passLs: ['pass', 'ls'], get: auxcred(10_000, 'get', 'host/web1/d0/secret-0'), getOfTen: auxcred(10, 'get', 'host/web1/d0/secret-0'), passShow: ['pass', 'show', 'd0/secret-0'],
    }, environment);
    const checks = timeCommands(3, { all: auxcred(10_000, 'verify'), quarter: auxcred(2500, 'verify') }, environment);
    compare('ls, 10,000 fixed secrets', 'auxcred', times.ls, 'pass ls', times.passLs, undefined);
    compare('get, of 10,000 fixed secrets', 'auxcred', times.get, 'pass show', times.passShow, undefined);
    compare('get, of 10,000 fixed secrets', 'auxcred', times.get, 'of 10', times.getOfTen, 1.15);
    compare('verify, 10,000 fixed secrets', 'auxcred', checks.all, '2,500 fixed secrets', checks.quarter, 4.4);
    compare('verify, each of 10,000', 'auxcred', checks.all / 10_000, 'pass show', times.passShow, 1);
  } finally {
    spawnSync('gpgconf', ['--kill', 'all'], { env: { PATH: process.env['PATH'], ...environment } });
    rmSync(folder, { recursive: true });
  }
}

/** How time grows from 2,500 secrets to 10,000: 4 x is linear. */
function benchGrowth(): void {
  const folder = mkdtempSync('/dev/shm/bench-');
  try {
    const sizes = [2500, 10_000] as const;
    const roots = sizes.map((size) => {
      const root = join(folder, String(size));
      for (const path of ['etc/auxcred/secrets.d', 'etc/ssh', 'out']) mkdirSync(join(root, path), { recursive: true });
      writeFileSync(join(root, 'etc/hostname'), 'bench\n');
      writeFileSync(join(root, 'etc/group'), 'root:x:0:\n');
      writeFileSync(join(root, 'etc/auxcred/secrets.d/web.toml'), Array.from({ length: size }, (_, i) => secretToml(`key-${String(i)}`, [`unit-${String(i % (size / 10))}.service`], { rotate: 'monthly' })).join(''));
      spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(root, 'etc/ssh/ssh_host_ed25519_key')]);
      spawnSync(process.execPath, ['dist/auxcred.cjs', 'seal', '--no-recovery', `--root=${root}`]);
      return root;
    });
    const verbs: readonly (readonly [string, (root: string) => string[]])[] = [
      ['check', (root) => ['dist/auxcred.cjs', 'check', `--root=${root}`]],
      ['plan', (root) => ['dist/auxcred.cjs', 'plan', `--root=${root}`]],
      ['generator', (root) => ['dist/auxcred-generator.cjs', join(root, 'out'), root]],
      ['apply', (root) => ['dist/auxcred.cjs', 'apply', `--root=${root}`]],
      ['plan, nothing to do', (root) => ['dist/auxcred.cjs', 'plan', `--root=${root}`]],
    ];
    for (const [what, argv] of verbs) {
      const [small = Number.NaN, large = Number.NaN] = roots.map((root) => median(Array.from({ length: what === 'apply' ? 1 : 3 }, () => {
        const start = performance.now();
        const { status, stderr } = spawnSync(process.execPath, argv(root), { encoding: 'utf8', maxBuffer: 64 << 20 });
        if (status !== 0) throw new Error(`${what}: ${stderr.slice(-500)}`);
        return performance.now() - start;
      })));
      compare(`${what}, 10,000 secrets`, 'auxcred', large, '2,500 secrets', small, 4.4);
    }
    const [one = ''] = roots;
    writeFileSync(join(folder, 'master'), 'correct horse battery staple\n');
    writeFileSync(join(one, 'etc/auxcred/secrets.d/web.toml'), secretToml('key', ['unit.service'], { kind: 'password' }));
    spawnSync(process.execPath, ['dist/auxcred.cjs', 'apply', `--root=${one}`]);
    const times = timeCommands(15, { ours: [process.execPath, 'dist/auxcred.cjs', 'get', 'key', `--root=${one}`], gokey: ['gokey', '-P', join(folder, 'master'), '-r', 'example.com', '-l', '32'], node: [process.execPath, '-e', '0'] });
    compare('one derived password', 'auxcred get', times.ours, 'gokey', times.gokey, undefined);
    compare('one derived password', 'auxcred get', times.ours, 'node -e 0', times.node, undefined);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** A machine's root folder with so many secrets, one in four of them a fixed one, on three tenths as many units, sealed to its host key. */
function benchRoot(root: string, size: number): { apply: (generation?: number) => void } {
  for (const path of ['etc/auxcred/secrets.d', 'etc/ssh']) mkdirSync(join(root, path), { recursive: true });
  writeFileSync(join(root, 'etc/hostname'), 'bench\n');
  writeFileSync(join(root, 'etc/group'), 'root:x:0:\n');
  const must = (program: string, args: readonly string[]): void => {
    const { status, stderr } = spawnSync(program, args, { encoding: 'utf8', maxBuffer: 64 << 20 });
    if (status !== 0) throw new Error(`${program} ${args.join(' ')}: ${stderr.slice(-500)}`);
  };
  const manifest = (generation: number): string => Array.from({ length: size }, (_, i) => {
    const units = [`unit-${String(i % (0.3 * size))}.service`];
    return i % 4 === 0 ? secretToml(`key-${String(i)}`, units, { kind: 'fixed' }) : secretToml(`key-${String(i)}`, units, { rotate: 'yearly', generation: i === 1 ? generation : 1 });
  }).join('');
  must('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(root, 'etc/ssh/ssh_host_ed25519_key')]);
  must(process.execPath, ['dist/auxcred.cjs', 'seal', '--no-recovery', `--root=${root}`]);
  const values = join(root, 'values');
  mkdirSync(values);
  for (let i = 0; i < size; i += 4) writeFileSync(join(values, `key-${String(i)}`), `value ${String(i)}`);
  must(process.execPath, ['dist/auxcred.cjs', 'import', values, 'host/bench', `--root=${root}`]);
  return {
    apply: (generation = 1) => {
      writeFileSync(join(root, 'etc/auxcred/secrets.d/web.toml'), manifest(generation));
      must(process.execPath, ['dist/auxcred.cjs', 'apply', `--root=${root}`]);
    },
  };
}

/** 1,000 secrets on 300 units: for the first time, with one of them changed, with nothing to do, and beside 250 secrets on 75. */
function benchProvision(): void {
  const folder = mkdtempSync('/dev/shm/bench-');
  try {
    const timed = (work: () => void): number => {
      const start = performance.now();
      work();
      return performance.now() - start;
    };
    const [small, large] = [join(folder, '250'), join(folder, '1000')];
    const machines = [benchRoot(small, 250), benchRoot(large, 1000)] as const;
    const first: number[][] = [[], []];
    const changed: number[][] = [[], []];
    for (let round = 0; round < 5; round++) {
      for (const [i, { apply }] of machines.entries()) {
        const root = i === 0 ? small : large;
        for (const path of ['var/lib/auxcred/provisioned', 'var/lib/auxcred/generations', 'etc/auxcred/rendered']) rmSync(join(root, path), { recursive: true, force: true });
        first[i]?.push(timed(() => { apply(); }));
        changed[i]?.push(timed(() => { apply(2 + round); }));
      }
    }
    const auxcred = (verb: string, root: string): string[] => [process.execPath, 'dist/auxcred.cjs', verb, `--root=${root}`];
    const times = timeCommands(15, {
      provision: auxcred('provision', large), provisionSmall: auxcred('provision', small), apply: auxcred('apply', large), plan: auxcred('plan', large), node: [process.execPath, '-e', '0'],
      creds: ['sh', '-c', 'echo value | systemd-creds --with-key=tpm2-absent encrypt - -'],
    });
    const [firstSmall = Number.NaN, firstLarge = Number.NaN] = first.map(median);
    const [changedSmall = Number.NaN, changedLarge = Number.NaN] = changed.map(median);
    compare('apply for the first time, each of 1,000 secrets', 'auxcred', firstLarge / 1000, 'systemd-creds encrypt', times.creds, 1);
    compare('apply for the first time, 1,000 secrets', 'auxcred', firstLarge, '250 secrets', firstSmall, 4.4);
    compare('apply, one of 1,000 secrets changed', 'auxcred', changedLarge, 'node -e 0', times.node, undefined);
    compare('apply, one secret changed, 1,000 secrets', 'auxcred', changedLarge, '250 secrets', changedSmall, 4.4);
    compare('provision, nothing to do, 1,000 secrets', 'auxcred', times.provision, 'node -e 0', times.node, undefined);
    compare('provision, nothing to do, 1,000 secrets', 'auxcred', times.provision, '250 secrets', times.provisionSmall, 4.4);
    compare('provision, nothing to do, 1,000 secrets', 'auxcred', times.provision, '150 ms', 150, 1);
    compare('apply, nothing to do, 1,000 secrets', 'auxcred', times.apply, 'node -e 0', times.node, undefined);
    compare('plan, nothing to do, 1,000 secrets', 'auxcred', times.plan, 'node -e 0', times.node, undefined);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Pushes to many hosts over one real sshd: each host is a root folder that the login's key chooses. All against `ssh HOST true`, as many at once. */
async function benchPush(): Promise<void> {
  const folder = mkdtempSync('/dev/shm/bench-');
  const at = (path: string): string => join(folder, path);
  const must = (program: string, args: readonly string[], input = ''): string => {
    const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8', input, env: { PATH: process.env['PATH'], HOME: folder, AUXCRED_IDENTITY: at('identity') } });
    if (status !== 0) throw new Error(`${program} ${args.slice(0, 3).join(' ')}: ${stderr.slice(-500)}`);
    return stdout.trim();
  };
  const newKey = (file: string): void => { must('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', at(file)]); };
  const port = await freePort();
  const hosts = Array.from({ length: 100 }, (_, i) => `h${String(i)}`);
  for (const path of ['keys', 'vault', 'hosts']) mkdirSync(at(path));
  newKey('server');
  const logins = hosts.map((host) => {
    newKey(`keys/${host}`);
    for (const path of ['etc/ssh', 'etc/auxcred']) mkdirSync(at(`hosts/${host}/${path}`), { recursive: true });
    newKey(`hosts/${host}/etc/ssh/ssh_host_ed25519_key`);
    writeFileSync(at(`hosts/${host}/etc/group`), 'root:x:0:\n');
    return `command="ROOT=${at(`hosts/${host}`)} ${at('login')}" ${readFileSync(at(`keys/${host}.pub`), 'utf8').trim()}`;
  });
  writeFileSync(at('authorized_keys'), `${logins.join('\n')}\n`);
  writeFileSync(at('login'), '#!/bin/sh\nPATH="$(dirname "$0"):$PATH" exec sh -c "$SSH_ORIGINAL_COMMAND"\n', { mode: 0o755 });
  writeFileSync(at('auxcred'), `#!/bin/sh\nexec '${process.execPath}' '${join(process.cwd(), 'dist/auxcred.cjs')}' "$@" --root="$ROOT"\n`, { mode: 0o755 });
  writeFileSync(at('sudo'), '#!/bin/sh\nshift; exec "$@"\n', { mode: 0o755 });
  writeFileSync(at('sshd'), `ListenAddress 127.0.0.1:${String(port)}\nHostKey ${at('server')}\nAuthorizedKeysFile ${at('authorized_keys')}\nStrictModes no\nUsePAM no\nPidFile none\nMaxStartups 200\nPermitRootLogin prohibit-password\n`);
  writeFileSync(at('known_hosts'), `bench ${readFileSync(at('server.pub'), 'utf8')}`);
  writeFileSync(at('ssh'), `Host h*\nHostName 127.0.0.1\nPort ${String(port)}\nUser ${userInfo().username}\nIdentityFile ${at('keys')}/%n\nIdentitiesOnly yes\nUserKnownHostsFile ${at('known_hosts')}\nHostKeyAlias bench\nBatchMode yes\n`);
  if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
  const sshd = spawn('/usr/sbin/sshd', ['-D', '-f', at('sshd')], { stdio: 'ignore' });
  try {
    must('age-keygen', ['-o', at('identity')]);
    must(process.execPath, ['dist/auxcred.cjs', 'init', `--vault=${at('vault')}`, `--recipient=${must('age-keygen', ['-y', at('identity')])}`]);
    writeFileSync(at('vault/vault.toml'), `ssh = ["ssh", "-T", "-F", "${at('ssh')}"]\n${hosts.map((host) => `[host.${host}]\ngroups = ["all"]\ntarget = "${host}"\n`).join('')}`);
    for (const name of ['group/all/token', ...hosts.map((host) => `host/${host}/api`)]) must(process.execPath, ['dist/auxcred.cjs', 'put', name, `--vault=${at('vault')}`], 'a token');
    mkdirSync(at('vault/all'));
    writeFileSync(at('vault/all/web.toml'), secretToml('session', ['web.service']) + '[secret.api]\nkind = "fixed"\nunits = ["api.service"]\n[secret.token]\nkind = "fixed"\nshare = "all"\nunits = ["web.service"]\n');
    const ssh = ['ssh', '-T', '-F', at('ssh')] as const;
    for (let i = 0; i < 200 && spawnSync(ssh[0], [...ssh.slice(1), 'h0', 'true']).status !== 0; i++) await sleep(50);
    const timed = (program: string, args: readonly string[], input = ''): number => {
      const started = performance.now();
      must(program, args, input);
      return performance.now() - started;
    };
    const jobs = 16;
    const bare = (names: readonly string[]): number => timed('xargs', ['-P', String(jobs), '-I', '{}', ...ssh, '{}', 'true'], `${names.join('\n')}\n`) / names.length;
    const push = (names: readonly string[]): number => timed(process.execPath, ['dist/auxcred.cjs', 'push', `--vault=${at('vault')}`, '--manifest', `--jobs=${String(jobs)}`, ...names]);
    // Everything anew, for the smaller number and then for all.
    const few = push(hosts.slice(0, 25));
    for (const host of hosts.slice(0, 25)) for (const path of ['var', 'etc/auxcred']) rmSync(at(`hosts/${host}/${path}`), { recursive: true });
    const all = push(hosts);
    const calm = median([1, 2, 3].map(() => push(hosts)));
    const floor = median([1, 2, 3].map(() => bare(hosts)));
    compare('push, first, each of 100 hosts', 'auxcred', all / hosts.length, 'ssh HOST true', floor, undefined);
    compare('push, first, 100 hosts', 'auxcred', all, '25 hosts', few, 4.4);
    compare('push, nothing to do, each of 100 hosts', 'auxcred', calm / hosts.length, 'ssh HOST true', floor, undefined);
    const one = timeCommands(11, { receive: ['sh', '-c', `echo '{"do":"nothing","protocol":1}' | ${ssh.join(' ')} h0 auxcred receive`], bare: [...ssh, 'h0', 'true'] });
    const more = one.receive - one.bare;
    rows.push({ what: 'receive, nothing to do', measured: `ssh HOST auxcred receive ${ms(one.receive)}`, against: `ssh HOST true ${ms(one.bare)}`, ratio: `+ ${ms(more)}`, goal: `<= + 150 ms ${more <= 150 ? 'met' : 'MISSED'}` });
  } finally {
    sshd.kill();
    rmSync(folder, { recursive: true });
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  const address = server.address();
  await new Promise((resolve) => { server.close(resolve); });
  if (address === null || typeof address === 'string') throw new Error('no port is free');
  return address.port;
}

const count = 100;

/** 100 units with a secret each, started at once, in four ways. */
async function benchDelivery(machine: Machine): Promise<void> {
  const ways = ['file', 'socket', 'stage', 'creds'] as const;
  for (const way of ways) await machine.write(`/run/make-${way}`, `for i in $(seq 1 ${String(count)}); do printf '[Service]\\nType=oneshot\\nExecStart=/bin/true\\n${{ file: 'LoadCredential=key:/etc/bench.secret', creds: 'LoadCredentialEncrypted=key:/etc/bench.cred', socket: '', stage: '' }[way]}\\n' > /etc/systemd/system/${way}-$i.service; done`);
  const units = (way: string): string[] => Array.from({ length: count }, (_, i) => `${way}-${String(i + 1)}.service`);
  await machine.shell('for way in file socket stage creds; do sh /run/make-$way; done; printf %064d 1 > /etc/bench.secret; systemd-creds --with-key=host --name=key encrypt /etc/bench.secret /etc/bench.cred');
  await machine.write(manifestPath('bench'), secretToml('key', units('socket')) + secretToml('staged', units('stage'), { credential: 'key', delivery: 'stage' }));
  await machine.run(['auxcred', 'apply']);
  const times: Record<(typeof ways)[number], number[]> = { file: [], socket: [], stage: [], creds: [] };
  for (let round = 0; round < 7; round++) {
    for (const way of ways) {
      const { stdout } = await machine.shell(`systemctl stop auxcred.service; systemctl start auxcred.socket; start=$(date +%s%N); systemctl start ${units(way).join(' ')}; echo $(( $(date +%s%N) - start ))`, { timeoutMs: 120_000 });
      times[way].push(Number(stdout) / 1e6);
    }
  }
  const file = median(times.file);
  compare(`${String(count)} units, socket (cold broker)`, 'auxcred', median(times.socket), 'LoadCredential= of a file', file, 1.15);
  compare(`${String(count)} units, stage (cold broker)`, 'auxcred', median(times.stage), 'LoadCredential= of a file', file, undefined);
  compare(`${String(count)} units, systemd-creds (host key)`, 'systemd-creds', median(times.creds), 'LoadCredential= of a file', file, undefined);
}

/** Starts the broker by itself, as systemd would, and asks it from within a unit that it knows. Prints milliseconds of both, a line a round. */
const coldStart = `
use Socket; use Fcntl;
# clock_gettime(CLOCK_MONOTONIC); perl-base has no module for it.
sub now { my $t = pack('qq', 0, 0); syscall(${String(process.arch === 'arm64' ? 113 : 228)}, 1, $t); my ($s, $n) = unpack('qq', $t); return $s + $n / 1e9 }
for my $round (1..25) {
    my $start = now(); system('/usr/bin/node', '-e', '0'); my $bare = now() - $start;
    my $path = "/run/cold.$round";
    socket(my $listener, AF_UNIX, SOCK_STREAM, 0) or die; bind($listener, pack_sockaddr_un($path)) or die; listen($listener, 8) or die;
    $start = now();
    my $pid = fork // die;
    if (!$pid) {
        # $^F and the close-on-exec flag would take the descriptor away from the broker.
        require POSIX; POSIX::dup2(fileno($listener), 3); open(my $keep, '+<&=', 3); fcntl($keep, F_SETFD, 0);
        %ENV = (PATH => '/usr/bin', LISTEN_PID => $$, LISTEN_FDS => 1, LISTEN_FDNAMES => 'credentials', CREDENTIALS_DIRECTORY => '/run/cold');
        exec('/usr/bin/node', '--jitless', '/usr/lib/auxcred/auxcred-broker.cjs') or die;
    }
    socket(my $client, AF_UNIX, SOCK_STREAM, 0) or die; bind($client, pack_sockaddr_un("\\0ab$round/unit/cold.service/key")) or die;
    connect($client, pack_sockaddr_un($path)) or die; shutdown($client, 1);
    my $answer = ''; while (sysread($client, my $part, 65536)) { $answer .= $part }
    my $first = now() - $start;
    die length($answer) unless length($answer) == 64;
    kill 'TERM', $pid; waitpid $pid, 0; unlink $path;
    printf "%.3f %.3f\\n", $bare * 1000, $first * 1000;
}
`;

async function benchColdStart(machine: Machine): Promise<void> {
  await machine.write('/usr/local/lib/cold.pl', coldStart);
  await machine.write('/etc/systemd/system/cold.service', '[Service]\nType=oneshot\nExecStart=/usr/bin/perl /usr/local/lib/cold.pl\nStandardOutput=truncate:/run/cold.out\n');
  await machine.write(manifestPath('cold'), secretToml('cold', ['cold.service'], { credential: 'key' }));
  await machine.shell('mkdir -p /run/cold; cp /etc/ssh/ssh_host_ed25519_key /run/cold/ssh-host-key; auxcred apply');
  await machine.run(['systemctl', 'start', 'cold.service'], { timeoutMs: 120_000 });
  const times = (await machine.read('/run/cold.out')).toString().trim().split('\n').map((line) => line.split(' ').map(Number));
  compare('broker, cold start to first answer', 'auxcred', median(times.map(([, first = Number.NaN]) => first)), 'node -e 0', median(times.map(([bare = Number.NaN]) => bare)), 2);
}

/** TPM commands for 1, 10 and 100 secrets: the broker unseals once, systemd-creds once a secret. */
async function benchTpm(): Promise<void> {
  let proxy: TpmProxy | undefined;
  const machine = await auxcredMachine({
    systemd: '257', name: 'bench',
    tpm: async (folder) => {
      const swtpm = await startSwtpm({ folder, pcrs: { 7: ['a7'.repeat(32)] } });
      swtpm.tool('tpm2_createprimary', '-C', 'o', '-G', 'ecc256:null:aes128cfb', '-a', 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt', '-c', 'srk.ctx');
      swtpm.tool('tpm2_flushcontext', '-t');
      swtpm.tool('tpm2_evictcontrol', '-C', 'o', '-c', 'srk.ctx', '0x81000001');
      proxy = await startTpmProxy(swtpm.device, () => undefined, folder);
      return { device: proxy.device, stop: async () => { await proxy?.stop(); await swtpm.stop(); } };
    },
  });
  try {
    await machine.boot();
    const device = machine.tpm?.device ?? '';
    await machine.run(['auxcred', 'seal', '--with-key=tpm2', `--tpm2-device=${device}`, '--tpm2-pcrs=7', '--no-recovery']);
    for (const secrets of [1, 10, 100]) {
      const units = Array.from({ length: secrets }, (_, i) => `tpm-${String(i)}.service`);
      await machine.shell(`for i in $(seq 0 ${String(secrets - 1)}); do printf '[Service]\\nType=oneshot\\nExecStart=/bin/true\\n' > /etc/systemd/system/tpm-$i.service; done`);
      await machine.write(manifestPath('tpm'), secretToml('key', units));
      await machine.run(['auxcred', 'apply']);
      const counted = async (work: () => Promise<unknown>): Promise<number> => {
        const before = proxy?.commands.length ?? 0;
        await work();
        return (proxy?.commands.length ?? 0) - before;
      };
      const ours = await counted(async () => await machine.run(['systemctl', 'start', ...units], { timeoutMs: 120_000 }));
      await machine.shell(`printf secret | SYSTEMD_TPM2_DEVICE=${device} systemd-creds --with-key=tpm2 --tpm2-pcrs=7 --name=key encrypt - /etc/tpm.cred`);
      const theirs = await counted(async () => await machine.shell(`for i in $(seq ${String(secrets)}); do SYSTEMD_TPM2_DEVICE=${device} systemd-creds --name=key decrypt /etc/tpm.cred - > /dev/null; done`, { timeoutMs: 300_000 }));
      await machine.systemctl('stop', 'auxcred.service');
      // Two of them are for the counter, which systemd-creds has not.
      rows.push({ what: `TPM commands, ${String(secrets)} secrets`, measured: `auxcred ${String(ours)}`, against: `systemd-creds ${String(theirs)}`, ratio: `${(ours / theirs).toFixed(2)} x`, goal: `<= 12, constant ${ours <= 12 ? 'met' : 'MISSED'}` });
    }
  } finally {
    await machine.destroy();
  }
}

benchKinds();
benchFixed();
benchGrowth();
benchProvision();
benchGenerator();
await benchPush();
const machine = await auxcredMachine({ systemd: '257', name: 'bench' });
try {
  await machine.boot();
  await machine.run(['auxcred', 'seal', '--no-recovery']);
  await benchDelivery(machine);
  await benchColdStart(machine);
} finally {
  await machine.destroy();
}
await benchTpm();
const heading: Row = { what: 'what', measured: 'measured', against: 'against', ratio: 'ratio', goal: 'goal' };
const columns = ['what', 'measured', 'against', 'ratio', 'goal'] as const;
const widths = columns.map((column) => Math.max(...[heading, ...rows].map((row) => row[column].length)));
for (const row of [heading, ...rows]) console.log(columns.map((column, i) => row[column].padEnd(widths[i] ?? 0)).join('  ').trimEnd());
