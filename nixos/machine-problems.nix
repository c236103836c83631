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
}:
let
  error = name: key: message: hint: {
    severity = "error";
    key = "secret.${name}${key}";
    inherit message hint;
  };
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
      (error name ".reloadUnits" "a secret is told to its units in one way, and restartUnits names another"
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
++ (
  if builtins.elem "auxcred-user-files.service" writers && !hasUserUnit then
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
