# The options of the machine, given the types of its secrets and templates. Plain data, as options.nix.
{ lib }:
let
  inherit (lib) literalExpression mkOption types;

  flag = types.bool;
  keySources = [ "host" "tpm2" "tpm2+host" "systemd-creds" ];
in
{
  secretType,
  templateType,
  defaultPackage,
}:
{
  enable = mkOption {
    type = flag;
    default = false;
    example = true;
    description = "Whether units get their secrets from auxcred.";
  };
  package = mkOption {
    type = types.package;
    default = defaultPackage;
    defaultText = literalExpression "pkgs.auxcred";
    example = literalExpression "inputs.auxcred.packages.\${pkgs.system}.default";
    description = "The package of auxcred.";
  };
  hookPackages = mkOption {
    type = types.listOf types.package;
    default = [ ];
    example = literalExpression "[ pkgs.postgresql ]";
    description = "Packages whose programs are on the `PATH` of hooks.";
  };
  prepareBoots = mkOption {
    type = types.bool;
    default = true;
    example = false;
    description = ''
      Whether the seed is prepared for a new kernel when systemd-boot or GRUB is installed, with
      `auxcred reseal --installed`. It does nothing to a seed without literal PCRs that the kernel changes.
    '';
  };
  kernelHook = mkOption {
    type = types.str;
    readOnly = true;
    description = "The command line that prepares the seed for new kernels, for other boot loaders. It always exits with 0.";
  };
  checkAtBuild = mkOption {
    type = flag;
    default = true;
    example = false;
    description = ''
      Whether `auxcred check` judges the manifest when the system is built. A machine of another architecture that is
      built without emulation needs `false`; the checks at evaluation stay.
    '';
  };
  secrets = mkOption {
    type = types.attrsOf secretType;
    default = { };
    example = {
      db-password = {
        kind = "password";
        units = [ "web" ];
      };
    };
    description = "The secrets of this machine by name.";
  };
  templates = mkOption {
    type = types.attrsOf templateType;
    default = { };
    example = literalExpression ''
      {
        web-env = {
          env.DATABASE_URL = "postgres://web:''${config.auxcred.placeholder.db-password}@db/web";
          units = [ "web" ];
        };
      }
    '';
    description = "Texts with secrets in them by name: each has one of `content`, `env` and `json`.";
  };
  placeholder = mkOption {
    type = types.attrsOf types.str;
    readOnly = true;
    example = { db-password = "{{db-password}}"; };
    description = "What stands for each secret in the text of a template.";
  };
  pathOf = mkOption {
    type = types.raw;
    readOnly = true;
    example = literalExpression ''config.auxcred.pathOf "web" "db-password"'';
    description = "Where a unit reads a secret, given the unit and the secret's name: for secrets of several units.";
  };
  vaults = mkOption {
    type = types.attrsOf (types.attrsOf (
      types.oneOf [
        types.str
        types.int
        types.bool
        (types.listOf types.str)
      ]
    ));
    default = { };
    example = {
      pass.get = [
        "pass"
        "show"
        "--"
        "{name}"
      ];
    };
    description = "The vaults that `auxcred fetch` asks on this machine: the tables `[vault.NAME]` of vault.toml.";
  };
  publicFile = mkOption {
    type = types.nullOr types.path;
    default = null;
    example = literalExpression "./public.json";
    description = ''
      The file that `auxcred public --all --json` wrote, with the public halves of the key pairs of all hosts.
      `auxcred public --all --check=FILE` tells whether it is current.
    '';
  };
  public = mkOption {
    type = types.attrsOf types.str;
    readOnly = true;
    example = { backup-key = "ssh-ed25519 AAAA..."; };
    description = "The public halves of this machine's key pairs by name, from {option}`auxcred.publicFile`.";
  };
  publicOf = mkOption {
    type = types.raw;
    readOnly = true;
    example = literalExpression ''config.auxcred.publicOf "web1" "backup-key"'';
    description = "The public half of a host's key pair, given the host and the secret's name.";
  };
  seal = {
    withKey = mkOption {
      type = types.enum keySources;
      default = "host";
      example = "tpm2";
      description = ''
        What this machine's seed is sealed to. The broker gets access to that, and {option}`auxcred.seal.command`
        seals to it.
      '';
    };
    alsoWithKey = mkOption {
      type = types.listOf (types.enum keySources);
      default = [ ];
      example = [ "host" ];
      description = ''
        Keys that the broker gets access to as well, while `auxcred reseal` moves the seed from one to another. A
        switch that would leave the broker without the key of today's seed is refused.
      '';
    };
    sshHostKey = mkOption {
      type = flag;
      defaultText = literalExpression "config.services.openssh.enable";
      example = true;
      description = ''
        Whether the host key is /etc/ssh/ssh_host_ed25519_key. Without one, `auxcred seal` makes
        /var/lib/auxcred/host.key.
      '';
    };
    tpm2Device = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "device:/dev/tpmrm1";
      description = "The TPM, as `--tpm2-device` takes it: /dev/tpmrm0 unless it is set.";
    };
    tpm2Pcrs = mkOption {
      type = types.listOf (types.ints.between 0 23);
      default = [ ];
      example = [
        4
        7
      ];
      description = "The registers of the TPM that the seed is bound to.";
    };
    tpm2PublicKey = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "/run/systemd/tpm2-pcr-public-key.pem";
      description = "The key whose signatures of register 11 open the seed, as `--tpm2-public-key` takes it.";
    };
    tpm2Signature = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "/run/keys/tpm2-pcr-signature.json";
      description = "The file with these signatures, if it is not one of systemd's.";
    };
    tpm2Pcrlock = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "/var/lib/systemd/pcrlock.json";
      description = "The prediction of systemd-pcrlock that opens the seed, as `--tpm2-pcrlock` takes it.";
    };
    lockAfterUnseal = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = ''
        Whether the seed can't be opened again until the next boot, once the broker has opened it. A switch that
        changes secrets is then refused: use `nixos-rebuild boot`, and reboot.
      '';
    };
    recipients = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "age1..." ];
      description = "The age recipients that open the seed if the machine can't.";
    };
    pins = mkOption {
      type = types.nullOr types.anything;
      default = null;
      example = literalExpression "./web1.scopes.json";
      description = ''
        The pins of this machine's seeds, as /etc/auxcred/scopes.json has them: a path, or the value itself. With them
        only these seeds are accepted, even from somebody who can write to the machine's disk. Without them,
        `auxcred seal` writes the pins on the machine.
      '';
    };
    command = mkOption {
      type = types.str;
      readOnly = true;
      example = "auxcred seal --with-key=tpm2 --tpm2-pcrs=4+7 --recipient=age1...";
      description = "The command that seals this machine's first seed as these options say, to be run as root.";
    };
  };
}
