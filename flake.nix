{
  description = "every systemd unit gets its own secrets at boot, derived from one seed that is sealed to the machine's TPM";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forAll = make: nixpkgs.lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});
    in
    {
      packages = forAll (pkgs: rec {
        auxcred = pkgs.callPackage ./nixos/package.nix { };
        default = auxcred;
      });

      overlays.default = final: _: {
        auxcred = final.callPackage ./nixos/package.nix { };
      };

      nixosModules = rec {
        auxcred = ./nixos/module.nix;
        default = auxcred;
      };

      checks = forAll (
        pkgs:
        nixpkgs.lib.mapAttrs (_: test: pkgs.testers.runNixOSTest test) {
          first-boot = ./nixos/tests/first-boot.nix;
          switch = ./nixos/tests/switch.nix;
          tpm = ./nixos/tests/tpm.nix;
        }
        // {
          package = self.packages.${pkgs.stdenv.hostPlatform.system}.default;
        }
      );

      devShells = forAll (pkgs: {
        default = pkgs.mkShell {
          packages = [
            pkgs.nodejs_22
            pkgs.age
            pkgs.swtpm
            pkgs.tpm2-tools
          ];
          # The libraries that the program opens by name.
          LD_LIBRARY_PATH = pkgs.lib.makeLibraryPath [
            pkgs.tpm2-tss
            pkgs.libxcrypt
            pkgs.stdenv.cc.cc.lib
          ];
        };
      });
    };
}
