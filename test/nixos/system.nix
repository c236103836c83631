# A NixOS configuration, by the modules of a nixpkgs, over the package set of this folder.
#
# nixos, lib: folders of that nixpkgs; names, debian, tree: as packages.nix takes them; modules: those of the test
{
  nixos,
  lib,
  names,
  debian,
  tree,
  modules,
}:
let
  library = import lib;
  system = builtins.currentSystem;
in
import (nixos + "/lib/eval-config.nix") {
  inherit system;
  lib = library;
  pkgs = import ./packages.nix {
    inherit
      system
      names
      debian
      nixos
      tree
      ;
    lib = library;
  };
  modules = [
    ./machine.nix
  ]
  ++ library.optional (!builtins.pathExists (nixos + "/modules/system/activation/pre-switch-check.nix")) ./pre-switch-checks.nix
  ++ modules;
}
