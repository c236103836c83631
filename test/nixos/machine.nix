# What every machine of these tests has in common: a container, without Nix and without what needs a kernel.
{ lib, ... }:
{
  # A package of Debian's would bring all units of Debian.
  options.systemd.packages = lib.mkOption {
    type = lib.types.listOf lib.types.package;
    apply = builtins.filter (package: toString package != "/usr");
  };

  config = {
    boot.isContainer = true;
    nix.enable = false;
    environment.stub-ld.enable = false;
    documentation.enable = false;
    fonts.fontconfig.enable = false;
    xdg.mime.enable = false;
    security.sudo.enable = false;
    security.wrappers = lib.mkForce { };
    services.logrotate.enable = false;
    services.nscd.enable = false;
    system.nssModules = lib.mkForce [ ];
    # The package of nixpkgs says so itself.
    systemd.sockets.dbus.wantedBy = [ "sockets.target" ];
    systemd.coredump.enable = false;
    programs.command-not-found.enable = false;
    environment.defaultPackages = lib.mkForce [ ];
    networking.useDHCP = false;
    networking.firewall.enable = false;
    networking.resolvconf.enable = false;
    # These would make links to themselves of /bin/sh and /usr/bin/env.
    system.activationScripts.binsh = lib.mkForce "";
    system.activationScripts.usrbinenv = lib.mkForce "";
    system.stateVersion = "24.05";
  };
}
