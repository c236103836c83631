# The home-manager module: secrets of a user's own services. The machine's side is home-manager-system.nix.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.auxcred;
  rendered = import ./user-secrets.nix {
    user = config.home.username;
    secrets = cfg.secrets;
  };
in
{
  options.auxcred.secrets = mkOption {
    default = { };
    example = {
      mail-password = {
        kind = "fixed";
        units = [ "mbsync" ];
      };
    };
    description = ''
      Secrets of this user by name. Each has the keys of a secret in the machine's manifest that say what it is, such as
      `kind` and `rotate`. A service reads it as the credential of its name; everything else reads its `file`.
    '';
    type = types.attrsOf (
      types.submodule (
        { name, ... }:
        {
          freeformType = types.attrsOf types.anything;
          options = {
            units = mkOption {
              type = types.listOf types.str;
              default = [ ];
              example = [ "mbsync" ];
              description = ''
                The user's services that get it, with or without `.service`; a template (`job@`) for all its instances.
              '';
            };
            change = mkOption {
              type = types.enum [
                "restart"
                "reload"
                "none"
              ];
              default = "restart";
              description = ''
                What happens to these services when it changes. `reload` restarts a service whose reload would leave it
                with the old value: `RefreshOnReload=credentials` (systemd 260) makes it read the new one.
              '';
            };
            file = mkOption {
              type = types.str;
              readOnly = true;
              default = "/run/auxcred/files/user.${config.home.username}.${
                builtins.replaceStrings [ "/" ] [ "_" ] name
              }";
              description = "The file, which only this user reads. It lies in memory that is never swapped out.";
            };
          };
        }
      )
    );
  };

  config.systemd.user.services = lib.mapAttrs' (
    unit: lines:
    lib.nameValuePair (lib.removeSuffix ".service" unit) {
      Service.LoadCredential = map ({ line, ... }: line) lines;
    }
  ) rendered.credentials;
}
