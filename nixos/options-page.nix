# The options of the NixOS module as plain data, for docs/nixos-options.mjs: options.nix with stand-ins for lib, in
# which a type is its description.
let
  within = description: if builtins.match ".* or .*" description == null then description else "(${description})";
  types = rec {
    str = "text";
    lines = "text of several lines";
    int = "whole number";
    float = "number";
    bool = "true or false";
    path = "path";
    package = "package";
    raw = "function";
    anything = "anything";
    ints = {
      positive = "whole number from 1";
      between = from: to: "whole number from ${toString from} to ${toString to}";
    };
    enum = choices: "one of ${builtins.concatStringsSep ", " (map (choice: "`${choice}`") choices)}";
    strMatching = pattern: "text that matches `${pattern}`";
    nullOr = type: "null or ${type}";
    either = one: other: "${one} or ${other}";
    oneOf = builtins.concatStringsSep " or ";
    listOf = type: "list of ${within type}";
    attrsOf = type: if builtins.isAttrs type then type else "attribute set of ${within type}";
  };
  described = import ./options.nix {
    lib = {
      inherit types;
      mkOption = option: option // { _type = "option"; };
      literalExpression = text: { literal = text; };
    };
  };

  flattened =
    prefix: options:
    builtins.concatMap (
      key:
      let
        option = options.${key};
        name = "${prefix}.${key}";
        isSecrets = builtins.isAttrs (option.type or null);
      in
      if option._type or null != "option" then
        flattened name option
      else
        [
          (
            removeAttrs option [ "_type" ]
            // {
              inherit name;
              type = if isSecrets then "attribute set of secrets" else option.type;
            }
          )
        ]
        ++ (if isSecrets && option.type ? options then flattened "${name}.<name>" option.type.options else [ ])
    ) (builtins.attrNames options);
in
flattened "auxcred" (
  described.machine {
    secretType.options = described.secret;
    templateType.options = described.template;
    defaultPackage = null;
  }
)
++ flattened "systemd.services.<name>" { auxcred = described.ofService { }; }
