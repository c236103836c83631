# The package: builds from the lock file, without a network while it builds.
{
  lib,
  stdenv,
  buildNpmPackage,
  fetchNpmDeps,
  autoPatchelfHook,
  installShellFiles,
  makeWrapper,
  nodejs_22,
  tpm2-tss,
  libxcrypt,
  # The sources.
  src ? lib.cleanSource ../.,
  # The hash of all packages in package-lock.json: `prefetch-npm-deps package-lock.json` prints it.
  npmDepsHash ? lib.fileContents ./npm-deps-hash,
}:
let
  manifest = builtins.fromJSON (builtins.readFile ../package.json);
  nodejs = nodejs_22;
  libraries = [
    tpm2-tss
    libxcrypt
    stdenv.cc.cc.lib
  ];
in
buildNpmPackage {
  pname = manifest.name;
  inherit (manifest) version;
  inherit src nodejs npmDepsHash;

  # The compiler and the bundler are executables of npm packages, and so is koffi's native file: autoPatchelf gives all of
  # them Nix's loader and libraries. Their scripts are not run.
  npmFlags = [ "--ignore-scripts" ];
  nativeBuildInputs = [
    autoPatchelfHook
    makeWrapper
  ];
  buildInputs = libraries;
  dontAutoPatchelf = true;
  preBuild = ''
    autoPatchelf node_modules
  '';

  # `npm run build` writes dist/, and install.js puts each file in its place.
  installPhase = ''
    runHook preInstall
    node build/src/package/install.js --destdir=/ --prefix=$out --node=${lib.getExe nodejs}
    runHook postInstall
  '';

  # NixOS renders drop-ins at evaluation, makes users and folders from its own configuration, and has no vendor folder.
  postInstall = ''
    rm -r $out/lib/systemd/system-generators $out/lib/sysusers.d $out/lib/tmpfiles.d
  '';

  # The libraries are opened by name while it runs.
  postFixup = ''
    patchelf --add-rpath ${lib.makeLibraryPath libraries} $out/lib/auxcred/koffi.node
  '';

  doInstallCheck = true;
  installCheckPhase = ''
    runHook preInstallCheck
    $out/bin/auxcred --version
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
