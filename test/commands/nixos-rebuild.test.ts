import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import { program, type Said, works } from '../cli.ts';
import { furnish } from './root.ts';

/** The operator's folder: a vault, and the root folder of a host that is already sealed. */
let folder = '';
const at = (path: string): string => join(folder, path);

/** A stand-in for nixos-rebuild, which Debian does not have: writes down how it was called, and ends as it is told. */
const standIn = `#!/bin/sh
printf '%s\\n' "rebuild $*" >> "$RECORD"
echo "output of $1"
if [ "$1" = build ]; then ln -s /nix/store/of-a-test result; exit "\${BUILD:-0}"; fi
exit "\${DEPLOY:-0}"
`;
/** In place of ssh: runs the host's side of a push here, on its root folder. */
const ssh = `#!/bin/sh
printf '%s\\n' "ssh $1" >> "$RECORD"
exec ${process.execPath} ${program} receive --root="$HOST_ROOT"
`;

const rebuild = (args: readonly string[], env: NodeJS.ProcessEnv = {}): Said => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, 'nixos-rebuild', ...args], {
    encoding: 'utf8',
    cwd: at('configuration'),
    env: {
      PATH: `${at('bin')}:${String(process.env['PATH'])}`,
      RECORD: at('record'),
      HOST_ROOT: at('web1'),
      AUXCRED_VAULT: at('vault'),
      AUXCRED_IDENTITY: at('identity'),
      ...env,
    },
  });
  return { status, stdout, stderr };
};
/** What was called, in order. */
const calls = (): string[] => readFileSync(at('record'), 'utf8').split('\n').slice(0, -1);
const fixedOnHost = (): string => works(['get', `--root=${at('web1')}`, 'wifi']).stdout;

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'nixos-rebuild-'));
  for (const name of ['bin', 'configuration', 'web1']) mkdirSync(at(name));
  writeFileSync(at('bin/nixos-rebuild'), standIn, { mode: 0o755 });
  writeFileSync(at('bin/host-ssh'), ssh, { mode: 0o755 });
  furnish(at('web1'), '[secret.wifi]\nkind = "fixed"\nunits = ["iwd.service"]\n');
  assert.equal(spawnSync('age-keygen', ['-o', at('identity')]).status, 0);
  const recipient = spawnSync('age-keygen', ['-y', at('identity')], { encoding: 'utf8' }).stdout.trim();
  works(['init', `--vault=${at('vault')}`, `--recipient=${recipient}`]);
  writeFileSync(at('vault/vault.toml'), 'ssh = ["host-ssh"]\n[host.web1]\n[host.web2]\n');
});
beforeEach(() => {
  writeFileSync(at('record'), '');
});
after(() => {
  rmSync(folder, { recursive: true });
});

const put = (value: string): void => {
  works(['put', '--force', 'host/web1/wifi'], {
    input: value,
    env: { AUXCRED_VAULT: at('vault'), AUXCRED_IDENTITY: at('identity') },
  });
};

describe('auxcred nixos-rebuild, with a stand-in for nixos-rebuild', () => {
  test('builds, pushes, then deploys, with the options as they were given', () => {
    put('first');
    const { status, stdout, stderr } = rebuild([
      'switch',
      ...['--flake', '.#web1', '--target-host', 'root@web1', '--no-build-nix', '--option', 'x', 'a b', '-v'],
    ]);
    assert.equal(status, 0, stderr);
    const options = '--flake .#web1 --target-host root@web1 --no-build-nix --option x a b -v';
    assert.deepEqual(calls(), [`rebuild build ${options}`, 'ssh root@web1', `rebuild switch ${options}`]);
    assert.equal(stdout, 'output of switch\n', 'standard output is that of the deployment alone');
    assert.match(stderr, /web1: secrets: done/);
    assert.equal(fixedOnHost(), 'first');
    assert.throws(() => readlinkSync(at('configuration/result')), /ENOENT/);
  });

  test('sends nothing if the configuration does not build, and deploys nothing if the push fails', () => {
    put('second');
    const broken = rebuild(['switch', '--target-host=web1'], { BUILD: '3' });
    assert.deepEqual([broken.status, calls()], [3, ['rebuild build --target-host=web1']]);
    assert.equal(fixedOnHost(), 'first');
    const unreachable = rebuild(['boot', '--target-host=web1'], { HOST_ROOT: at('missing') });
    assert.notEqual(unreachable.status, 0);
    assert.ok(!calls().includes('rebuild boot --target-host=web1'));
  });

  test('ends with the status of the deployment', () => {
    assert.equal(rebuild(['test', '--target-host', 'web1'], { DEPLOY: '100' }).status, 100);
    assert.equal(fixedOnHost(), 'second');
  });

  test('a dry run asks the host, changes nothing there, and rehearses', () => {
    put('third');
    for (const [args, rehearsal] of [
      [['--dry-run', 'switch', '--target-host', 'web1', '--fast'], 'dry-activate'],
      [['boot', '--dry-run', '--target-host', 'web1', '--fast'], 'dry-build'],
    ] as const) {
      writeFileSync(at('record'), '');
      const { status, stderr } = rebuild(args);
      assert.equal(status, 0, stderr);
      assert.match(stderr, /web1: would send host\/web1\/wifi/);
      assert.deepEqual(calls(), ['ssh root@web1', `rebuild ${rehearsal} --target-host web1 --fast`]);
    }
    assert.equal(fixedOnHost(), 'second');
  });

  test('a rollback builds nothing, and has the fixed secrets of today', () => {
    assert.equal(rebuild(['switch', '--rollback', '--target-host', 'web1']).status, 0);
    assert.deepEqual(calls(), ['ssh root@web1', 'rebuild switch --rollback --target-host web1']);
    assert.equal(fixedOnHost(), 'third');
  });

  test('leaves all else to nixos-rebuild', () => {
    for (const args of [['switch'], ['build', '--target-host', 'web1', '--dry-run'], ['list-generations', '--json']]) {
      writeFileSync(at('record'), '');
      const { status, stdout } = rebuild(args);
      assert.deepEqual([status, stdout, calls()], [0, `output of ${String(args[0])}\n`, [`rebuild ${args.join(' ')}`]]);
      rmSync(at('configuration/result'), { force: true });
    }
  });

  test('finds the host by --host if its address does not tell, and keeps a link that was there', () => {
    symlinkSync('/nix/store/of-before', at('configuration/result'));
    const unknown = rebuild(['switch', '--target-host', 'root@192.0.2.7']);
    assert.equal(unknown.status, exitStatus['not-found']);
    assert.deepEqual(calls(), []);
    assert.equal(rebuild(['--host=web1', 'switch', '--target-host', 'root@192.0.2.7']).status, 0);
    assert.equal(calls()[1], 'ssh root@192.0.2.7');
    assert.ok(readlinkSync(at('configuration/result')).startsWith('/nix/store/of-'));
  });

  test('refuses what it would have to guess', () => {
    assert.match(rebuild([]).stderr, /nixos-rebuild needs an action/);
    assert.match(rebuild(['--host=web1', 'build']).stderr, /build pushes nothing, and --host is given/);
    assert.match(
      rebuild(['--timeout=x', 'switch', '--target-host', 'web1']).stderr,
      /--timeout=x is not a whole number/,
    );
    assert.match(
      rebuild(['switch'], { PATH: at('configuration') }).stderr,
      /nixos-rebuild can't be run: there is no such/,
    );
    assert.deepEqual(
      calls().filter((call) => call.startsWith('ssh')),
      [],
    );
  });
});
