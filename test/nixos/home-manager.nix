# A stand-in for home-manager as a NixOS module: of its options those that nixos/home-manager.nix and
# nixos/home-manager-system.nix use. The units of a user are in /etc/home-manager/USER, where the user's manager has to
# be told to look.
{
  config,
  lib,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.home-manager;
  value = types.either (types.listOf types.str) types.str;

  home =
    { name, ... }:
    {
      options.home.username = mkOption {
        type = types.str;
        default = config.users.users.${name}.name;
      };
      options.systemd.user.services = mkOption {
        type = types.attrsOf (types.attrsOf (types.attrsOf value));
        default = { };
      };
    };

  textOf =
    sections:
    lib.concatStrings (
      lib.mapAttrsToList (section: settings: ''
        [${section}]
        ${lib.concatStrings (
          lib.mapAttrsToList (
            key: values: lib.concatMapStrings (one: "${key}=${one}\n") (lib.toList values)
          ) settings
        )}
      '') sections
    );
  unitsOf =
    user: one:
    lib.mapAttrs' (
      unit: sections: lib.nameValuePair "home-manager/${user}/${unit}.service" { text = textOf sections; }
    ) one.systemd.user.services;
in
{
  options.home-manager = {
    sharedModules = mkOption {
      type = types.listOf types.raw;
      default = [ ];
    };
    users = mkOption {
      type = types.attrsOf (types.submoduleWith { modules = [ home ] ++ cfg.sharedModules; });
      default = { };
    };
  };

  config.environment.etc = lib.mkMerge (lib.mapAttrsToList unitsOf cfg.users);
}
