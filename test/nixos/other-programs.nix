# Stand-ins for the options of sops-nix and agenix, as far as a configuration names them, and for what they do: each
# puts files below its own folder of /run.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  secrets =
    folder: more:
    mkOption {
      default = { };
      type = types.attrsOf (
        types.submodule (
          { name, ... }:
          {
            options = {
              path = mkOption {
                type = types.str;
                default = "${folder}/${name}";
              };
              owner = mkOption {
                type = types.str;
                default = "root";
              };
            }
            // more;
          }
        )
      );
    };
  units = mkOption {
    type = types.listOf types.str;
    default = [ ];
  };
in
{
  options.sops = {
    secrets = secrets "/run/secrets" {
      restartUnits = units;
      sopsFile = mkOption { type = types.path; };
    };
    placeholder = mkOption {
      type = types.attrsOf types.str;
      default = builtins.mapAttrs (name: _: "<SOPS:${name}>") config.sops.secrets;
    };
  };
  options.age.secrets = secrets "/run/agenix" { file = mkOption { type = types.path; }; };

  config = {
    system.activationScripts.setupSecrets = "true # ${pkgs.writeText "sops.json" (builtins.toJSON config.sops.secrets)}";
    system.activationScripts.agenixInstall = "true # ${pkgs.writeText "age.json" (builtins.toJSON config.age.secrets)}";
    systemd.services.sops-install-secrets = {
      wantedBy = [ "sysinit.target" ];
      before = [ "sysinit.target" ];
      unitConfig.DefaultDependencies = "no";
      script = "true";
    };
  };
}
