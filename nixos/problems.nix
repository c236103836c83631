# What is wrong with the entries of a manifest: a list of { severity, key, message, hint }. Judges as `auxcred check`
# does, but for Unicode's normal forms in the names of files, which that alone can tell. A pure function of builtins.
{ entries }:
let
  naming = import ./declarations.nix;
  inherit (import ./table.nix) tableOf isText;
  inherit (import ./template.nix) readTemplate;
  readOptions = import ./kinds.nix;
  units = import ./units.nix;
  conflicts = import ./conflicts.nix { inherit entries; };

  longestId = 200;
  namePattern = "[a-z0-9_][a-z0-9._@+-]*(/[a-z0-9_][a-z0-9._@+-]*)*";
  scopePattern = "[a-z0-9_][a-z0-9._@+-]*";
  isShort = most: text: builtins.stringLength text <= most;
  matches = pattern: text: isShort 2000 text && builtins.match pattern text != null;
  optionals = condition: list: if condition then list else [ ];
  text = builtins.toJSON;

  placementKeys = [
    "owner"
    "group"
    "mode"
    "link"
    "needed-for"
  ];
  commonKeys = [
    "kind"
    "units"
    "credential"
    "delivery"
    "change"
    "hook"
  ];
  contentKeys =
    kind:
    if kind == "template" then
      [
        "content"
        "env"
        "json"
      ]
    else if kind == "fixed" then
      [
        "path"
        "share"
      ]
    else if kind == "vault" then
      [
        "vault"
        "path"
        "options"
        "share"
      ]
    else if kind == "crypt" then
      [
        "of"
        "method"
        "rounds"
      ]
    else
      [
        "generation"
        "share"
        "rotate"
        "period"
        "previous"
      ]
      ++ readOptions.keysOf kind;

  shareProblems =
    table:
    optionals (table.has "share") (
      table.text "share" ""
      ++ optionals (isText (table.get "share") && !matches scopePattern (table.get "share")) [
        (table.problem "share" "${text (table.get "share")} is not the name of a group" "lower-case letters, digits and . _ @ + -")
      ]
    );

  periodProblems =
    table: rotate:
    let
      given = table.get "period";
      name = if isText given then given else "";
      period = import ./period.nix name;
    in
    optionals (table.has "period") (
      table.text "period" ""
      ++ (
        if rotate == null then
          [ (table.problem "period" "a secret that does not rotate has no periods" "rotate = \"monthly\"") ]
        else if period == null || period.rotation != rotate then
          [
            (table.problem "period" "${text name} is not a period of a secret that rotates ${rotate}"
              "2026, 2026-Q4, 2026-11, 2026-W47 or 2026-11-23, as its rotation has them"
            )
          ]
        else
          [ ]
      )
    );

  derivedProblems =
    kind: table:
    let
      share = table.has "share";
      rotate = if table.has "rotate" then table.valueOf.oneOf "rotate" "monthly" naming.rotations else null;
      generation = table.valueOf.whole "generation" 1 1 4294967295;
      previous = table.valueOf.flag "previous" (share && rotate != null);
      period = if isText (table.get "period") then import ./period.nix (table.get "period") else null;
      isHeld = rotate != null && period != null && period.rotation == rotate;
    in
    shareProblems table
    ++ optionals (table.has "rotate") (table.oneOf "rotate" "monthly" naming.rotations)
    ++ periodProblems table rotate
    ++ table.whole "generation" 1 1 4294967295
    ++ table.flag "previous" false
    ++ optionals (previous && rotate == null && generation == 1) [
      (table.problem "previous" "nothing comes before the first generation of a secret that does not rotate"
        "rotate = \"monthly\", or leave it out until generation = 2"
      )
    ]
    ++ optionals (previous && isHeld && period.isFirst) [
      (table.problem "previous" "nothing comes before ${table.get "period"}, the first period that there is"
        "previous = false, or another period"
      )
    ]
    ++ readOptions.problemsOf kind table;

  pathProblem =
    path:
    let
      segments = builtins.filter isText (builtins.split "/" path);
      lower = builtins.replaceStrings [ "S" "E" "A" "L" "D" ] [ "s" "e" "a" "l" "d" ];
      # Each segment is judged in full before the next one.
      problemsIn =
        segment:
        optionals (segment == "") [ "it begins or ends with a slash, or has two in a row" ]
        ++ optionals (builtins.substring 0 1 segment == ".") [ "a part of it begins with a dot" ]
        ++ optionals (naming.hasSuffix ".sealed" (lower segment)) [
          "a part of it ends in .sealed, as the files themselves do"
        ]
        ++ optionals (!isShort 200 segment) [ "a part of it has more than 200 bytes" ];
      found = builtins.concatMap problemsIn segments;
    in
    if path == "" then
      "a name is missing"
    else if builtins.length (builtins.split "[[:cntrl:]]" path) > 1 then
      "it has a control character"
    else if found == [ ] then
      null
    else
      builtins.head found;

  fixedProblems =
    kind: name: table:
    let
      path = table.valueOf.text "path" name;
      problem = pathProblem path;
      vault = table.valueOf.text "vault" "";
    in
    shareProblems table
    ++ table.text "path" name
    ++ (
      if kind == "fixed" then
        optionals (problem != null) [ (table.problem "path" problem "path = \"wifi/home\"") ]
      else
        optionals (table.has "vault") (table.text "vault" "")
        ++ optionals (!matches scopePattern vault) [
          (table.problem "vault" "the name of a vault is expected here" "vault = \"pass\"; vault.toml says what that is")
        ]
        ++ optionals (path == "") [
          (table.problem "path" "the name of the secret in the vault is expected here" "path = \"web/api\"")
        ]
        ++ table.texts "options"
    );

  hashedProblems =
    table:
    let
      method = table.valueOf.oneOf "method" "yescrypt" naming.hashMethods;
      rounds = (import ./kinds.nix).hashRounds.${method};
    in
    optionals (table.has "of") (table.text "of" "")
    ++ optionals (table.valueOf.text "of" "" == "") [
      (table.problem "of" "the name of the secret to hash is missing" "of = \"root-password\"")
    ]
    ++ table.oneOf "method" "yescrypt" naming.hashMethods
    ++ table.whole "rounds" rounds.usual rounds.least rounds.most;

  templateProblems =
    table: entry:
    let
      read = readTemplate entry;
      given = builtins.length read.given;
    in
    optionals (given != 1) [
      (table.problem (if given == 0 then "" else builtins.elemAt read.given 1) "a template has one of content, env and json"
        "content = \"...\" for a text, env for variables, json for JSON"
      )
    ]
    ++ map ({ message, hint }: table.problem read.key message hint) read.complaints;

  contentProblems =
    kind: name: table: entry:
    if kind == "fixed" || kind == "vault" then
      fixedProblems kind name table
    else if kind == "template" then
      templateProblems table entry
    else if kind == "crypt" then
      hashedProblems table
    else
      derivedProblems kind table;

  placementProblems =
    table:
    let
      mode = table.valueOf.text "mode" "0400";
      link = table.get "link";
      accountProblems =
        key:
        let
          given = table.valueOf.text key "root";
          isNumber = matches "[0-9]+" given;
          fits = matches "([a-z_][a-z0-9_-]{0,30}[$]?|0|[1-9][0-9]{0,9})" given;
        in
        table.text key "root"
        ++ optionals (!fits || (isNumber && builtins.fromJSON given >= 4294967295)) [
          (table.problem key "${text given} is not the name or number of a ${if key == "owner" then "user" else "group"}"
            "${key} = \"postgres\""
          )
        ];
    in
    accountProblems "owner"
    ++ accountProblems "group"
    ++ table.text "mode" "0400"
    ++ (
      if !matches "0?[0-7]{3}" mode then
        [ (table.problem "mode" "${text mode} is not a file's mode" "mode = \"0440\"") ]
      else
        optionals (!naming.hasSuffix "0" mode) [
          (
            table.problem "mode" "every user of the machine gets this secret" "mode = \"0440\" and a group"
            // { severity = "warning"; }
          )
        ]
    )
    ++ optionals (table.has "link") (
      table.text "link" "" ++ linkProblems table (if isText link then link else "")
    )
    ++ table.oneOf "needed-for" "units" naming.needs;

  linkProblems =
    table: link:
    let
      segments = builtins.tail (builtins.filter isText (builtins.split "/" link));
      closed = builtins.filter (
        folder: link == folder || builtins.substring 0 (builtins.stringLength folder + 1) link == "${folder}/"
      ) [
        "/run/auxcred"
        "/proc"
        "/sys"
        "/dev"
      ];
      message =
        if builtins.substring 0 1 link != "/" then
          "${text link} is not an absolute path"
        else if !isShort 1024 link || builtins.length (builtins.split "[[:cntrl:]]" link) > 1 then
          "a path of at most 1024 characters, without control characters, is expected here"
        else if builtins.any (part: part == "" || part == "." || part == "..") segments then
          "${link} has an empty segment, . or .."
        else if closed != [ ] then
          "${link} lies inside ${builtins.head closed}"
        else
          null;
    in
    optionals (message != null) [ (table.problem "link" message "link = \"/etc/postgresql/password\"") ];

  unitPattern = "[A-Za-z0-9:_.\\-][A-Za-z0-9:_.\\@-]*[.]";
  otherTypes = "(socket|target|device|mount|automount|swap|timer|path|slice|scope)";
  isService = unit: isShort 255 unit && builtins.match "${unitPattern}service" unit != null;
  isOtherUnit = unit: isShort 255 unit && builtins.match "${unitPattern}${otherTypes}" unit != null;

  unitProblems =
    table: secret: unit:
    let
      problem = message: hint: [ (table.problem "units" message hint) ];
      forUsers = secret.delivery == "file" && secret.neededFor == "users";
      usersUnit = "systemd-sysusers.service";
    in
    if !isService unit then
      problem "${text unit} is not the name of a service" (
        if isOtherUnit unit then
          "only services have credentials on every systemd"
        else
          "the full name, such as web.service or web@.service"
      )
    else if units.own ? ${unit} then
      problem "${unit} would wait for itself: ${units.own.${unit}}" "leave it out"
    else if
      units.beforeTheBroker ? ${unit} && secret.delivery != "credstore" && !(forUsers && unit == usersUnit)
    then
      problem "${unit} starts before the broker and would wait for ever: ${units.beforeTheBroker.${unit}}" (
        if unit == usersUnit && secret.delivery == "file" then "neededFor = \"users\"" else "delivery = \"credstore\""
      )
    else
      [ ];

  # The room for both names in systemd's socket credentials.
  roomProblems =
    table: secret: unit:
    let
      longest = builtins.head (
        builtins.sort (a: b: builtins.stringLength a > builtins.stringLength b) (naming.credentialsOf secret)
      );
      room = builtins.stringLength unit + builtins.stringLength longest;
    in
    if secret.delivery != "socket" then
      [ ]
    else if room > 83 then
      [
        (table.problem "units"
          "${unit} and ${longest} have ${toString room} bytes together, and systemd's socket credentials have room for 83"
          "delivery = \"stage\", or a shorter credential = \"...\""
        )
      ]
    else
      optionals (naming.isTemplate unit && room > 67) [
        (
          table.problem "units"
            "instances of ${unit} with names of more than ${toString (83 - room)} bytes will not start"
            "delivery = \"stage\""
          // { severity = "warning"; }
        )
      ];

  problemsOf =
    name:
    let
      entry = entries.${name};
      table = tableOf "secret.${name}" entry;
      kind = table.valueOf.oneOf "kind" "password" naming.kinds;
      secret = conflicts.secrets.${name};
      keys = commonKeys ++ contentKeys kind ++ optionals (secret.delivery == "file") placementKeys;
      unknown = builtins.filter (key: !builtins.elem key keys) (builtins.attrNames entry);
      hook = table.valueOf.list "hook";
    in
    optionals (!isShort longestId name || !matches namePattern name) [
      (table.problem "" "${text name} is not a secret's name"
        "lower-case letters, digits and . _ @ + -, in segments joined by /"
      )
    ]
    ++ optionals (builtins.substring 0 5 name == "host/" || builtins.substring 0 6 name == "group/") [
      (table.problem "" "${name} would be mistaken for a file of the fixed folder" "a name that does not begin with host/ or group/")
    ]
    ++ table.oneOf "kind" "password" naming.kinds
    ++ table.oneOf "delivery" "socket" naming.deliveries
    ++ map (
      key:
      table.problem key "a ${kind} secret has no key ${key}" (
        if builtins.elem key placementKeys then
          "delivery = \"file\""
        else
          "it has ${builtins.concatStringsSep ", " keys}"
      )
    ) unknown
    ++ table.text "credential" ""
    ++ optionals (!isShort longestId secret.credential || !matches "[A-Za-z0-9_][A-Za-z0-9._@+-]*" secret.credential) [
      (table.problem "credential" "${text secret.credential} is not usable as a credential's id"
        "letters, digits and . _ @ + -; systemd mangles the rest"
      )
    ]
    ++ table.list "hook"
    ++ optionals (hook != [ ] && builtins.substring 0 1 (builtins.head hook) != "/") [
      (table.problem "hook" "a hook is a command by its absolute path, and its arguments"
        "hook = [ \"/usr/local/bin/tell-db\" \"web\" ]"
      )
    ]
    ++ contentProblems kind name table entry
    ++ table.list "units"
    ++ optionals (secret.delivery == "file") (placementProblems table)
    ++ table.oneOf "change" "restart" naming.changes
    ++ optionals
      (secret.delivery == "credstore" && secret.units == [ ] && builtins.substring 0 8 secret.credential == "auxcred.")
      [
        (table.problem "credential" "names that begin with auxcred. are reserved for the credentials of single units"
          "another credential = \"...\""
        )
      ]
    ++ builtins.concatMap (unit: unitProblems table secret unit ++ roomProblems table secret unit) secret.units;
in
builtins.concatMap problemsOf (builtins.attrNames entries) ++ conflicts.problems
