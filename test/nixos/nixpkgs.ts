/** The parts of a nixpkgs that the tests of the NixOS module run over: it is too large to be fetched for every run. */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';

const howToGet =
  'NIXPKGS_NIXOS=FOLDER and NIXPKGS_LIB=FOLDER name two folders of a nixpkgs: nixos/ and lib/\n' +
  'hint: git clone --depth=1 https://github.com/NixOS/nixpkgs && ' +
  'NIXPKGS_NIXOS=$PWD/nixpkgs/nixos NIXPKGS_LIB=$PWD/nixpkgs/lib npm run test:nixos';

export interface Nixpkgs {
  readonly nixos: string;
  readonly lib: string;
}

/** @throws Error that says how to get them, if the variables name no such folders */
export function nixpkgs(): Nixpkgs {
  const [nixos, lib] = [process.env['NIXPKGS_NIXOS'], process.env['NIXPKGS_LIB']];
  if (nixos === undefined || lib === undefined) throw new Error(howToGet);
  for (const file of [join(nixos, 'lib/eval-config.nix'), join(lib, 'modules.nix')])
    if (!existsSync(file)) throw new Error(`${file} does not exist\n${howToGet}`);
  return { nixos: resolve(nixos), lib: resolve(lib) };
}
