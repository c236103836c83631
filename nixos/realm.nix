# A public hash of all that decides a secret's value and is known at evaluation: the declaration and those of the
# secrets that it is made of. Neither today's period nor a chosen value is in it.
{
  # Entries of the manifest by name.
  entries,
}:
let
  inherit (import ./template.nix) dependenciesOf;

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
    "weak"
    "previous"
  ];

  # What a declaration means if it lacks a key, so that writing the default down restarts nothing.
  defaults = {
    kind = "password";
    generation = 1;
  };

  decisive =
    name:
    builtins.toJSON (defaults // removeAttrs entries.${name} delivering // { inherit name; });

  # genericClosure visits each secret once.
  namedBy =
    name:
    map ({ key }: key) (
      builtins.genericClosure {
        startSet = [ { key = name; } ];
        operator = { key }: map ({ name, ... }: { key = name; }) (dependenciesOf entries entries.${key});
      }
    );
in
{
  realmOf =
    name:
    builtins.hashString "sha256" (
      builtins.concatStringsSep "\n" (map decisive (builtins.sort builtins.lessThan (namedBy name)))
    );
}
