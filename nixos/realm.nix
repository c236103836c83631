# A public hash of all that decides a secret's value and is known at evaluation: the declaration and those of the secrets
# that it is made of. Neither today's period nor a chosen value is in it.
{ declarations, host }:
let
  inherit (import ./template.nix) referencesOf;

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
    "neededFor"
    "weak"
    "previous"
  ];

  nameIn = reference: if declarations ? ${reference} then reference else baseOf reference;
  baseOf =
    reference:
    let
      parts = builtins.match "(.+)[.](public|previous)" reference;
      name = if parts == null then null else builtins.head parts;
    in
    if name != null && declarations ? ${name} then name else null;

  # Names the secrets that this one is made of, and those that they are made of. genericClosure visits each once.
  closureOf =
    name:
    builtins.genericClosure {
      startSet = [ { key = name; } ];
      operator =
        { key }:
        map (key: { inherit key; }) (
          builtins.filter (found: found != null) (map nameIn (referencesOf declarations.${key}))
        );
    };

  decisive =
    name:
    let
      declaration = declarations.${name};
      scope = if declaration ? share then { } else { inherit host; };
    in
    builtins.toJSON (removeAttrs declaration delivering // scope);
in
{
  realmOf =
    name:
    builtins.hashString "sha256" (
      builtins.concatStringsSep "\n" (builtins.sort builtins.lessThan (map ({ key }: decisive key) (closureOf name)))
    );
}
