# The machine's side of home-manager.nix: a NixOS module beside module.nix and home-manager's own.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  renderedOf =
    user: home:
    import ./user-secrets.nix {
      # The name that NixOS knows the user by: a user's configuration does not choose whose secrets it declares.
      user = config.users.users.${user}.name;
      secrets = home.auxcred.secrets;
      systemctl = "${config.systemd.package}/bin/systemctl";
      shell = "${pkgs.runtimeShell}";
    };
  rendered = lib.mapAttrsToList renderedOf config.home-manager.users;
  # The module calls the manifest's `path` of a fixed secret `file`.
  optionsOf = declaration: removeAttrs declaration [ "path" ] // lib.optionalAttrs (declaration ? path) { file = declaration.path; };
in
{
  config = {
    home-manager.sharedModules = [ ./home-manager.nix ];
    assertions = lib.mapAttrsToList (user: home: {
      assertion = home.home.username == config.users.users.${user}.name;
      message = "auxcred: home-manager.users.${user} has the user name ${home.home.username}, and its secrets belong to ${
        config.users.users.${user}.name
      }";
    }) config.home-manager.users;
    auxcred.secrets = lib.mkMerge (map (one: lib.mapAttrs (_: optionsOf) one.declarations) rendered);
    systemd.services = lib.mkMerge (
      map (
        one:
        lib.mapAttrs' (
          unit: serviceConfig:
          lib.nameValuePair (lib.removeSuffix ".service" unit) {
            description = "Tells the services of ${serviceConfig.User} of a new secret";
            # Its file decides whether it starts. Before the first seal there is none, so whoever restarts that service
            # after it starts this one too.
            wantedBy = [
              "multi-user.target"
              "auxcred-provision.service"
            ];
            after = [ "auxcred-provision.service" ];
            path = [ pkgs.coreutils ];
            inherit serviceConfig;
          }
        ) one.systemServices
      ) rendered
    );
  };
}
