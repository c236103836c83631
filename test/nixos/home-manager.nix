# A stand-in for home-manager as a NixOS module: of its options those that nixos/home-manager.nix and
# nixos/home-manager-system.nix use. A user's units are put where that user's manager finds them.
{
  config,
  lib,
  pkgs,
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
  rulesOf =
    user: one:
    let
      inherit (config.users.users.${user}) home;
    in
    map (folder: "d ${home}/${folder} 0755 ${user} users -") [
      ".config"
      ".config/systemd"
      ".config/systemd/user"
    ]
    ++ lib.mapAttrsToList (
      unit: sections:
      "L+ ${home}/.config/systemd/user/${unit}.service - - - - ${pkgs.writeText "${unit}.service" (textOf sections)}"
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

  config.systemd.tmpfiles.rules = lib.concatLists (lib.mapAttrsToList rulesOf cfg.users);
}
