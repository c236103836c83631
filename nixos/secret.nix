# From the values of a secret's options to its declaration: a pure function of builtins.
let
  naming = import ./declarations.nix;
  # The module's own options, which no manifest has.
  own = [
    "_module"
    "name"
    "path"
    "realm"
    "file"
    "initrdUnits"
    "restartUnits"
    "reloadUnits"
    "neededForUsers"
  ];
in
rec {
  declarationOf =
    secret:
    let
      restarted = secret.restartUnits or [ ];
      reloaded = secret.reloadUnits or [ ];
      forUsers = secret.neededForUsers or false;
      or' = value: fallback: if value == null then fallback else value;
    in
    removeAttrs secret own
    // {
      units = naming.unique (map naming.unitName (secret.units ++ restarted ++ reloaded));
      change = or' secret.change (if reloaded != [ ] then "reload" else null);
      delivery = or' secret.delivery (if forUsers then "file" else null);
      neededFor = or' secret.neededFor (if forUsers then "users" else null);
      path = secret.file or null;
    };

  # Where `unit` reads a secret.
  pathIn =
    name: declaration: unit:
    let
      full = naming.unitName unit;
      secret = naming.completed name (naming.manifestEntry declaration);
    in
    if secret.delivery == "file" then
      "/run/auxcred/files/${secret.credential}"
    else if !builtins.elem full secret.units && !builtins.elem (naming.templateOf full) secret.units then
      throw "auxcred: ${full} does not get the secret ${name}: add it to auxcred.secrets.\"${name}\".units"
    else if naming.isTemplate full then
      throw "auxcred: each instance of ${full} has its own path of ${name}: %d/${secret.credential} in the unit, or auxcred.pathOf \"${
        builtins.replaceStrings [ "@." ] [ "@INSTANCE." ] full
      }\" \"${name}\""
    else
      "/run/credentials/${full}/${secret.credential}";

  # Where its only unit reads a secret.
  pathOf =
    name: declaration:
    let
      units = declaration.units;
      isFile = declaration.delivery == "file";
    in
    if isFile || builtins.length units == 1 then
      pathIn name declaration (if isFile then "" else builtins.head units)
    else if units == [ ] then
      throw "auxcred: no unit gets ${name}, so it has no path: set auxcred.secrets.\"${name}\".units"
    else
      throw "auxcred: ${name} has a path for each of ${builtins.concatStringsSep ", " units}: use config.auxcred.pathOf \"${builtins.head units}\" \"${name}\"";
}
