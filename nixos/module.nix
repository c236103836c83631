# The NixOS module: renders the declared secrets at evaluation, checks them, and runs the broker.
{
  config,
  lib,
  options,
  pkgs,
  utils,
  ...
}:
let
  inherit (lib) mkDefault mkIf mkOption types;
  cfg = config.auxcred;
  described = import ./options.nix { inherit lib; };
  naming = import ./declarations.nix;
  inherit (import ./secret.nix) declarationOf pathIn pathOf;

  # A secret or template; with a unit, one that is declared on that unit.
  secretType =
    {
      declares,
      unit ? null,
    }:
    types.submodule (
      { name, config, ... }:
      {
        options = declares;
        config = {
          name = mkDefault (if unit == null then name else "${unit}/${name}");
          path = pathOf config.name (declarationOf config);
          realm = rendered.realms.${config.name};
        }
        // lib.optionalAttrs (unit != null) {
          units = [ unit ];
          credential = mkDefault (builtins.replaceStrings [ "/" ] [ "_" ] name);
        };
      }
    );

  named =
    builtins.attrValues cfg.secrets
    ++ map (template: template // { kind = "template"; }) (builtins.attrValues cfg.templates);
  ofUnits = builtins.concatMap (service: builtins.attrValues service.auxcred) (
    builtins.attrValues config.systemd.services
  );
  all = named ++ ofUnits;
  byName = builtins.groupBy (secret: builtins.unsafeDiscardStringContext secret.name) all;
  declarations = builtins.mapAttrs (_: same: declarationOf (builtins.head same)) byName;

  rendered = import ./render.nix {
    secrets = declarations;
    package = cfg.package;
    canRefresh = lib.versionAtLeast config.systemd.package.version "260";
    rm = "${pkgs.coreutils}/bin/rm";
  };
  problems =
    rendered.problems
    ++ import ./machine-problems.nix {
      inherit all byName;
      hasUserUnit = (config.services.userborn.enable or false) || (config.systemd.sysusers.enable or false);
      inherit hasMutableEtc;
      hasSystemdInitrd = config.boot.initrd.systemd.enable or false;
      inherit (rendered) writers;
      users = map ({ name, ... }: name) (builtins.attrValues config.users.users);
      groups = map ({ name, ... }: name) (builtins.attrValues config.users.groups);
      # A container's file systems are there before it boots.
      lateMounts = map ({ mountPoint, ... }: mountPoint) (
        builtins.filter (disk: !config.boot.isContainer && !utils.fsNeededForBoot disk) (builtins.attrValues config.fileSystems)
      );
    };

  hasMutableEtc = !(config.system.etc.overlay.enable or false) || (config.system.etc.overlay.mutable or true);

  # The services that `auxcred.secrets` names: a unit of a package is defined here so that it gets its secrets. A unit
  # with secrets of its own is defined already, and must not be asked for here: these are the names of all units.
  serviceNames = naming.serviceNames (map declarationOf named);

  manifestText = pkgs.writeText "auxcred-manifest.json" (builtins.toJSON rendered.manifest);
  manifest =
    if cfg.checkAtBuild then
      pkgs.runCommand "auxcred-checked-manifest.json" { } ''
        mkdir secrets.d
        cp ${manifestText} secrets.d/configuration.json
        ${cfg.package}/bin/auxcred check --manifest="$PWD/secrets.d"
        cp ${manifestText} $out
      ''
    else
      manifestText;

  # The package's units, but for auxcred-provision.service: it takes part in a switch, and runs hooks there.
  units = pkgs.runCommand "auxcred-units" { } ''
    mkdir -p $out/lib/systemd/system
    cp ${cfg.package}/lib/systemd/system/auxcred* $out/lib/systemd/system/
    rm $out/lib/systemd/system/auxcred-provision.service
  '';

  pins =
    if builtins.isPath cfg.seal.pins then
      cfg.seal.pins
    else
      pkgs.writeText "scopes.json" (builtins.toJSON cfg.seal.pins);

  publicHalves =
    if cfg.publicFile == null then
      throw "auxcred: auxcred.publicFile is not set: auxcred public --all --json writes that file"
    else
      (builtins.fromJSON (builtins.readFile cfg.publicFile)).hosts;
  missingHalf =
    what: throw "auxcred: ${toString cfg.publicFile} has no ${what}: auxcred public --all --json > ${toString cfg.publicFile}";
  publicOf =
    host: name:
    (publicHalves.${host} or (missingHalf "host ${host}")).${name}
      or (missingHalf "public half of ${name} for ${host}");

  commands = [
    config.systemd.package
    pkgs.coreutils
  ];

  # Which units packages have is known only when the system is built.
  unitsExist = pkgs.runCommand "auxcred-units-exist" { } ''
    for unit in ${lib.escapeShellArgs (builtins.attrNames rendered.units)}; do
      template=$unit
      case $unit in *@?*.service) template=''${unit%%@*}@.service ;; esac
      for file in "$unit" "$template"; do
        file=${config.environment.etc."systemd/system".source}/$file
        # A masked unit is a device.
        if [ -c "$file" ] || grep -q -s -E '^Exec(Start|Stop)=' "$file"; then continue 2; fi
      done
      echo "auxcred: a secret is declared for $unit, and nothing defines that unit: is its name right?" >&2
      exit 1
    done
    touch $out
  '';

  inInitrd = builtins.filter (secret: secret.initrdUnits != [ ]) all;
  storedId = secret: (naming.completed secret.name (naming.manifestEntry (declarationOf secret))).credential;
in
{
  imports = [ ./users.nix ];

  options.auxcred = described.machine {
    secretType = secretType { declares = described.secret; };
    templateType = secretType { declares = described.template; };
    defaultPackage = pkgs.auxcred or (pkgs.callPackage ./package.nix { });
  };

  options.systemd.services = mkOption {
    type = types.attrsOf (
      types.submodule (
        { name, config, ... }:
        let
          unit = rendered.units."${name}.service" or null;
          add = value: mkIf (cfg.enable && unit != null) value;
          isInstance = naming.templateOf "${name}.service" != null;
          # An instance that is only named here stays one of its template.
          isOwn = config.serviceConfig ? ExecStart;
        in
        {
          options.auxcred = described.ofService (secretType {
            declares = described.secret;
            unit = name;
          });
          config = {
            wants = add unit.wants;
            after = add unit.after;
            unitConfig = add unit.unitConfig;
            # Commands of the service itself may read what is staged.
            serviceConfig = add (
              builtins.mapAttrs (key: if key == "ExecStartPre" then lib.mkBefore else value: value) unit.serviceConfig
            );
            overrideStrategy = mkIf (cfg.enable && unit != null && isInstance && !isOwn) (mkDefault "asDropin");
            restartTriggers = add unit.restartTriggers;
            reloadTriggers = add unit.reloadTriggers;
          };
        }
      )
    );
  };

  config = lib.mkMerge [
    {
      auxcred = {
        placeholder = builtins.mapAttrs (_: secret: "{{${secret.name}}}") (cfg.templates // cfg.secrets);
        pathOf =
          unit: name:
          pathIn name (declarations.${name} or (throw "auxcred: no secret is declared by the name ${name}")) unit;
        public = builtins.mapAttrs (_: half: half.public) (publicHalves.${config.networking.hostName} or { });
        publicOf = host: name: (publicOf host name).public;
        kernelHook = "PATH=${lib.makeBinPath commands}:$PATH ${cfg.package}/lib/kernel/install.d/95-auxcred.install";
        seal = {
          sshHostKey = mkDefault (config.services.openssh.enable or false);
          command = builtins.concatStringsSep " " (
            [ "auxcred seal --with-key=${cfg.seal.withKey}" ]
            ++ lib.optional (cfg.seal.tpm2Device != null) "--tpm2-device=${cfg.seal.tpm2Device}"
            ++ lib.optional (cfg.seal.tpm2Pcrs != [ ]) "--tpm2-pcrs=${lib.concatMapStringsSep "+" toString cfg.seal.tpm2Pcrs}"
            ++ lib.optional (cfg.seal.tpm2PublicKey != null) "--tpm2-public-key=${cfg.seal.tpm2PublicKey}"
            ++ lib.optional (cfg.seal.tpm2Signature != null) "--tpm2-signature=${cfg.seal.tpm2Signature}"
            ++ lib.optional (cfg.seal.tpm2Pcrlock != null) "--tpm2-pcrlock=${cfg.seal.tpm2Pcrlock}"
            ++ lib.optional cfg.seal.lockAfterUnseal "--lock-after-unseal"
            ++ (if cfg.seal.recipients == [ ] then [ "--print-words" ] else map (key: "--recipient=${key}") cfg.seal.recipients)
          );
        };
      };
    }
    (mkIf cfg.enable {
      assertions = map (problem: {
        assertion = false;
        message = naming.problemText problem;
      }) (builtins.filter ({ severity, ... }: severity == "error") problems);
      warnings = map naming.problemText (builtins.filter ({ severity, ... }: severity == "warning") problems);

      environment.systemPackages = [ cfg.package ];
      environment.etc = {
        "auxcred/configuration.json".text = builtins.toJSON {
          version = 1;
          system = "nixos";
          switch = "nixos-rebuild switch";
          pins = cfg.seal.pins != null;
          hookPath = lib.makeBinPath (commands ++ cfg.hookPackages);
        };
        "auxcred/secrets.d/configuration.json".source = manifest;
      }
      // lib.optionalAttrs (cfg.seal.pins != null) { "auxcred/scopes.json".source = pins; }
      // lib.optionalAttrs (cfg.vaults != { }) {
        "auxcred/vault.toml".text = import ./vault-toml.nix cfg.vaults;
      };

      users.users.auxcred = {
        isSystemUser = true;
        group = "auxcred";
        description = "auxcred broker";
      };
      users.groups.auxcred = { };

      system.checks = [ unitsExist ];

      # After the boot loader was installed, with the entries of the new generation.
      boot.loader = mkIf cfg.prepareBoots {
        systemd-boot.extraInstallCommands = cfg.kernelHook;
        grub.extraInstallCommands = cfg.kernelHook;
      };

      boot.initrd.secrets = builtins.listToAttrs (
        map (secret: {
          name = "/etc/credstore.encrypted/${storedId secret}";
          value = "/etc/credstore.encrypted/${storedId secret}";
        }) inInitrd
      );
      boot.initrd.systemd.services = lib.mkMerge (
        builtins.concatMap (
          secret:
          map (unit: {
            ${lib.removeSuffix ".service" unit}.serviceConfig.LoadCredentialEncrypted = [
              "${storedId secret}:/etc/credstore.encrypted/${storedId secret}"
            ];
          }) secret.initrdUnits
        ) inInitrd
      );

      systemd.packages = [ units ];
      # It renders drop-ins at boot, and here the configuration has done that.
      systemd.generators.auxcred-generator = "/dev/null";
      systemd.tmpfiles.rules = [
        "d /var/lib/auxcred 0750 root auxcred -"
        "z /var/lib/auxcred/seeds.age 0640 root auxcred -"
        "d /var/lib/auxcred-audit 0700 auxcred auxcred -"
        "d /run/auxcred 0755 root root -"
      ]
      ++ lib.optional hasMutableEtc "d /etc/credstore.encrypted 0700 root root -";

      systemd.sockets.auxcred.wantedBy = [ "sockets.target" ];
      systemd.sockets.auxcred-stage.wantedBy = [ "sockets.target" ];
      systemd.timers.auxcred-rotate.wantedBy = [ "timers.target" ];
      systemd.targets.sysinit.wants = rendered.writers;

      systemd.services = lib.mkMerge [
        (lib.genAttrs serviceNames (_: { }))
        (import ./services.nix {
          inherit
            commands
            config
            lib
            manifest
            pkgs
            ;
          inherit (rendered) writers;
        })
      ];
    })
    (mkIf cfg.enable (
      lib.optionalAttrs (options.system ? preSwitchChecks) {
        # An action of `boot` stops nothing, and nixos-install takes it before there can be a seed. Where no seed was ever
        # sealed, no running unit has secrets, and `auxcred seal` may need what this switch brings.
        system.preSwitchChecks.auxcred = ''
          incoming=$(readlink -f "$1") action=''${2-}
          if [ "$action" != boot ]; then
            if [ -e /var/lib/auxcred/seeds.age ] || [ -e /var/lib/auxcred/provisioned ]; then
              ${cfg.package}/bin/auxcred check --manifest="$incoming/etc/auxcred/secrets.d" --servable ${
                lib.concatMapStringsSep " " (key: "--with-key=${key}") ([ cfg.seal.withKey ] ++ cfg.seal.alsoWithKey)
              }
            else
              echo 'auxcred: no seed is sealed on this machine yet, so units with secrets will fail' >&2
              echo 'auxcred: hint: run ${cfg.seal.command}' >&2
            fi
          fi
        '';
      }
    ))
  ];
}
