# The text of vault.toml for the vaults that a machine fetches from. JSON's strings, numbers and lists are TOML's too.
vaults:
let
  line = key: value: "${key} = ${builtins.toJSON value}\n";
  table =
    name:
    "[vault.${builtins.toJSON name}]\n"
    + builtins.concatStringsSep "" (builtins.attrValues (builtins.mapAttrs line vaults.${name}));
in
builtins.concatStringsSep "\n" (map table (builtins.attrNames vaults))
