/**
 * SIGKILL before every system call that changes a file, by strace's fault injection: afterwards either the old state or
 * the new one is active.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { namesIn } from '../../src/system/files.ts';
import { auxcred, works } from '../cli.ts';
import { createLayer, discardLayer } from '../machine/layer.ts';
import { cannotBoot } from '../machine/machine.ts';
import { debianRoot, isWholeMatrix } from '../machine/root.ts';
import { furnish, listing, manifestIn, stateOf } from './root.ts';

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

const calls = [
  'openat',
  'write',
  'pwrite64',
  'rename',
  'renameat',
  'renameat2',
  'symlink',
  'symlinkat',
  'unlink',
  'unlinkat',
  'mkdir',
  'mkdirat',
  'rmdir',
  'fsync',
  'fdatasync',
  'fchmod',
  'chmod',
  'fchown',
  'chown',
  'link',
  'linkat',
  'ftruncate',
];

let folder = '';
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'killed-'));
});
after(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** Runs auxcred under strace, threads included. */
const traced = (options: readonly string[], args: readonly string[], input = '') =>
  spawnSync('strace', ['-f', '-qq', ...options, process.execPath, 'dist/auxcred.cjs', ...args], {
    encoding: 'utf8',
    input,
    env: { PATH: process.env['PATH'] },
  });

/** A kill before this call leaves what the calls before it wrote. */
interface KillPoint {
  readonly call: string;
  /** Its index among the thread's calls of that name. */
  readonly number: number;
  readonly line: string;
}

/** Whether the files are the same after a call as before it, so that a kill after it leaves nothing else. */
const changesNothing = ({ call, line }: KillPoint): boolean =>
  call === 'fsync' || call === 'fdatasync' || / = -1 E[A-Z]+ \(/.test(line);

/** The system calls that change files below `root`, but one alone of those before which the files are the same. */
function changesOf(root: string, args: readonly string[], input = ''): KillPoint[] {
  const log = join(folder, 'trace');
  const { status, stderr } = traced(
    ['--seccomp-bpf', '-y', '-s', '200', '-e', `trace=${calls.join(',')}`, '-o', log],
    args,
    input,
  );
  assert.equal(status, 0, stderr);
  const counts = new Map<string, number>();
  const changes = readFileSync(log, 'utf8')
    .split('\n')
    .flatMap((line) => {
      const [, thread = '', call = ''] = /^(\d+) +([a-z0-9]+)\(/.exec(line) ?? [];
      if (call === '') return [];
      const number = 1 + (counts.get(`${thread} ${call}`) ?? 0);
      counts.set(`${thread} ${call}`, number);
      return line.includes(root) && (call !== 'openat' || line.includes('O_CREAT')) ? [{ call, number, line }] : [];
    });
  return changes.filter((_, index) => {
    const previous = changes[index - 1];
    return previous === undefined || !changesNothing(previous);
  });
}

/**
 * All of them in `npm run test:all`. Otherwise each third, from a random one on: a run takes a third of the time, and
 * many runs try all.
 */
function sampleOf(points: readonly KillPoint[]): readonly KillPoint[] {
  const step = isWholeMatrix ? 1 : 3;
  const first = randomInt(step);
  return points.filter((_, index) => index % step === first);
}

/** A command to kill, and its root folder. */
interface Trial {
  /** A root in the state before. */
  readonly fresh: () => string;
  readonly args: (root: string) => string[];
  /** How to go on afterwards, if the same command would be refused once it has finished. */
  readonly again: (root: string) => void;
  /** A later change of the store, if `again` may be refused before it sweeps. */
  readonly next?: (root: string) => void;
  /** Checks whatever else is there after a kill. */
  readonly look?: (root: string, line: string) => void;
}

/** Kills `args` before each of its changes, checks what is active, and runs it again. */
async function killEverywhere({ fresh, args, again, next, look }: Trial): Promise<void> {
  const old = await stateOf(fresh());
  const whole = fresh();
  const changes = sampleOf(changesOf(whole, args(whole)));
  again(whole);
  const now = await stateOf(whole);
  next?.(whole);
  const meantToLie = listing(whole);
  assert.notDeepEqual(now, old);
  // Seeds and snapshot are bound to each other only by the counter, so a run that writes both may be killed between
  // them.
  const parts = (state: typeof old) => ({
    seeds: [state.counter, state.recipients],
    snapshot: [state.releases, state.record, state.fixed],
    dropIns: [state.dropIns, state.rendered],
  });
  let killed = 0;
  for (const { call, number, line } of changes) {
    const root = fresh();
    const { signal, status } = traced(
      ['-e', `trace=${call}`, '-e', `inject=${call}:signal=SIGKILL:when=${String(number)}`, '-o', '/dev/null'],
      args(root),
    );
    if (signal === 'SIGKILL' || status === 137) killed++;
    const [was, is, meant] = [old, await stateOf(root), now].map(parts);
    for (const part of ['seeds', 'snapshot', 'dropIns'] as const) {
      const value = JSON.stringify(is?.[part]);
      assert.ok(
        value === JSON.stringify(was?.[part]) || value === JSON.stringify(meant?.[part]),
        `${part} after a kill at ${line}: ${value}`,
      );
    }
    look?.(root, line);
    again(root);
    assert.deepEqual(await stateOf(root), now, `after a kill at ${line}, and again`);
    next?.(root);
    assert.deepEqual(listing(root), meantToLie, `left behind by a kill at ${line}`);
  }
  assert.ok(killed > 0.75 * changes.length, `${String(killed)} of ${String(changes.length)} were killed`);
}

/** Copies of a folder that is created once. */
function copiesOf(name: string, prepare: (root: string) => void): () => string {
  const origin = join(folder, name);
  furnish(origin, older);
  prepare(origin);
  const root = join(folder, `${name}-copy`);
  return () => {
    rmSync(root, { recursive: true, force: true });
    cpSync(origin, root, { recursive: true, verbatimSymlinks: true });
    return root;
  };
}

const putFixed = (root: string): void => {
  for (const name of ['wifi', 'token']) works(['put', name, `--root=${root}`], { input: `value of ${name}` });
};

/** Kills `args` before each of its changes below a copy of the vault `origin`, and checks what is left. */
function killOverVault(
  origin: string,
  args: (vault: string) => string[],
  input: string,
  look: (vault: string, line: string) => void,
): void {
  const vault = join(folder, 'vault-copy');
  const fresh = (): void => {
    rmSync(vault, { recursive: true, force: true });
    cpSync(origin, vault, { recursive: true });
  };
  fresh();
  const changes = changesOf(vault, args(vault), input);
  assert.ok(changes.length > 3);
  for (const { call, number, line } of sampleOf(changes)) {
    fresh();
    const { signal, status } = traced(
      ['-e', `trace=${call}`, '-e', `inject=${call}:signal=SIGKILL:when=${String(number)}`, '-o', '/dev/null'],
      args(vault),
      input,
    );
    assert.ok(signal === 'SIGKILL' || status === 137, `not killed at ${line}`);
    look(vault, line);
  }
}

/** What `git add -A`, by somebody who knows nothing of auxcred, would add beyond what should be added. */
function strayIn(vault: string): string[] {
  const git = (...args: string[]): string => spawnSync('git', ['-C', vault, ...args], { encoding: 'utf8' }).stdout;
  git('init', '-q');
  git('add', '-A');
  return git('ls-files')
    .split('\n')
    .filter(
      (path) =>
        path !== '' &&
        !/^(?:\.gitignore|\.\.gitignore\.\d+\.new|vault\.toml|fixed\/host\/web1\/[ab]\.sealed)$/.test(path),
    );
}

describe('killed at any system call that changes a file', () => {
  test('apply leaves the old state or the new one active, and the next run leaves nothing else', async () => {
    await killEverywhere({
      fresh: copiesOf('apply', (root) => {
        works(['seal', '--no-recovery', `--root=${root}`]);
        putFixed(root);
        works(['apply', `--root=${root}`]);
        // A generation and a rendering to throw away.
        writeFileSync(manifestIn(root), `${older}[secret.b]\nkind = "uuid"\nunits = ["b.service"]\n`);
        works(['apply', `--root=${root}`]);
        writeFileSync(manifestIn(root), newer);
      }),
      args: (root) => ['apply', `--root=${root}`],
      again: (root) => {
        works(['apply', `--root=${root}`]);
      },
    });
  });

  test('seal leaves no seed or one that opens', async () => {
    await killEverywhere({
      fresh: copiesOf('seal', () => undefined),
      args: (root) => ['seal', '--no-recovery', `--root=${root}`],
      again: (root) => {
        const { status, stderr } = auxcred(['seal', '--no-recovery', `--root=${root}`]);
        if (status !== 0) assert.match(stderr, /seeds\.age exists/);
        works(['unseal', `--root=${root}`]);
      },
      next: (root) => {
        works(['reseal', `--root=${root}`]);
      },
    });
  });

  test('reseal leaves the old seeds or the new ones, and what is active with them', async () => {
    await killEverywhere({
      fresh: copiesOf('reseal', (root) => {
        works(['seal', '--no-recovery', `--root=${root}`]);
        putFixed(root);
        works(['apply', `--root=${root}`]);
      }),
      args: (root) => ['reseal', `--add-recipient=${recovery}`, `--root=${root}`],
      again: (root) => {
        if (!works(['unseal', '--json', `--root=${root}`]).stdout.includes(recovery))
          works(['reseal', `--add-recipient=${recovery}`, `--root=${root}`]);
        works(['provision', `--root=${root}`]);
      },
    });
  });

  test('put and rewrap leave no file that git would take, and the next put nothing at all', () => {
    const [origin, identity, other] = ['vault', 'identity', 'other'].map((name) => join(folder, name));
    assert.ok(origin !== undefined && identity !== undefined && other !== undefined);
    const [recipient = '', another = ''] = [identity, other].map((file) => {
      spawnSync('age-keygen', ['-o', file]);
      return spawnSync('age-keygen', ['-y', file], { encoding: 'utf8' }).stdout.trim();
    });
    const common = (vault: string, ...args: string[]): string[] => [
      ...args,
      `--vault=${vault}`,
      `--identity=${identity}`,
    ];
    works(['init', `--vault=${origin}`, `--recipient=${recipient}`]);
    writeFileSync(join(origin, 'vault.toml'), '[host.web1]\n');
    works(common(origin, 'put', 'host/web1/a'), { input: 'old' });
    const whole = listing(origin, ['.']);
    const look = (vault: string, line: string): void => {
      assert.deepEqual(strayIn(vault), [], `after a kill at ${line}`);
      rmSync(join(vault, '.git'), { recursive: true });
      assert.match(works(common(vault, 'get', 'host/web1/a')).stdout, /^(?:old|new)$/, `after a kill at ${line}`);
      works(common(vault, 'put', 'host/web1/a', '--force'), { input: 'newest' });
      assert.deepEqual(listing(vault, ['.']), whole, `left behind by a kill at ${line}`);
    };
    killOverVault(origin, (vault) => common(vault, 'put', 'host/web1/a', '--force'), 'new', look);
    // As an earlier version created it.
    writeFileSync(join(origin, '.gitignore'), 'seed.age\nfetched.json\n');
    killOverVault(
      origin,
      (vault) => common(vault, 'rewrap', `--recipient=${recipient}`, `--recipient=${another}`),
      '',
      look,
    );
  });

  test("apply leaves the old or the new secrets in systemd's credential store, and the next run completes them", {
    skip: cannotBoot,
  }, async () => {
    // systemd-creds runs in that root, so it has to be a complete system.
    const layer = await createLayer([await debianRoot('257')]);
    try {
      const { root } = layer;
      const kept = [
        'etc/auxcred',
        'etc/credstore.encrypted',
        'etc/systemd/system/auxcred.service.d',
        'var/lib/auxcred',
      ];
      const manifest = (generation: number, more: string): string =>
        `[secret.a]\ngeneration = ${String(generation)}\ndelivery = "credstore"\nunits = ["a.service"]\n` +
        `[secret.b]\ndelivery = "credstore"\nunits = ["${more}.service"]\n`;
      furnish(root, manifest(1, 'b'));
      writeFileSync(join(root, 'etc/machine-id'), `${'5a'.repeat(16)}\n`);
      works(['seal', '--no-recovery', `--root=${root}`]);
      works(['apply', `--root=${root}`]);
      writeFileSync(manifestIn(root), manifest(2, 'c'));
      const values = (): string[] =>
        ['1', '2'].map((generation) => works(['get', 'a', `--generation=${generation}`, `--root=${root}`]).stdout);
      const possible = [...values(), works(['get', 'b', `--root=${root}`]).stdout];
      for (const path of kept)
        cpSync(join(root, path), join(folder, 'kept', path), { recursive: true, verbatimSymlinks: true });
      const fresh = (): string => {
        for (const path of kept) {
          rmSync(join(root, path), { recursive: true, force: true });
          cpSync(join(folder, 'kept', path), join(root, path), { recursive: true, verbatimSymlinks: true });
        }
        return root;
      };
      const decrypted = new Set<string>();
      const look = (_: string, line: string): void => {
        const store = join(root, 'etc/credstore.encrypted');
        for (const name of namesIn(store).filter((entry) => !entry.startsWith('.'))) {
          const file = `${name}\n${readFileSync(join(store, name), 'utf8')}`;
          if (decrypted.has(file)) continue;
          decrypted.add(file);
          const { status, stdout } = spawnSync(
            'chroot',
            [
              root,
              'systemd-creds',
              'decrypt',
              `--name=${name.split('.').at(-1) ?? ''}`,
              `/etc/credstore.encrypted/${name}`,
              '-',
            ],
            { encoding: 'utf8' },
          );
          assert.ok(status === 0 && possible.includes(stdout), `${name} after a kill at ${line}`);
        }
      };
      await killEverywhere({
        fresh,
        args: () => ['apply', `--root=${root}`],
        again: () => {
          works(['apply', `--root=${root}`]);
        },
        look,
      });
    } finally {
      discardLayer(layer.id);
    }
  });
});
