# A public hash of all that decides a secret's value and is known at evaluation: the declaration and those of the secrets
# that it is made of. Neither today's period nor a chosen value is in it. It changes whenever the digest of the program's
# src/manifest/declared.ts does, so that a switch restarts exactly the units that provision leaves to it.
{
  # Entries of the manifest by name.
  entries,
}:
let
  inherit (import ./template.nix) trim;

  # Keys that change how a secret is delivered, not which secret it is.
  delivering = [
    "units"
    "credential"
    "delivery"
    "change"
    "hook"
    "owner"
    "group"
    "mode"
    "link"
    "needed-for"
  ];
  decisive = builtins.mapAttrs (_: entry: removeAttrs entry delivering) entries;

  # What may be a reference in any text of a value, and what `of` names.
  referencesIn =
    value:
    if builtins.isString value then
      builtins.concatMap (part: if builtins.isList part then [ (trim (builtins.head part)) ] else [ ]) (
        builtins.split "\\{\\{([^{}|]*)([|]|}})" value
      )
    else if builtins.isList value then
      builtins.concatMap referencesIn value
    else if builtins.isAttrs value then
      (if builtins.isString (value.of or null) then [ value.of ] else [ ])
      ++ builtins.concatMap referencesIn (builtins.attrValues value)
    else
      [ ];

  namesIn =
    reference:
    let
      plain = builtins.unsafeDiscardStringContext reference;
      parts = if builtins.stringLength plain > 1000 then null else builtins.match "(.*)[.](public|previous)" plain;
    in
    builtins.filter (name: entries ? ${name}) ([ plain ] ++ (if parts == null then [ ] else [ (builtins.head parts) ]));
  namedBy = builtins.mapAttrs (_: entry: builtins.concatMap namesIn (referencesIn entry)) decisive;

  # genericClosure visits each secret once.
  closureOf =
    name:
    map ({ key }: key) (
      builtins.genericClosure {
        startSet = [ { key = name; } ];
        operator = { key }: map (key: { inherit key; }) namedBy.${key};
      }
    );
in
{
  realmOf =
    name:
    builtins.hashString "sha256" (
      builtins.toJSON (
        map (part: [
          part
          decisive.${part}
        ]) ([ name ] ++ builtins.sort builtins.lessThan (closureOf name))
      )
    );
}
