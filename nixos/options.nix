# The options of a secret, of a unit's secrets and of the machine. Plain data: it uses of lib only mkOption, literalExpression
# and types, so that the documentation can be made from it without nixpkgs.
{ lib }:
let
  inherit (lib) literalExpression mkOption types;

  declaredKinds = import ./declarations.nix;

  # An option that is not part of the manifest unless it is set: the program's own default holds then.
  unset =
    type: description: example:
    mkOption {
      type = types.nullOr type;
      default = null;
      inherit example description;
    };
  text = types.str;
  number = types.ints.positive;
  flag = types.bool;
  account = types.strMatching "[a-z_][a-z0-9_-]{0,30}[$]?|0|[1-9][0-9]{0,9}";
  list =
    description: example:
    mkOption {
      type = types.listOf types.str;
      default = [ ];
      inherit example description;
    };

  # The keys that decide which secret it is.
  content = {
    kind = unset (types.enum declaredKinds.kinds) ''
      What kind of secret it is: `password` unless it is set. `fixed` and `vault` secrets are chosen or issued by somebody;
      `crypt` is the hash of another secret, and `template` a text with others in it. All other kinds are derived from the
      machine's seed.
    '' "hex";
    generation = unset number ''
      Another number is another secret, at the next switch. 1 unless it is set.
    '' 2;
    share = unset text ''
      The group of hosts that share the secret. Without it, the secret is this host's own.
    '' "db";
    rotate = unset (types.enum declaredKinds.rotations) ''
      How often the secret becomes another one, at midnight UTC. A rotation needs no switch.
    '' "monthly";
    period = unset text ''
      The period that a rotating secret is held in until this is taken out again.
    '' "2026-11";
    previous = unset flag ''
      Whether the value before this one is delivered beside it, as `ID.previous`. By default it is for a secret that is
      shared and rotates.
    '' true;
    length = unset number "Characters of a `password`: 32 unless it is set." 24;
    alphabet = unset text ''
      The characters of a `password`, or the name of an alphabet: `alnum` (the default), `digits`, `upper`, `lower`, `hex`,
      `printable`, `readable` or `url`.
    '' "readable";
    require = unset (types.listOf (
      types.enum [
        "lower"
        "upper"
        "digit"
        "symbol"
      ]
    )) "A `password` has at least one character of each of these classes." [ "digit" ];
    weak = unset flag "Allows fewer than 64 bits of strength, as for a PIN." true;
    words = unset number "Words of a `passphrase`: 6 unless it is set." 8;
    separator = unset text "What stands between the words of a `passphrase`: `-` unless it is set." " ";
    capitalize = unset flag "Whether each word of a `passphrase` begins with a capital." true;
    bytes = unset number "Random bytes of `hex`, `base64` and `bytes`, before they are encoded: 32 unless it is set." 16;
    comment = unset text "The comment of an `ssh-ed25519` key: none unless it is set." "backup@web1";
    of = unset text "The secret that a `crypt` secret is the hash of." "root-password";
    method = unset (types.enum declaredKinds.hashMethods) ''
      How a `crypt` secret is hashed: `yescrypt` unless it is set.
    '' "sha512-crypt";
    rounds = unset number ''
      The cost of a `crypt` secret: 1 to 11 for yescrypt (5), 1000 to 999999999 for sha512-crypt (5000), and 4 to 17 for
      bcrypt (10).
    '' 8;
    vault = unset text "The vault that `auxcred fetch` gets a `vault` secret from." "pass";
    options = unset (types.attrsOf (types.either types.str types.int)) ''
      What else the vault of a `vault` secret is told.
    '' { field = "password"; };
    file = unset text ''
      Where a `fixed` secret lies in the host's or group's part of the fixed folder, or a `vault` secret in its vault: under
      its own name unless it is set. It is the manifest's key `path`.
    '' "wifi/home";
    content = unset types.lines ''
      The text of a `template`, with `{{name}}`, `{{name.public}}`, `{{name.previous}}` or `{{name | url}}` in it. See
      {option}`auxcred.placeholder`.
    '' "//files/home /mnt cifs password={{wifi}}";
    env = unset (types.attrsOf (
      types.oneOf [
        types.str
        types.int
        types.float
        types.bool
      ]
    )) ''
      The variables of a `template` for `EnvironmentFile=` or a shell. Each value is quoted as a whole.
    '' { DATABASE_URL = "postgres://web:{{db | url}}@db/web"; };
    json = unset types.anything ''
      The document of a `template`, in whose strings secrets can stand.
    '' { password = "{{db}}"; };
  };

  # What it is called, and who gets it.
  receivers = {
    name = mkOption {
      type = types.str;
      defaultText = literalExpression "<name>";
      example = "web/db";
      description = ''
        The name, of which all secrets and templates have their own. It is part of the realm: another name is another
        secret.
      '';
    };
    units = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [
        "web"
        "worker@"
      ];
      description = ''
        The services that get it, with or without `.service`, or templates for all their instances.
      '';
    };
  };

  # The keys that decide where it goes.
  delivery = {
    credential = unset text ''
      The id under which the unit reads it: the secret's name with `_` for `/`, unless it is set.
    '' "db-password";
    delivery = unset (types.enum declaredKinds.deliveries) ''
      How the secret reaches its unit: `socket` unless it is set. `stage` is for units that can't use the credentials socket,
      such as those whose names are too long for it, `credstore` is for units that start before the broker and for the
      initrd, and `file` is for programs that read no credentials.
    '' "file";
    change = unset (types.enum declaredKinds.changes) ''
      What happens to a running unit whose secret changed: `restart` unless it is set.
    '' "reload";
    hook = unset (types.listOf types.str) ''
      A command by its absolute path, and its arguments. It gets the old value on descriptor 3 and the new one on 4 before
      the new one becomes active.
    '' (literalExpression ''[ "''${pkgs.tell-db}/bin/tell-db" "web" ]'');
    owner = unset account "The user that owns the file, by name or number, for `delivery = \"file\"`: root unless it is set." "postgres";
    group = unset account "The group of the file: root unless it is set." "postgres";
    mode = unset (types.strMatching "0?[0-7]{3}") "The permission bits of the file: 0400 unless it is set." "0440";
    link = unset text "The absolute path of a symbolic link to the file." "/etc/postgresql/password";
    neededFor = unset (types.enum declaredKinds.needs) ''
      Before what the file exists: its `units` unless it is set, or `users`, for `users.users.NAME.hashedPasswordFile`. That
      needs {option}`services.userborn.enable` or {option}`systemd.sysusers.enable`.
    '' "users";
    initrdUnits = list ''
      The services of {option}`boot.initrd.systemd.services` that get the secret in the initrd, which receives its encrypted
      credential when the boot loader is installed. It needs `delivery = "credstore"` and no `units`.
    '' [ "unlock-data" ];
  };

  # For people who come from sops-nix.
  aliases = {
    restartUnits = list ''
      Units that get the secret and are restarted when it changes, as in sops-nix: the same as `units` with
      `change = "restart"`.
    '' [ "web.service" ];
    reloadUnits = list ''
      Units that get the secret and are reloaded when it changes, as in sops-nix: the same as `units` with
      `change = "reload"`.
    '' [ "nginx.service" ];
    neededForUsers = mkOption {
      type = flag;
      default = false;
      example = true;
      description = ''The same as `delivery = "file"` with `neededFor = "users"`, as in sops-nix.'';
    };
  };

  # Derived values, which nobody sets.
  results = {
    path = mkOption {
      type = types.str;
      readOnly = true;
      example = "/run/credentials/web.service/db";
      description = ''
        Where the unit reads the secret: `/run/credentials/UNIT/ID`, or `/run/auxcred/files/ID` for `delivery = "file"`. It
        is known at evaluation. A secret of several units has a path for each of them: see {option}`auxcred.pathOf`.
      '';
    };
    realm = mkOption {
      type = types.str;
      readOnly = true;
      example = "d09679090c8d48c7c9689335acff606cb609a96045aab861a8eb29f888615070";
      description = ''
        A public hash of all that decides the secret and is known at evaluation. It is among the `restartTriggers` or
        `reloadTriggers` of the secret's units.
      '';
    };
  };
in
rec {
  secret = content // receivers // delivery // aliases // results;

  template = {
    inherit (content) content env json;
  }
  // receivers
  // delivery
  // aliases
  // results;

  # The secrets of one service.
  ofService =
    secretType:
    mkOption {
      type = types.attrsOf secretType;
      default = { };
      example = {
        token.kind = "hex";
      };
      description = ''
        Secrets of this service, with the options of {option}`auxcred.secrets`. Each is called `SERVICE/NAME`, and the
        service reads it as the credential `NAME`.
      '';
    };

  # The options of the machine, with the types of its secrets and templates.
  machine =
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
        type = flag;
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
        description = "The command line that does so, for the installer of another boot loader. It never fails.";
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
          type = types.enum [
            "host"
            "tpm2"
            "tpm2+host"
            "systemd-creds"
          ];
          default = "host";
          example = "tpm2";
          description = ''
            What this machine's seed is sealed to. The broker gets access to that, and {option}`auxcred.seal.command`
            seals to it.
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
            7
            14
          ];
          description = "The registers of the TPM that the seed is bound to.";
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
            only these seeds are accepted, whoever can write to the machine's disk. Without them, `auxcred seal` writes
            the pins on the machine.
          '';
        };
        command = mkOption {
          type = types.str;
          readOnly = true;
          example = "auxcred seal --with-key=tpm2 --tpm2-pcrs=7+14 --recipient=age1...";
          description = "The command that seals this machine's first seed as these options say, to be run as root.";
        };
      };
    };
}
