# Declarations as the rendering and the checks read them: without keys that are not set, with full unit names, and with
# defaults filled in. Uses only builtins.
rec {
  keyKinds = [ "ssh-ed25519" "wireguard" "age" "ed25519" "x25519" "ec-p256" ];
  derivedKinds = [ "password" "passphrase" "hex" "base64" "bytes" "uuid" "wireguard-psk" ] ++ keyKinds;
  kinds = derivedKinds ++ [ "fixed" "vault" "crypt" "template" ];
  deliveries = [ "socket" "stage" "credstore" "file" ];
  changes = [ "restart" "reload" "none" ];
  rotations = [ "yearly" "quarterly" "monthly" "weekly" "daily" ];
  needs = [ "units" "users" ];
  hashMethods = [ "yescrypt" "sha512-crypt" "bcrypt" ];

  unique = builtins.foldl' (seen: item: if builtins.elem item seen then seen else seen ++ [ item ]) [ ];

  hasSuffix =
    suffix: text:
    let
      from = builtins.stringLength text - builtins.stringLength suffix;
    in
    from >= 0 && builtins.substring from (-1) text == suffix;

  isTemplate = unit: builtins.match "[^@]*@[.][^.]*" unit != null;

  # The template of an instance: web@.service for web@blue.service; null for other units.
  templateOf =
    unit:
    let
      parts = builtins.match "([^@]+@)([^\n]+)([.][^.]*)" unit;
    in
    if parts == null then null else builtins.elemAt parts 0 + builtins.elemAt parts 2;

  # The full name of a unit that is given without ".service", as NixOS names services.
  unitName =
    unit:
    let
      text = builtins.unsafeDiscardStringContext unit;
      isFull = builtins.match ".*[.](service|socket|target|device|mount|automount|swap|timer|path|slice|scope)" text;
    in
    if !builtins.isString unit || isFull != null then unit else "${text}.service";

  # One declaration as the manifest has it.
  manifestEntry =
    declaration:
    let
      isSet = key: declaration.${key} != null && key != "neededFor";
      keys = builtins.filter isSet (builtins.attrNames declaration);
      given = builtins.listToAttrs (
        map (name: {
          inherit name;
          value = declaration.${name};
        }) keys
      );
      units = given.units or [ ];
    in
    given
    // (
      if given ? units then { units = if builtins.isList units then map unitName units else units; } else { }
    )
    // (if declaration.neededFor or null == null then { } else { needed-for = declaration.neededFor; });

  # A manifest's entry with the defaults that rendering needs, also in place of what is wrong.
  completed =
    name: entry:
    let
      choice = key: fallback: choices: if builtins.elem (entry.${key} or null) choices then entry.${key} else fallback;
      kind = choice "kind" "password" kinds;
      units = entry.units or [ ];
      isTexts = builtins.isList units && builtins.all builtins.isString units;
      credential = entry.credential or null;
    in
    entry
    // {
      inherit name kind;
      units = if isTexts then unique (map builtins.unsafeDiscardStringContext units) else [ ];
      credential =
        if builtins.isString credential then credential else builtins.replaceStrings [ "/" ] [ "_" ] name;
      delivery = choice "delivery" "socket" deliveries;
      change = choice "change" "restart" changes;
      neededFor = choice "needed-for" "units" needs;
      previous =
        if builtins.isBool (entry.previous or null) then entry.previous else entry ? share && entry ? rotate;
    };

  # The ids of the credentials that each unit of a declaration gets.
  credentialsOf =
    {
      credential,
      kind,
      previous,
      ...
    }:
    [ credential ]
    ++ (if builtins.elem kind keyKinds then [ "${credential}.pub" ] else [ ])
    ++ (if builtins.elem kind derivedKinds && previous then [ "${credential}.previous" ] else [ ]);

  # The names in systemd.services of the units of these declarations.
  serviceNames =
    declarations:
    map (unit: builtins.substring 0 (builtins.stringLength unit - 8) unit) (
      unique (builtins.filter (hasSuffix ".service") (builtins.concatMap ({ units, ... }: units) declarations))
    );

  problemText =
    {
      key,
      message,
      hint,
      ...
    }:
    "auxcred: ${key}: ${message}${if hint == null then "" else "\n    ${hint}"}";
}
