# auxcred's own services, as systemd.services has them: what the package's unit files lack on NixOS.
{
  # Packages of the commands that auxcred runs.
  commands,
  config,
  lib,
  # The file of the manifest.
  manifest,
  pkgs,
  # The services that write files.
  writers,
}:
let
  cfg = config.auxcred;

  # A file for users has to be written before they are made, so provision comes before them too. Otherwise it waits for
  # them: the broker's group is then known.
  forUsers = builtins.elem "auxcred-user-files.service" writers;
  makesUsers = [
    "systemd-sysusers.service"
    "userborn.service"
  ];
  # In a switch too, a service that writes files runs after provision, and after what makes the files' owners.
  writer = name: {
    wantedBy = lib.mkIf (builtins.elem "${name}.service" writers) [ "sysinit-reactivation.target" ];
    before = [ "sysinit-reactivation.target" ];
    after = [ "auxcred-provision.service" ];
    # Whoever restarts that one by hand, as after a seal, gets the files too.
    partOf = [ "auxcred-provision.service" ];
    restartTriggers = [ manifest ];
    path = commands;
  };

  # Not sandboxed, because the hooks of the administrator run from here.
  runningHooks = arguments: {
    Type = "oneshot";
    ExecStart = "${cfg.package}/bin/auxcred provision${arguments}";
    TimeoutStartSec = "15min";
    LimitCORE = 0;
    MemorySwapMax = 0;
    UnsetEnvironment = "NODE_OPTIONS NODE_EXTRA_CA_CERTS";
    UMask = "0077";
  };

  # What the broker needs for each key that the seed is or may be sealed to.
  locks = cfg.seal.lockAfterUnseal;
  keys = [ cfg.seal.withKey ] ++ cfg.seal.alsoWithKey;
  brokerLines =
    withKey:
    import ./broker.nix {
      inherit withKey;
      inherit (cfg.seal) sshHostKey;
      device = cfg.seal.tpm2Device;
      signature = cfg.seal.tpm2Signature;
      tssGroup = config.users.groups ? tss;
    };
in
{
  auxcred = {
    # A stop before the switch would leave units that start meanwhile without an answer.
    stopIfChanged = false;
    after = [
      "userborn.service"
    ]
    ++ lib.optionals locks [
      "auxcred-user-files.service"
      "auxcred-files.service"
    ];
    # A broker that has locked the seeds is the only one until the next boot.
    wantedBy = lib.optional locks "sysinit.target";
    unitConfig = lib.optionalAttrs locks { RefuseManualStop = "yes"; };
    serviceConfig = lib.mkMerge (
      map brokerLines keys
      ++ [
        {
          # Node and every library.
          ExecPaths = [ "-${builtins.storeDir}" ];
          # What was written before the group was made, or when it had another number.
          ExecStartPre = [
            "-+${pkgs.coreutils}/bin/chgrp auxcred /var/lib/auxcred /var/lib/auxcred/seeds.age"
            "-+${pkgs.coreutils}/bin/chgrp -R auxcred /var/lib/auxcred/generations"
          ];
        }
      ]
    );
  };

  auxcred-host-secret.serviceConfig.ExecStart = [
    ""
    "${config.systemd.package}/bin/systemd-creds setup"
  ];

  auxcred-provision = {
    description = "Make Changed Secrets Active";
    wantedBy = [ "sysinit.target" ];
    requiredBy = [ "sysinit-reactivation.target" ];
    before = [
      "auxcred.service"
      "auxcred-bind.service"
      "sysinit-reactivation.target"
      "shutdown.target"
    ]
    ++ lib.optionals forUsers makesUsers;
    after = [ "systemd-remount-fs.service" ] ++ lib.optionals (!forUsers) makesUsers;
    conflicts = [ "shutdown.target" ];
    unitConfig = {
      DefaultDependencies = false;
      RequiresMountsFor = "/var/lib/auxcred /var/lib/systemd /etc/auxcred";
    };
    restartTriggers = [ manifest ];
    path = commands ++ cfg.hookPackages;
    serviceConfig = runningHooks " --by-configuration" // {
      RemainAfterExit = true;
    };
  };

  auxcred-bind = {
    wantedBy = [ "multi-user.target" ];
    path = commands;
  };
  auxcred-rotate.path = commands ++ cfg.hookPackages;
  auxcred-files = writer "auxcred-files";
  auxcred-user-files = writer "auxcred-user-files";

  # A boot can't run hooks before sysinit.target, so what it left is done once the machine is up.
  auxcred-postponed = {
    description = "Make Secrets Active Whose Hooks Waited for the Boot";
    wantedBy = [ "multi-user.target" ];
    after = [ "multi-user.target" ];
    path = commands ++ cfg.hookPackages;
    unitConfig.ConditionPathExists = "/run/auxcred/postponed";
    serviceConfig = runningHooks "";
  };
}
