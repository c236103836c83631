# Renders declarations of secrets: the manifest, what each unit adds to itself, and what is wrong with them. A pure
# function of builtins: it needs neither pkgs nor a library. test/nixos/ compares it with the program's own rendering.
{
  # Secrets by name, as [secret.NAME] of a manifest; keys that are null are not set, units may lack ".service".
  secrets,
  # The folder of the installed package, such as a path of the store.
  package ? "/usr",
  # Whether this systemd gives a running unit its new credentials when it reloads: from 260 on.
  canRefresh ? false,
  # rm of coreutils.
  rm ? "/bin/rm",
}:
let
  inherit (import ./declarations.nix)
    completed
    credentialsOf
    isTemplate
    manifestEntry
    templateOf
    unique
    ;
  inherit (import ./realm.nix { inherit entries; }) realmOf;

  optionals = condition: list: if condition then list else [ ];
  sorted = builtins.sort builtins.lessThan;
  withoutEmpty =
    attributes:
    removeAttrs attributes (builtins.filter (key: attributes.${key} == [ ]) (builtins.attrNames attributes));

  entries = builtins.mapAttrs (_: manifestEntry) secrets;
  declarations = builtins.mapAttrs completed entries;
  all = builtins.attrValues declarations;

  # The units that can't wait for /var: systemd starts them before the broker.
  early = builtins.attrNames (import ./units.nix).beforeTheBroker;

  # Base64 of an encrypted credential that no key opens.
  neverOpens = "auxcred/never/opens/this";

  # Variables with which the dynamic linker, OpenSSL or Node load or write files.
  leadingAstray =
    "LD_AUDIT LD_DEBUG LD_DEBUG_OUTPUT LD_LIBRARY_PATH LD_ORIGIN_PATH LD_PRELOAD LD_PROFILE LD_PROFILE_OUTPUT "
    + "LD_TRACE_LOADED_OBJECTS GLIBC_TUNABLES GCONV_PATH LOCPATH MALLOC_TRACE OPENSSL_CONF OPENSSL_ENGINES "
    + "OPENSSL_MODULES NODE_CHANNEL_FD NODE_COMPILE_CACHE NODE_DEBUG NODE_EXTRA_CA_CERTS NODE_ICU_DATA NODE_OPTIONS "
    + "NODE_PATH NODE_REDIRECT_WARNINGS NODE_V8_COVERAGE";

  stagedName =
    unit: credential: "auxcred.${builtins.substring 0 32 (builtins.hashString "sha256" unit)}.${credential}";

  # The services that write the files among these secrets.
  writersOf =
    of:
    let
      files = builtins.filter ({ delivery, ... }: delivery == "file") of;
      writerOf = { neededFor, ... }: if neededFor == "users" then "auxcred-user-files.service" else "auxcred-files.service";
    in
    sorted (unique (map writerOf files));

  unitsNamed = unique (builtins.concatMap ({ units, ... }: units) all);
  declaredFor = unit: builtins.filter ({ units, ... }: builtins.elem unit units) all;

  # What an instance gets from its template; its own secrets come before those of the same id.
  inherited =
    unit: own:
    let
      template = templateOf unit;
      ids = builtins.concatMap credentialsOf own;
      isOwn = secret: builtins.any (id: builtins.elem id ids) (credentialsOf secret);
    in
    optionals (template != null) (
      map (secret: secret // { inherit template; }) (
        builtins.filter (secret: !isOwn secret) (declaredFor template)
      )
    );

  # What `systemd.services.UNIT` adds to itself.
  renderUnit =
    unit:
    let
      own = declaredFor unit;
      given = own ++ inherited unit own;
      ids = way: sorted (builtins.concatMap credentialsOf (builtins.filter (secret: secret.delivery == way) given));
      sources = builtins.listToAttrs (
        builtins.concatMap (
          secret:
          map (name: {
            inherit name;
            value = secret.template or unit;
          }) (credentialsOf secret)
        ) given
      );
      fileFor = id: stagedName sources.${id} id;
      socket = ids "socket";
      staged = ids "stage";
      stored = ids "credstore";
      # An instance that stops must not remove the file of its siblings.
      removed = optionals (!isTemplate unit) (builtins.filter (id: sources.${id} == unit) staged);
      neighbours =
        optionals (socket ++ staged != [ ]) [ "auxcred.socket" ]
        ++ optionals (staged != [ ]) [ "auxcred-stage.socket" ]
        ++ writersOf given;
      refreshes = builtins.any ({ change, delivery, ... }: change == "reload" && delivery != "file") given;
      realms = way: map ({ name, ... }: realmOf name) (builtins.filter ({ change, ... }: change == way) given);
    in
    {
      wants = neighbours;
      after = neighbours;
      unitConfig = withoutEmpty {
        AssertPathExists = map (id: "/run/auxcred/files/${id}") (ids "file");
        RequiresMountsFor = optionals (stored != [ ] && !builtins.elem unit early) [ "/var/lib/systemd" ];
      };
      serviceConfig = withoutEmpty {
        RefreshOnReload = optionals (canRefresh && refreshes) [ "credentials" ];
        LoadCredentialEncrypted =
          map (id: "${id}:/run/auxcred/encrypted.sock") socket
          ++ map (id: "${id}:/etc/credstore.encrypted/${fileFor id}") stored;
        SetCredentialEncrypted = map (id: "${id}:${neverOpens}") socket;
        UnsetEnvironment = optionals (staged != [ ]) [ leadingAstray ];
        ExecStartPre = optionals (staged != [ ]) [
          "+${package}/lib/auxcred/auxcred.cjs stage %n ${builtins.concatStringsSep " " staged}"
        ];
        ExecStopPost = optionals (removed != [ ]) [
          "-+${rm} -f ${builtins.concatStringsSep " " (map (id: "/run/credstore/${fileFor id}") removed)}"
        ];
        LoadCredential = map (id: "${id}:${fileFor id}") staged;
      };
      restartTriggers = realms "restart";
      reloadTriggers = realms "reload";
    };
in
{
  # The manifest, as builtins.toJSON writes it to a file.
  manifest.secret = entries;

  # What each named unit adds to itself, by the unit's full name.
  units = builtins.listToAttrs (
    map (name: {
      inherit name;
      value = renderUnit name;
    }) unitsNamed
  );

  # The services that sysinit.target wants, so that files are written at boot.
  writers = writersOf all;

  # A hash of all that decides a secret's value, by name. It stays the same when the period or a chosen value changes.
  realms = builtins.mapAttrs (name: _: realmOf name) declarations;

  # The declarations with their defaults, by name.
  inherit declarations;

  # What is wrong: a list of { severity, key, message, hint }.
  problems = import ./problems.nix { inherit entries; };
}
