# A package set in which every program is the one of the Debian machine, so that a NixOS configuration builds without
# nixpkgs: each package's outPath is /usr, and builders are plain derivations that run /bin/bash.
#
# names: what NixOS' modules call packages; nixos: the folder of the modules; debian: what tells one installation of
# Debian from another; tree: what auxcred installs, under the prefix /auxcred
{
  lib,
  system,
  names,
  debian,
  nixos,
  tree,
}:
let
  platform = lib.systems.elaborate system;

  # What a module may do to any package.
  package =
    name: more:
    let
      self = {
        type = "derivation";
        inherit name;
        pname = name;
        version = "0";
        outPath = "/usr";
        outputName = "out";
        outputs = [ "out" ];
        drvPath = "/usr";
        meta = {
          mainProgram = name;
          platforms = [ system ];
          description = name;
        };
        passthru = { };
        override = _: self;
        overrideAttrs = _: self;
        shellPath = "/bin/bash";
        inherit system;
      }
      // lib.genAttrs [ "out" "bin" "lib" "dev" "man" "info" "su" "terminfo" "p11kit" "doc" ] (_: self)
      // more self;
    in
    self;

  plain = name: package name (_: { });

  # stdenv's setup, as far as builders of NixOS' modules use it.
  setup = ''
    set -eu
    shopt -s nullglob
    export PATH=/usr/sbin:/usr/bin:/sbin:/bin
    substituteFile() {
      local text=$(cat "$1"; echo x); text=''${text%x}
      local target=$2; shift 2
      while [ $# -gt 0 ]; do
        case $1 in
          --subst-var) text=''${text//@$2@/''${!2}}; shift 2 ;;
          --subst-var-by) text=''${text//@$2@/$3}; shift 3 ;;
          --replace | --replace-fail | --replace-warn | --replace-quiet) text=''${text//"$2"/$3}; shift 3 ;;
          *) echo "substitute: $1" >&2; exit 1 ;;
        esac
      done
      printf %s "$text" >"$target"
    }
    substitute() { substituteFile "$@"; }
    substituteInPlace() { local file=$1; shift; substituteFile "$file" "$file" "$@"; }
  '';

  build =
    name: environment: script:
    derivation (
      # What is null, a package's metadata, or no string has no place in an environment.
      builtins.removeAttrs environment [
        "meta"
        "passthru"
        "nativeBuildInputs"
        "buildInputs"
        "buildCommand"
        "passAsFile"
        "preferLocalBuild"
        "allowSubstitutes"
      ]
      // {
        name = lib.strings.sanitizeDerivationName name;
        inherit system;
        builder = "/bin/bash";
        passAsFile = (environment.passAsFile or [ ]) ++ [ "buildCommand" ];
        buildCommand = setup + script;
        args = [
          "-c"
          ". \"$buildCommandPath\""
        ];
      }
    );

  # A derivation that says what a package says.
  built =
    name: environment: script:
    let
      made = build name environment script;
    in
    made
    // {
      inherit name;
      meta.mainProgram = name;
      passthru = environment.passthru or { };
      override = _: built name environment script;
      overrideAttrs = f: let next = environment // f environment; in built name next (next.buildCommand or script);
    };

  writeTextFile =
    {
      name,
      text,
      executable ? false,
      destination ? "",
      checkPhase ? "",
      ...
    }:
    built name
      {
        inherit text;
        passAsFile = [ "text" ];
      }
      ''
        file=$out${destination}
        mkdir -p "$(dirname "$file")"
        cp "$textPath" "$file"
        ${lib.optionalString executable "chmod +x \"$file\""}
      '';

  writeScript = name: text: writeTextFile { inherit name text; executable = true; };
  shebang = text: "#!/bin/bash\n${text}";

  # Of the machine's own packages a tree has all programs.
  buildEnv =
    {
      name,
      paths ? [ ],
      postBuild ? "",
      ...
    }:
    built name { inherit debian; paths = map toString paths; passAsFile = [ "paths" ]; } ''
      mkdir -p "$out/bin"
      for path in ${toString (builtins.filter (path: dirOf path == builtins.storeDir) (map toString paths))}; do
        [ -L "$path/bin" ] || cp -rs --no-preserve=mode "$path"/. "$out"
      done
      for name in $(ls /usr/bin); do
        [ -e "$out/bin/$name" ] || ln -s "/usr/bin/$name" "$out/bin/$name"
      done
      [ -e "$out/sbin" ] || ln -s /usr/sbin "$out/sbin"
      ${postBuild}
    '';

  # The upstream units that NixOS links into its own are Debian's. NixOS asks for some that Debian lacks: they are
  # masked.
  systemd = package "systemd" (self: {
    outPath =
      (build "systemd" { inherit debian; nixos = toString nixos; } ''
        mkdir -p "$out"/{lib/systemd,example/systemd}
        ln -s /usr/bin /usr/sbin "$out"
        for name in $(ls /usr/lib/systemd); do ln -s "/usr/lib/systemd/$name" "$out/lib/systemd"; done
        ln -s /usr/lib/{tmpfiles.d,sysctl.d} "$out/example"
        cp -r /usr/lib/systemd/system /usr/lib/systemd/user "$out/example/systemd"
        suffix='service|socket|target|timer|path|mount|automount|slice|wants'
        for name in $(grep -rhoE "\"[a-zA-Z0-9@_.-]+\.($suffix)\"" "$nixos/modules/system" | tr -d '"' | sort -u); do
          for kind in system user; do
            file=$out/example/systemd/$kind/$name
            if [ -e "$file" ] || [ -L "$file" ]; then continue; fi
            case $name in
              *.wants) mkdir "$file" ;;
              *) ln -s /dev/null "$file" ;;
            esac
          done
        done
      '').outPath;
    version = "257";
    interfaceVersion = 2;
    kmod = plain "kmod";
    util-linux = plain "util-linux";
    withEfi = false;
    withBootloader = false;
    withCryptsetup = false;
    withHostnamed = true;
    withImportd = false;
    withLocaled = true;
    withMachined = false;
    withNetworkd = true;
    withPortabled = false;
    withSysupdate = false;
    withTimedated = true;
    withTpm2Tss = false;
    withUtmp = true;
  });
  derived = {
    _type = "pkgs";
    inherit lib system systemd buildEnv writeTextFile;
    config = { };
    overlays = [ ];
    hostPlatform = platform;
    buildPlatform = platform;
    stdenv = stdenv;
    stdenvNoCC = stdenv;
    __splicedPackages = packages;
    buildPackages = packages;
    pkgsStatic = packages;
    path = ./.;
    formats = import ./formats.nix { inherit lib built; };
    callPackage = f: arguments: plain "called";
    appendOverlays = _: packages;
    extend = _: packages;

    runCommand = built;
    runCommandLocal = built;
    runCommandCC = built;
    writeText = name: text: writeTextFile { inherit name text; };
    inherit writeScript;
    writeShellScript = name: text: writeScript name (shebang text);
    writeScriptBin =
      name: text:
      writeTextFile {
        inherit name text;
        executable = true;
        destination = "/bin/${name}";
      };
    writeShellScriptBin = name: text: derived.writeScriptBin name (shebang text);
    writeShellApplication = { name, text, ... }: derived.writeShellScriptBin name text;
    writeTextDir =
      path: text:
      writeTextFile {
        name = baseNameOf path;
        inherit text;
        destination = "/${path}";
      };
    writeStringReferencesToFile = text: derived.writeText "references" "";
    symlinkJoin = buildEnv;
    linkFarm =
      name: entries:
      built name { } ''
        mkdir -p "$out"
        ${lib.concatMapStrings (entry: ''
          mkdir -p "$(dirname "$out/${entry.name}")"
          ln -s ${entry.path} "$out/${entry.name}"
        '') (if builtins.isList entries then entries else lib.mapAttrsToList lib.nameValuePair entries)}
      '';
    substituteAll =
      arguments:
      let
        values = builtins.removeAttrs arguments [
          "src"
          "isExecutable"
          "name"
          "dir"
          "postInstall"
        ];
        name = arguments.name or (baseNameOf (toString arguments.src));
        file = if arguments ? dir then "$out/${arguments.dir}/${name}" else "$out";
      in
      built name { source = arguments.src; } ''
        mkdir -p "$(dirname "${file}")"
        substitute "$source" "${file}" ${
          lib.concatStringsSep " " (
            lib.mapAttrsToList (
              name: value:
              "--subst-var-by ${name} ${
                lib.escapeShellArg (if value == null || value == false then "" else toString value)
              }"
            ) values
          )
        }
        ${lib.optionalString (arguments.isExecutable or false) "chmod +x \"${file}\""}
      '';
    replaceVars = source: values: derived.substituteAll (values // { src = source; });
    closureInfo = _: plain "closure-info";
    makeSetupHook = _: _: plain "hook";
    ensureNewerSourcesForZipFilesHook = plain "hook";

    concatText = name: files: built name { } "cat ${toString files} >\"$out\"";
    # The package of its own that NixOS takes units from.
    dbus = package "dbus" (self: {
      outPath =
        (build "dbus" { inherit debian; } ''
          mkdir -p "$out/lib/systemd/system"
          ln -s /usr/bin "$out/bin"
          cp /usr/lib/systemd/system/dbus.{service,socket} "$out/lib/systemd/system"
        '').outPath;
    });
    runtimeShell = "/bin/bash";
    runtimeShellPackage = derived.bash;
    # Debian's configuration of the bus is in /usr/share.
    makeDBusConf = _: built "dbus-1" { } "mkdir \"$out\"";

    # What package.nix would make.
    auxcred = built "auxcred" { tree = builtins.path { path = tree; name = "auxcred-tree"; }; } ''
      cp -r "$tree/auxcred" "$out"
      chmod -R u+w "$out"
      grep -rlIF /auxcred/ "$out"/lib/systemd | xargs sed -i "s#/auxcred/\(lib\|bin\)/#$out/\1/#g"
    '';
    xorg = {
      xauth = plain "xauth";
      lndir = derived.writeShellScriptBin "lndir" "cp -rs \"$1\"/. \"$2\"";
    };

    libxcrypt = package "libxcrypt" (self: { enabledCryptSchemeIds = [ "y" "6" ]; });
    perl = package "perl" (self: { withPackages = _: self; });
    python3 = package "python3" (self: { withPackages = _: self; });
    bash = plain "bash";
    bashInteractive = package "bash-interactive" (self: { outPath = "/usr/."; });
    glibcLocales = package "glibc-locales" (self: { outPath = "/usr"; });
    linuxPackages = linuxPackages;
    linuxPackages_latest = linuxPackages;
    linuxPackagesFor = _: linuxPackages;
  }
  # A user's shell is compared with each of these.
  // lib.genAttrs [ "fish" "xonsh" "zsh" ] (name: package name (self: { outPath = "/usr/bin/../../usr/${name}"; }));

  linuxPackages = {
    inherit stdenv;
    kernel = package "linux" (self: {
      version = "6.6";
      modDirVersion = "6.6";
      features = { };
      config = { isYes = _: true; isEnabled = _: true; };
      kernelOlder = _: false;
      kernelAtLeast = _: true;
    });
    extend = _: linuxPackages;
    zfs.latestCompatibleLinuxPackages = linuxPackages;
  };

  stdenv = plain "stdenv" // {
    hostPlatform = platform;
    buildPlatform = platform;
    targetPlatform = platform;
    inherit system;
    inherit (platform) isLinux isx86_32 isi686 isAarch32;
    inherit (platform) isx86_64 is64bit isAarch64;
    shell = "/bin/bash";
    cc = package "cc" (self: { libc = plain "libc"; bintools.dynamicLinker = "/lib64/ld-linux.so"; });
    mkDerivation =
      arguments: built (arguments.name or arguments.pname) arguments (arguments.buildCommand or "mkdir -p \"$out\"");
  };

  packages = lib.genAttrs names plain // derived;
in
packages
