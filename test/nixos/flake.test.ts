/** flake.nix, evaluated by nix itself over a stand-in for nixpkgs. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

/** Packages are the files that they are called from, and tests are their names. */
const nixpkgs = `{
  outputs = _: rec {
    lib = {
      genAttrs = names: make: builtins.listToAttrs (map (name: { inherit name; value = make name; }) names);
      mapAttrs = builtins.mapAttrs;
    };
    legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (system: {
      callPackage = file: _: { called = baseNameOf file; inherit system; };
      stdenv = { hostPlatform = { inherit system; }; cc.cc.lib = "libstdc++"; };
      testers.runNixOSTest = file: (import file).name;
      mkShell = shell: shell;
      lib.makeLibraryPath = builtins.concatStringsSep ":";
      nodejs_22 = "node";
      age = "age";
      swtpm = "swtpm";
      tpm2-tools = "tpm2-tools";
      tpm2-tss = "tpm2-tss";
      libxcrypt = "libxcrypt";
    });
  };
}`;
describe('the flake', () => {
  let folder = '';
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'flake-'));
    for (const name of ['flake.nix', 'nixos']) cpSync(name, join(folder, 'auxcred', name), { recursive: true });
    mkdirSync(join(folder, 'nixpkgs'));
    writeFileSync(join(folder, 'nixpkgs/flake.nix'), nixpkgs);
  });
  after(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  /** An output, of which `apply` makes what JSON can say. */
  function output(name: string, apply = 'output: output'): unknown {
    const { status, stdout, stderr } = spawnSync(
      'nix',
      [
        ...['--extra-experimental-features', 'nix-command flakes', '--store', join(folder, 'store')],
        ...['eval', '--offline', '--json', '--no-write-lock-file', '--apply', apply],
        ...[
          '--override-input',
          'nixpkgs',
          `path:${join(folder, 'nixpkgs')}`,
          `path:${join(folder, 'auxcred')}#${name}`,
        ],
      ],
      {
        encoding: 'utf8',
        env: { PATH: process.env['PATH'], HOME: folder, NIX_CONFIG: 'build-users-group =\nsandbox = false' },
      },
    );
    assert.equal(status, 0, stderr);
    return JSON.parse(stdout);
  }
  const forAll = (value: (system: string) => unknown): unknown =>
    Object.fromEntries(['aarch64-linux', 'x86_64-linux'].map((system) => [system, value(system)]));
  const built = (system: string): unknown => ({ called: 'package.nix', system });

  test('has the package, its checks and a shell for both architectures', () => {
    assert.deepEqual(
      output('packages'),
      forAll((system) => ({ auxcred: built(system), default: built(system) })),
    );
    assert.deepEqual(
      output('checks'),
      forAll((system) => ({
        'first-boot': 'auxcred-first-boot',
        switch: 'auxcred-switch',
        tpm: 'auxcred-tpm',
        package: built(system),
      })),
    );
    assert.deepEqual(
      output('devShells'),
      forAll(() => ({
        default: {
          packages: ['node', 'age', 'swtpm', 'tpm2-tools'],
          LD_LIBRARY_PATH: 'tpm2-tss:libxcrypt:libstdc++',
        },
      })),
    );
  });

  test('has the module and the overlay', () => {
    const named = 'builtins.mapAttrs (_: module: baseNameOf module)';
    assert.deepEqual(output('nixosModules', named), { auxcred: 'module.nix', default: 'module.nix' });
    const applied = 'overlay: overlay { callPackage = file: _: baseNameOf file; } { }';
    assert.deepEqual(output('overlays.default', applied), { auxcred: 'package.nix' });
  });
});
