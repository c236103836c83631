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
      Another number gives another secret, from the next switch on. 1 unless it is set.
    '' 2;
    share = unset text ''
      The group of hosts that share the secret. Without it, the secret is this host's own.
    '' "db";
    rotate = unset (types.enum declaredKinds.rotations) ''
      How often the secret becomes another one, at midnight UTC. A rotation needs no switch.
    '' "monthly";
    period = unset text ''
      Keeps a rotating secret in this period, until the option is removed.
    '' "2026-11";
    previous = unset flag ''
      Whether the value before this one is delivered beside it, as `ID.previous`. By default, only that of a
      secret that is shared and rotates.
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
    comment = unset text "The comment of an `ssh-ed25519` key: `NAME@HOST`, or `NAME@GROUP`, unless it is set." "backup@web1";
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
      Further settings for the vault of a `vault` secret.
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
        The name, which no other secret or template has. It is part of the realm: another name gives another secret.
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
      What starts only after the file is written: its `units` unless it is set, or `users` (the creation of users), for
      `users.users.NAME.hashedPasswordFile`. That needs {option}`services.userborn.enable` or {option}`systemd.sysusers.enable`.
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
  machine = import ./machine-options.nix { inherit lib; };
}
