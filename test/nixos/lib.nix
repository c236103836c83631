# What nixos/module.nix uses of nixpkgs' library, as far as one module by itself needs it: definitions are values, and
# types are nothing.
let
  nothing = _: null;
  merged =
    one: other:
    if builtins.isAttrs one && builtins.isAttrs other && !(one ? outPath) then
      one
      // builtins.mapAttrs (key: value: if one ? ${key} then merged one.${key} value else value) other
    else if builtins.isList one then
      one ++ other
    else
      other;
  # Resolves mkMerge. Lazily, since its parts depend on what others of them define.
  resolved =
    value:
    if !builtins.isAttrs value || value ? outPath then
      value
    else if value ? parts then
      builtins.foldl' merged { } (map resolved value.parts)
    else
      builtins.mapAttrs (_: resolved) value;
in
rec {
  types = {
    attrsOf = type: type;
    submodule = module: { inherit module; };
    enum = nothing;
    nullOr = nothing;
    listOf = nothing;
    either = _: _: null;
    oneOf = nothing;
    strMatching = nothing;
    ints = {
      positive = null;
      between = _: _: null;
    };
    str = null;
    lines = null;
    int = null;
    float = null;
    bool = null;
    path = null;
    package = null;
    raw = null;
    anything = null;
  };
  mkOption = option: option;
  literalExpression = text: text;
  mkDefault = value: value;
  mkBefore = value: value;
  mkIf = condition: value: if condition then value else { };
  mkMerge = parts: { inherit parts; };
  optional = condition: value: if condition then [ value ] else [ ];
  optionals = condition: list: if condition then list else [ ];
  optionalAttrs = condition: value: if condition then value else { };
  genAttrs = names: make: builtins.listToAttrs (map (name: { inherit name; value = make name; }) names);
  concatMapStringsSep = separator: make: list: builtins.concatStringsSep separator (map make list);
  escapeShellArgs = builtins.concatStringsSep " ";
  makeBinPath = packages: builtins.concatStringsSep ":" (map (package: "${package}/bin") packages);
  versionAtLeast = one: other: builtins.compareVersions one other >= 0;
  removeSuffix =
    suffix: text:
    let
      length = builtins.stringLength text - builtins.stringLength suffix;
    in
    if length >= 0 && builtins.substring length (-1) text == suffix then builtins.substring 0 length text else text;

  # The values of options, given some of them; an option without a default has to be given or not be read.
  valuesOf =
    options: given:
    builtins.mapAttrs (
      key: option:
      if option ? description then
        given.${key} or (option.default or (throw "the option ${key} is not defined"))
      else
        valuesOf option (given.${key} or { })
    ) options;

  # A module's configuration, given values of its option auxcred and of services, each `{ auxcred = ...; }`.
  evaluated =
    file: auxcred: services:
    let
      package = name: { inherit name; outPath = "/nix/store/${name}"; version = "257"; };
      text = name: content: { inherit name content; outPath = "/nix/store/${name}"; };
      made = import file {
        lib = import ./lib.nix;
        options.system.preSwitchChecks = { };
        utils.fsNeededForBoot = disk: disk.neededForBoot or false;
        pkgs = {
          coreutils = package "coreutils";
          auxcred = package "auxcred";
          writeText = text;
          runCommand = name: _: text name;
        };
        config = {
          networking.hostName = "web1";
          services.openssh.enable = true;
          users = {
            users.app.name = "app";
            groups = { };
          };
          boot.isContainer = false;
          fileSystems = auxcred.fileSystems or { };
          systemd = {
            package = package "systemd";
            services = builtins.mapAttrs (
              name: service: { auxcred = secretsOf name service.auxcred; }
            ) services;
          };
          environment.etc."systemd/system".source = "/nix/store/units";
          system.etc.overlay = {
            enable = auxcred.immutableEtc or false;
            mutable = false;
          };
          auxcred = values;
        };
      };
      secretOf =
        type: name: secret:
        let
          module = type.module {
            inherit name;
            config = value;
          };
          value = valuesOf module.options (module.config // secret);
        in
        value;
      declared = made.options.auxcred;
      secretsOf =
        name: builtins.mapAttrs (secretOf (made.options.systemd.services.type.module {
          inherit name;
          config.serviceConfig = { };
        }).options.auxcred.type);
      values = valuesOf declared (
        merged (builtins.head made.config.parts).auxcred auxcred
        // {
          secrets = builtins.mapAttrs (secretOf declared.secrets.type) (auxcred.secrets or { });
          templates = builtins.mapAttrs (secretOf declared.templates.type) (auxcred.templates or { });
        }
      );
    in
    resolved made.config
    // {
      inherit values;
      ofService = name: (made.options.systemd.services.type.module { inherit name; config.serviceConfig = { }; }).config;
    };
}
