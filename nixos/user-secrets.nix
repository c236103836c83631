# The secrets of one user, for the user's own services: a pure function of builtins.
#
# The machine's manifest has each of them as a file that only that user reads; the user's manager gives it to a service
# as a credential. All names are put below user/NAME/, so that no declaration of one user means a secret of another, or
# of the machine.
{
  # The user's name.
  user,
  # Declarations by name: the manifest's keys, and `units` and `change` of the user's own services.
  secrets,
  # Programs of the system.
  systemctl ? "/usr/bin/systemctl",
  shell ? "/bin/sh",
}:
let
  inherit (import ./declarations.nix) completed credentialsOf;

  keys = [
    "kind"
    "generation"
    "share"
    "rotate"
    "period"
    "previous"
    "length"
    "alphabet"
    "require"
    "weak"
    "words"
    "separator"
    "capitalize"
    "bytes"
    "comment"
    "of"
    "method"
    "rounds"
    "content"
    "env"
    "json"
    "path"
  ];
  kinds = [
    "password"
    "passphrase"
    "hex"
    "base64"
    "bytes"
    "uuid"
    "wireguard-psk"
    "ssh-ed25519"
    "wireguard"
    "age"
    "ed25519"
    "x25519"
    "ec-p256"
    "crypt"
    "template"
    "fixed"
  ];
  fail = name: message: throw "auxcred: the secret ${name} of ${user} ${message}";
  below = name: "user/${user}/${name}";
  flat = builtins.replaceStrings [ "/" ] [ "_" ];

  # A text in which every reference means a secret of this user.
  own =
    name: text:
    let
      pieces = builtins.filter builtins.isString (builtins.split "\\{\\{" text);
      reference =
        piece:
        let
          found = builtins.match " *([a-z0-9_][a-z0-9._@+/-]*)(.*)" (builtins.replaceStrings [ "\n" ] [ " " ] piece);
          inside = builtins.head found;
          rest = builtins.substring (builtins.stringLength piece - builtins.stringLength (builtins.elemAt found 1)) (
            builtins.stringLength piece
          ) piece;
        in
        if found == null then fail name "has {{ in its text without a name after it" else below inside + rest;
    in
    builtins.concatStringsSep "{{" ([ (builtins.head pieces) ] ++ map reference (builtins.tail pieces));
  ownValue =
    name: value:
    if builtins.isString value then
      own name value
    else if builtins.isList value then
      map (ownValue name) value
    else if builtins.isAttrs value then
      builtins.mapAttrs (_: ownValue name) value
    else
      value;

  given = builtins.mapAttrs (
    _: secret:
    builtins.listToAttrs (
      builtins.filter ({ value, ... }: value != null) (
        map (name: {
          inherit name;
          value = secret.${name};
        }) (builtins.attrNames (removeAttrs secret [ "units" "change" "_module" "file" ]))
      )
    )
  ) secrets;

  declaration =
    name: secret:
    let
      unknown = builtins.filter (key: !builtins.elem key keys) (builtins.attrNames secret);
      kind = secret.kind or "password";
    in
    if builtins.match "[a-z0-9_][a-z0-9._@+-]*(/[a-z0-9_][a-z0-9._@+-]*)*" name == null then
      fail name "has a name that is not lower-case letters, digits and . _ @ + - between slashes"
    else if unknown != [ ] then
      fail name "has no key ${builtins.head unknown}: a user's secret is a file of that user, and hooks and other vaults are the machine's"
    else if !builtins.elem kind kinds then
      fail name "is of the kind ${kind}, which a user's secret can't be"
    else
      secret
      // {
        delivery = "file";
        owner = user;
        mode = "0400";
        credential = idOf name;
        units = if restarted name == [ ] then [ ] else [ (unitOf name) ];
        change = if restarted name == [ ] then "none" else "reload";
      }
      // (if secret ? of then { of = below secret.of; } else { })
      // (if kind == "fixed" then { path = below (secret.path or name); } else { })
      // (if secret ? content then { content = own name secret.content; } else { })
      // (if secret ? env then { env = ownValue name secret.env; } else { })
      // (if secret ? json then { json = ownValue name secret.json; } else { });

  # No user's name has a dot, so no two users have one id.
  idOf = name: "user.${user}.${flat name}";
  unitOf = name: "auxcred-${idOf name}.service";
  fullName = unit: if builtins.match ".*\\.service" unit == null then "${unit}.service" else unit;
  unitsOf = name: map fullName (secrets.${name}.units or [ ]);
  restarted =
    name: if (secrets.${name}.change or "restart") == "none" then [ ] else unitsOf name;
  reloads = name: (secrets.${name}.change or "restart") == "reload";
  safe =
    unit:
    if builtins.match "[A-Za-z0-9:_.@-]+" unit == null then throw "auxcred: ${unit} is not the name of a user's service" else unit;
  # What `systemctl try-restart` takes: of a template, all of its instances that run.
  running =
    unit:
    let
      template = builtins.match "([^@]+@)(\\.service)" (safe unit);
    in
    if template == null then unit else builtins.concatStringsSep "*" template;
  # A service sees the new value when it reloads only if its manager then gives it new credentials (systemd 260).
  # $$ is a $ of the shell.
  told =
    name:
    let
      units = builtins.concatStringsSep " " (map running (restarted name));
      tell = verb: "${systemctl} --user --no-block ${verb}";
    in
    if reloads name then
      ''for unit in ${units}; do case "$$(${systemctl} --user show --value --property=RefreshOnReload $$unit)" in *credentials*) ${tell "try-reload-or-restart"} $$unit;; *) ${tell "try-restart"} $$unit;; esac || failed=1; done; exit $${failed:-0}''
    else
      "exec ${tell "try-restart"} ${units}";
  # The names of a set in which they are the values.
  names = builtins.attrNames secrets;
  set = list: builtins.listToAttrs list;
in
if builtins.match "[a-z_][a-z0-9_-]*" user == null then
  throw "auxcred: ${user} is not the name of a user"
else
  {
    # For the machine's manifest.
    declarations = set (
      map (name: {
        name = below name;
        value = declaration name given.${name};
      }) names
    );

    # Where the user finds each file.
    paths = builtins.mapAttrs (name: _: "/run/auxcred/files/${idOf name}") secrets;

    # Services of the system that hold no secret: the program reloads one when its secret changed, and that restarts the
    # user's services, as the user. A manager that can't be reached runs no service.
    systemServices = set (
      map (name: {
        name = unitOf name;
        value = {
          Type = "oneshot";
          RemainAfterExit = true;
          User = user;
          # Of a user's manager that does not answer.
          TimeoutStartSec = "30s";
          ExecStart = "${shell} -c :";
          ExecReload = "${shell} -c 'export XDG_RUNTIME_DIR=/run/user/$$(id -u); ${systemctl} --user show --property=Version > /dev/null 2>&1 || exit 0; set -f; ${told name}'";
        };
      }) (builtins.filter (name: restarted name != [ ]) names)
    );

    # LoadCredential= of the user's services.
    credentials = builtins.groupBy ({ unit, ... }: unit) (
      builtins.concatMap (
        name:
        builtins.concatMap (
          unit:
          map (id: {
            unit = safe unit;
            line = "${id}:/run/auxcred/files/user.${user}.${id}";
          }) (credentialsOf (completed name given.${name}))
        ) (unitsOf name)
      ) names
    );
  }
