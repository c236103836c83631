/**
 * nixos/package.nix, evaluated with stand-ins for nixpkgs: what it names has to exist in what `npm run build` makes.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { before, describe, test } from 'node:test';
import { Json } from '../../src/system/json.ts';
import { filesIn, program, scratch, succeed } from '../package/built.ts';
import { evaluated } from './expression.ts';

/** Stands for nixpkgs: each package is a path that tells its name. */
const standIns = (architecture: string): string => `
  let
    package = name: { inherit name; outPath = "/nix/store/" + name; };
    lib = {
      cleanSource = path: toString path;
      cleanSourceWith =
        { src, filter }:
        { kept = builtins.filter (name: filter "\${src}/\${name}" null) [ "src" "dist" "nixos" "node_modules" ]; };
      getLib = package: package.outPath + "-lib";
      getExe = package: package.outPath + "/bin/node";
      licenses.mit = "MIT";
      genAttrs = names: make: builtins.listToAttrs (map (name: { inherit name; value = make name; }) names);
      mapAttrsToList = make: set: builtins.attrValues (builtins.mapAttrs make set);
      concatStringsSep = builtins.concatStringsSep;
    };
    made = import ${resolve('nixos/package.nix')} {
      inherit lib;
      stdenv = {
        hostPlatform.isAarch64 = ${String(architecture === 'arm64')};
        cc.cc.lib = package "gcc";
      };
      autoPatchelfHook = package "autoPatchelf";
      buildNpmPackage = arguments: arguments;
      importNpmLock = {
        __functor = _: given: given;
        npmConfigHook = package "npmConfigHook";
      };
      libxcrypt = package "libxcrypt";
      nodejs_22 = package "nodejs";
      tpm2-tss = package "tpm2-tss";
    };
  in
  {
    inherit (made.src) kept;
    inherit (made) pname version preBuild installPhase postInstall;
    packages = builtins.mapAttrs (_: entry: entry.resolved or "") made.npmDeps.packageLock.packages;
  }`;

describe('package.nix', () => {
  let made: Json;
  const text = (key: string): string => made.at(key).text();
  before(() => {
    made = Json.of(evaluated(standIns(process.arch)), 'package.nix', '');
  });

  test('has the name and version of package.json', () => {
    const manifest = Json.parse(readFileSync('package.json'), 'package.json', '');
    assert.equal(text('pname'), manifest.at('name').text());
    assert.equal(text('version'), manifest.at('version').text());
  });

  test('takes the sources alone', () => {
    assert.deepEqual(
      made
        .at('kept')
        .list()
        .map((name) => name.text()),
      ['src', 'nixos'],
    );
  });

  test('links exactly the libraries that the bundles open', () => {
    const links = [...text('installPhase').matchAll(/^ *ln -s (\S+) "\$out\/lib\/auxcred\/(\S+)"$/gm)];
    const names = links.map(([, target = '', name = '']) => {
      assert.match(target, new RegExp(`^/nix/store/\\S+-lib/lib/${name.replaceAll('.', '\\.')}$`));
      return name;
    });
    const parts = readdirSync('dist/parts').map((name) => `parts/${name}`);
    const bundles = ['auxcred.cjs', 'auxcred-broker.cjs', ...parts].map((name) => readFileSync(`dist/${name}`, 'utf8'));
    const opened = bundles.flatMap((bundle) =>
      [...bundle.matchAll(/["'`](lib[a-z0-9-]+\.so\.\d)["'`]/g)].map(([, name = '']) => name),
    );
    // glibc is loaded already, and libcrypt.so.1 is not NixOS'.
    const others = opened.filter((name) => name !== 'libc.so.6' && name !== 'libcrypt.so.1');
    assert.deepEqual([...new Set(others)].sort(), names.sort());
  });

  test('installs into a store path, and removes what NixOS makes itself', () => {
    using folder = scratch();
    const out = '/nix/store/auxcred-0';
    const command = [
      program('install'),
      `--destdir=${folder.path}`,
      `--prefix=${out}`,
      '--node=/nix/store/nodejs/bin/node',
    ];
    succeed(process.execPath, ...command);
    const installed = join(folder.path, out);
    assert.ok(text('installPhase').includes('install.js --destdir="$PWD/installed" --prefix="$out"'));
    const removed = [...text('postInstall').matchAll(/"\$out\/([^"]+)"/g)].map(([, path = '']) => path);
    assert.equal(removed.length, 3);
    for (const path of removed) {
      assert.ok(existsSync(join(installed, path)), path);
      rmSync(join(installed, path), { recursive: true });
    }
    const files = filesIn(installed);
    for (const part of [
      'bin/auxcred',
      'lib/auxcred/koffi.node',
      'lib/systemd/system/auxcred.service',
      'share/man/man1/',
    ])
      assert.ok(
        files.some((file) => file.startsWith(part)),
        part,
      );
    for (const file of files.filter((name) => name.startsWith('lib/systemd/system/'))) {
      const unit = readFileSync(join(installed, file), 'utf8');
      assert.doesNotMatch(unit, /@[a-z]+@|\/usr\/bin\/node/, file);
    }
  });

  test('patches native files that exist', () => {
    const folders = [...text('preBuild').matchAll(/node_modules\/\S+/g)].map(([path]) => path);
    assert.equal(folders.length, 2);
    for (const folder of folders) assert.ok(existsSync(folder), folder);
    for (const folder of Json.of(evaluated(standIns('arm64')), 'package.nix', '')
      .at('preBuild')
      .text()
      .matchAll(/node_modules\/\S+/g))
      assert.ok(made.at('packages').at(folder[0]).text() !== '', folder[0]);
  });

  test('fetches every package of the lock file from its place in the registry', () => {
    const packages = made.at('packages').entries();
    assert.ok(packages.length > 50);
    for (const [path, address] of packages) {
      if (path === '') continue;
      const name = path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);
      assert.match(
        address.text(),
        new RegExp(`^https://registry\\.npmjs\\.org/${name}/-/[^/]+-\\d+\\.\\d+\\.\\d[^/]*\\.tgz$`),
      );
    }
  });
});
