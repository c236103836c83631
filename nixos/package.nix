# The package. It builds from package-lock.json, whose packages are fetched one by one beforehand, each by its own hash:
# without a network while it builds, and without a hash of them all to keep current.
{
  lib,
  stdenv,
  autoPatchelfHook,
  buildNpmPackage,
  importNpmLock,
  libxcrypt,
  nodejs_22,
  tpm2-tss,
}:
let
  root = ../.;
  manifest = builtins.fromJSON (builtins.readFile (root + "/package.json"));
  platform = if stdenv.hostPlatform.isAarch64 then "arm64" else "x64";

  # What a checkout has that was worked in.
  made = [
    "node_modules"
    "build"
    "dist"
  ];

  # Libraries that the program opens by name while it runs. A link beside it makes the name an absolute path.
  libraries =
    lib.genAttrs (map (name: "libtss2-${name}.so.0") [
      "esys"
      "mu"
      "rc"
      "tctildr"
    ]) (name: "${lib.getLib tpm2-tss}/lib/${name}")
    // {
      "libcrypt.so.2" = "${lib.getLib libxcrypt}/lib/libcrypt.so.2";
    };
  link = name: path: "ln -s ${path} \"$out/lib/auxcred/${name}\"";
in
buildNpmPackage {
  pname = manifest.name;
  inherit (manifest) version;
  src = lib.cleanSourceWith {
    src = lib.cleanSource root;
    filter = path: _: !builtins.elem (toString path) (map (name: toString (root + "/${name}")) made);
  };
  nodejs = nodejs_22;

  npmDeps = importNpmLock {
    package = manifest;
    packageLock = import ./npm-deps.nix (builtins.fromJSON (builtins.readFile (root + "/package-lock.json")));
  };
  npmConfigHook = importNpmLock.npmConfigHook;
  npmFlags = [ "--ignore-scripts" ];

  nativeBuildInputs = [ autoPatchelfHook ];
  # What the native files of koffi and of the bundler are linked with. The compiler is linked with nothing.
  buildInputs = [ stdenv.cc.cc.lib ];
  dontAutoPatchelf = true;
  preBuild = ''
    autoPatchelf node_modules/@koromix/koffi-linux-${platform} node_modules/@rolldown/binding-linux-${platform}-gnu
  '';

  # The installer puts everything in its place: programs, units, manual pages, completion, the schema and documents. It
  # writes the path of Node into the command and into the units, so that nothing depends on PATH.
  installPhase = ''
    runHook preInstall
    node build/src/package/install.js --destdir="$PWD/installed" --prefix="$out" --node=${lib.getExe nodejs_22}
    mkdir -p "$out"
    cp -r "installed$out/." "$out"
    ${lib.concatStringsSep "\n    " (lib.mapAttrsToList link libraries)}
    runHook postInstall
  '';

  # NixOS renders drop-ins at evaluation, and makes users and folders from its own configuration.
  postInstall = ''
    rm -r "$out/lib/systemd/system-generators" "$out/lib/sysusers.d" "$out/lib/tmpfiles.d"
  '';

  doInstallCheck = true;
  installCheckPhase = ''
    runHook preInstallCheck
    "$out/bin/auxcred" --version
    mkdir -p root/etc/auxcred/secrets.d
    "$out/bin/auxcred" check --root="$PWD/root"
    runHook postInstallCheck
  '';

  meta = {
    inherit (manifest) description;
    license = lib.licenses.mit;
    mainProgram = "auxcred";
    platforms = [
      "x86_64-linux"
      "aarch64-linux"
    ];
  };
}
