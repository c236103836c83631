# A stand-in for `system.preSwitchChecks` where a nixpkgs is older than that option: the checks run with the new
# configuration and the action, before its program that switches does anything.
{ config, lib, ... }:
{
  options.system.preSwitchChecks = lib.mkOption {
    type = lib.types.attrsOf lib.types.str;
    default = { };
  };

  config.system.activatableSystemBuilderCommands = lib.mkAfter ''
    mv "$out/bin/switch-to-configuration" "$out/bin/.switch-to-configuration"
    cat >"$out/bin/switch-to-configuration" <<'END'
    #!/bin/bash
    set -e
    ${lib.concatMapStrings (check: ''
      (
      set -- @out@ "$1"
      ${check}
      )
    '') (builtins.attrValues config.system.preSwitchChecks)}
    exec @out@/bin/.switch-to-configuration "$@"
    END
    sed -i "s#@out@#$out#g" "$out/bin/switch-to-configuration"
    chmod +x "$out/bin/switch-to-configuration"
  '';
}
