# What is wrong with declarations on this system: a list of { severity, key, message, hint }.
{
  # Every declared secret, as its options have it.
  all,
  # The same, grouped by name.
  byName,
  # Whether a unit makes users, so that files can be written before it.
  hasUserUnit,
  # Whether /etc can be written to.
  hasMutableEtc,
  # Whether the initrd runs systemd.
  hasSystemdInitrd,
  # The services that write files.
  writers,
  # The names of the system's users and groups.
  users,
  groups,
  # Mount points that the initrd does not mount.
  lateMounts,
}:
let
  error = name: key: message: hint: {
    severity = "error";
    key = "secret.${name}${key}";
    inherit message hint;
  };
  # Owners that nothing makes, and those that are made only after the file is written.
  accountProblems =
    secret: key: what: known:
    let
      account = secret.${key};
    in
    if secret.delivery != "file" || account == null || account == "root" || builtins.match "[0-9]+" account != null then
      [ ]
    else if secret.neededForUsers || secret.neededFor == "users" then
      [ (error secret.name ".${key}" "the file is written before there is a ${what} ${account}" "its number, or root") ]
    else if builtins.elem account known then
      [ ]
    else
      [ (error secret.name ".${key}" "the configuration has no ${what} ${account}" "users.${what}s.${account}") ];

  isBelow = folder: path: path == folder || builtins.substring 0 (builtins.stringLength folder + 1) path == "${folder}/";
  forUsers = builtins.elem "auxcred-user-files.service" writers;
  repeated = builtins.filter (name: builtins.length byName.${name} > 1) (builtins.attrNames byName);
in
map (
  name:
  error name "" "it is declared ${toString (builtins.length byName.${name})} times"
    "give one of them another name = \"...\""
) repeated
++ builtins.concatMap (
  { name, restartUnits, reloadUnits, ... }:
  if restartUnits != [ ] && reloadUnits != [ ] then
    [
      (error name ".reloadUnits" "restartUnits is set too, but a change acts on all units of a secret in one way"
        "units = [ ... ] and change = \"restart\" or \"reload\""
      )
    ]
  else
    [ ]
) all
++ builtins.concatMap (
  {
    name,
    initrdUnits,
    delivery,
    units,
    ...
  }:
  if initrdUnits == [ ] then
    [ ]
  else if delivery != "credstore" then
    [ (error name ".initrdUnits" "the initrd has no broker" "delivery = \"credstore\"") ]
  else if units != [ ] then
    [
      (error name ".initrdUnits" "a credential of the initrd is not one of single units"
        "another secret for ${builtins.head units}"
      )
    ]
  else if !hasSystemdInitrd then
    [ (error name ".initrdUnits" "the initrd has no systemd" "boot.initrd.systemd.enable = true") ]
  else
    [ ]
) all
++ builtins.concatMap (
  { name, delivery, ... }:
  if delivery == "credstore" && !hasMutableEtc then
    [
      (error name ".delivery" "/etc/credstore.encrypted can't be written to where /etc is immutable"
        "system.etc.overlay.mutable = true, or delivery = \"stage\""
      )
    ]
  else
    [ ]
) all
++ builtins.concatMap (
  secret: accountProblems secret "owner" "user" users ++ accountProblems secret "group" "group" groups
) all
++ (
  if forUsers then
    map
      (mount: {
        severity = "error";
        key = "secret";
        message = "a file is needed for users, and they are made before ${mount} is mounted";
        hint = "fileSystems.\"${mount}\".neededForBoot = true";
      })
      (builtins.filter (mount: isBelow mount "/var/lib/auxcred" || isBelow mount "/var/lib/systemd") lateMounts)
  else
    [ ]
)
++ (
  if forUsers && !hasUserUnit then
    [
      {
        severity = "error";
        key = "secret";
        message = "a file is needed for users, and the activation script makes users before any unit starts";
        hint = "services.userborn.enable = true, or systemd.sysusers.enable = true";
      }
    ]
  else
    [ ]
)
