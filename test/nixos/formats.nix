# The file formats of pkgs.formats that NixOS' modules use, as far as JSON can say them.
{ lib, built }:
let
  json = _: {
    type = lib.types.attrsOf lib.types.anything;
    generate =
      name: value:
      built name
        {
          text = builtins.toJSON value;
          passAsFile = [ "text" ];
        }
        ''
          cp "$textPath" "$out"
        '';
  };
in
lib.genAttrs [
  "json"
  "yaml"
  "toml"
  "ini"
  "iniWithGlobalSection"
  "gitIni"
  "keyValue"
  "javaProperties"
  "libconfig"
  "hocon"
  "elixirConf"
  "lua"
  "pythonVars"
  "systemd"
  "nixConf"
  "php"
  "cdn"
] (_: json) // { systemd = json { }; }
