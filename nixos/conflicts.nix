# What is wrong between declarations: ids, files and links that two of them want, and secrets that are made of others. A
# pure function of builtins.
{ entries }:
let
  naming = import ./declarations.nix;
  kinds = import ./kinds.nix;
  inherit (import ./table.nix) tableOf;
  inherit (import ./template.nix) dependenciesOf dependencyOf readTemplate referencesOf;

  optionals = condition: list: if condition then list else [ ];
  secrets = builtins.mapAttrs naming.completed entries;
  all = builtins.attrValues secrets;
  tables = builtins.mapAttrs (_: tableOf "") entries;

  problem = name: message: hint: {
    severity = "error";
    key = "secret.${name}";
    inherit message hint;
  };

  # Visits (place, secret) pairs in order, and reports each place that another secret has.
  taken =
    pairs: report:
    (builtins.foldl'
      (
        { seen, found }:
        { place, secret }:
        let
          other = seen.${place} or secret;
        in
        {
          seen = seen // {
            ${place} = secret;
          };
          found = found ++ optionals (other.name != secret.name) (report place secret other);
        }
      )
      {
        seen = { };
        found = [ ];
      }
      pairs
    ).found;

  plain = builtins.unsafeDiscardStringContext;

  receiversOf =
    { units, delivery, ... }:
    if units == [ ] && (delivery == "credstore" || delivery == "file") then [ "" ] else units;

  idProblems =
    taken
      (builtins.concatMap (
        secret:
        builtins.concatMap (
          unit:
          map (id: {
            place = plain "${unit}/${id}";
            inherit secret;
          }) (naming.credentialsOf secret)
        ) (receiversOf secret)
      ) all)
      (
        place: secret: other:
        let
          parts = builtins.match "(.*)/(.*)" place;
          unit = builtins.elemAt parts 0;
          receiver = if unit == "" then "the credential store" else unit;
        in
        [
          (problem secret.name "${receiver} gets ${other.name} under the id ${builtins.elemAt parts 1} already"
            "credential = \"another-id\""
          )
        ]
      );

  placeProblems =
    let
      linkOf = secret: if builtins.isString (secret.link or null) then secret.link else null;
      placesOf =
        secret:
        builtins.concatMap (
          id:
          let
            ending = builtins.substring (builtins.stringLength secret.credential) (-1) id;
          in
          [ id ] ++ optionals (secret ? link) [ "${if linkOf secret == null then "" else linkOf secret}${ending}" ]
        ) (naming.credentialsOf secret);
    in
    taken
      (builtins.concatMap (
        secret:
        map (place: {
          place = plain place;
          inherit secret;
        }) (placesOf secret)
      ) (builtins.filter ({ delivery, ... }: delivery == "file") all))
      (
        place: secret: other: [
          (problem secret.name "${other.name} has the file ${place} already" "another credential or link")
        ]
      );

  fixedFileProblems =
    let
      shareOf = secret: if builtins.isString (secret.share or null) then secret.share else "";
      fileOf =
        secret:
        if secret.kind == "vault" then secret.name else tables.${secret.name}.valueOf.text "path" secret.name;
    in
    taken
      (map (secret: {
        place = plain "${shareOf secret}/${fileOf secret}";
        inherit secret;
      }) (builtins.filter ({ kind, ... }: kind == "fixed" || kind == "vault") all))
      (
        place: secret: other:
        optionals (secret.kind == "vault" || other.kind == "vault") [
          (problem secret.name "${other.name} has the same file in the fixed folder, and one of them comes from a vault"
            "path = \"another/one\", or another name"
          )
        ]
      );

  isKey = secret: builtins.elem secret.kind naming.keyKinds;
  isDerived = secret: builtins.elem secret.kind naming.derivedKinds;
  mostOf = secret: kinds.mostOf secret.kind tables.${secret.name};

  # Why a secret can't be used in another one.
  unusable =
    secret: other: part: escapes:
    let
      method = tables.${secret.name}.valueOf.oneOf "method" "yescrypt" naming.hashMethods;
      most = kinds.longestPhrase.${method};
      wrong = message: hint: [ { inherit message hint; } ];
    in
    if
      secret.kind == "crypt"
      && other.kind != "fixed"
      && other.kind != "vault"
      && (!isDerived other || other.kind == "bytes" || isKey other || part != "secret")
    then
      wrong "only a password or another one-line secret can be hashed" null
    else if secret.kind == "crypt" && isDerived other && mostOf other > most then
      wrong "${method} reads no more than ${toString most} bytes, and it may have ${toString (mostOf other)}" "a shorter secret"
    else if part == "public" && !isKey other then
      wrong "it has no public half" null
    else if part == "previous" && !(isDerived other && other.previous) then
      wrong "it has no previous value" "previous = true for ${other.name}"
    else if
      isDerived other
      && other.kind == "bytes"
      && escapes != [ ]
      && builtins.elem (builtins.head escapes) [
        "json"
        "env"
      ]
    then
      wrong "bytes are not text" "{{${other.name} | base64}}"
    else
      [ ];

  referenceProblems =
    secret:
    builtins.concatMap (
      { reference, escapes }:
      let
        dependency = dependencyOf secrets reference;
        at = "${secret.name} -> ${reference}";
      in
      if dependency == null then
        [
          (problem secret.name "${at}: no secret is declared by this name"
            "declare it; without units it is delivered as part of others only"
          )
        ]
      else
        map ({ message, hint }: problem secret.name "${at}: ${message}" hint) (
          unusable secret secrets.${dependency.name} dependency.part escapes
        )
    ) (referencesOf secret);

  namedBy = builtins.mapAttrs (_: secret: map ({ name, ... }: name) (dependenciesOf secrets secret)) secrets;

  # Orders the secrets so that each comes after those that it is made of, and reports circles, each secret in at most
  # one.
  visit =
    path: state: name:
    let
      begun = state // {
        begun = state.begun // {
          ${name} = true;
        };
      };
      step =
        state: next:
        if state.way ? ${next} then
          (if state.circular ? ${next} || state.circular ? ${name} then state else closed state next)
        else if state.begun ? ${next} then
          state
        else
          visit (path ++ [ name ]) state next;
      # The circle is the end of the path, from the secret that is named again.
      closed =
        state: next:
        let
          names = path ++ [ name ];
          circle =
            (builtins.foldl'
              (
                { inside, names }:
                item:
                {
                  inside = inside || item == next;
                  names = names ++ optionals (inside || item == next) [ item ];
                }
              )
              {
                inside = false;
                names = [ ];
              }
              names
            ).names;
        in
        state
        // {
          circular =
            state.circular
            // builtins.listToAttrs (
              map (name: {
                inherit name;
                value = true;
              }) circle
            );
          problems = state.problems ++ [
            (problem next "it is made of itself: ${circleText (circle ++ [ next ])}"
              "remove the next secret from one of them"
            )
          ];
        };
      on = begun // {
        way = begun.way // {
          ${name} = true;
        };
      };
      after = builtins.foldl' step on namedBy.${name};
    in
    after
    // {
      way = removeAttrs after.way [ name ];
      ordered = after.ordered ++ [ name ];
    };
  circleText =
    names:
    let
      count = builtins.length names;
      part = from: length: builtins.genList (i: builtins.elemAt names (from + i)) length;
      shown = if count <= 20 then names else part 0 10 ++ [ "${toString (count - 20)} more" ] ++ part (count - 10) 10;
    in
    builtins.concatStringsSep " -> " shown;
  order = builtins.foldl' (state: name: if state.begun ? ${name} then state else visit [ ] state name) {
    begun = { };
    way = { };
    circular = { };
    ordered = [ ];
    problems = [ ];
  } (builtins.attrNames secrets);

  # The size that each secret may reach, in numbers that can't overflow.
  nothing = {
    bytes = 0.0;
    depth = 0;
    places = 1.0;
    isNoted = false;
  };
  growth = {
    base64 = 4.0 / 3;
    url = 3.0;
    json = 6.0;
    env = 2.0;
  };
  max = a: b: if a > b then a else b;
  ceiling = number: if number > 1.0e15 then number else builtins.ceil number * 1.0;
  extentOf =
    extents: secret:
    if isDerived secret then
      nothing // { bytes = mostOf secret * 1.0; }
    else if secret.kind == "crypt" then
      nothing // { bytes = 128.0; }
    else if secret.kind != "template" then
      nothing
    else
      let
        sum =
          builtins.foldl'
            (
              total: piece:
              let
                dependency = dependencyOf secrets piece.reference;
                other = if dependency == null then nothing else extents.${dependency.name} or nothing;
                grown = builtins.foldl' (bytes: escape: bytes * growth.${escape} + 3) other.bytes piece.escapes;
              in
              if builtins.isString piece then
                total // { bytes = total.bytes + builtins.stringLength piece; }
              else
                {
                  bytes = total.bytes + ceiling grown;
                  depth = max total.depth other.depth;
                  places = total.places + other.places;
                  isNoted = total.isNoted || other.isNoted;
                }
            )
            {
              bytes = 0.0;
              depth = 0;
              places = 0.0;
              isNoted = false;
            }
            (readTemplate secret).pieces;
      in
      sum // { depth = sum.depth + 1; };
  tooLarge =
    {
      bytes,
      depth,
      places,
      ...
    }:
    if depth > 32 then
      "templates are nested more than 32 deep in it"
    else if places > 10000 then
      "more than 10000 secrets stand in it"
    else if bytes > kinds.largestSecret then
      "it may have ${
        if bytes > 1.0e15 then "far too many" else toString (builtins.floor bytes)
      } bytes, and at most ${toString kinds.largestSecret} can be delivered"
    else
      null;
  sizes =
    builtins.foldl'
      (
        { extents, problems }:
        name:
        let
          extent = extentOf extents secrets.${name};
          isCircular = order.circular ? ${name};
          message =
            if secrets.${name}.kind == "template" && !extent.isNoted && !isCircular then tooLarge extent else null;
        in
        {
          extents = extents // {
            ${name} = extent // {
              isNoted = extent.isNoted || message != null || isCircular;
            };
          };
          problems = problems ++ optionals (message != null) [ (problem name message "split it") ];
        }
      )
      {
        extents = { };
        problems = [ ];
      }
      order.ordered;

  used = builtins.listToAttrs (
    map (name: {
      inherit name;
      value = true;
    }) (builtins.concatLists (builtins.attrValues namedBy))
  );
  useProblems = map (
    { name, ... }:
    problem name "no unit gets this secret" "units = [ \"web\" ]"
    // {
      severity = "warning";
      key = "secret.${name}.units";
    }
  ) (builtins.filter (secret: receiversOf secret == [ ] && !used ? ${secret.name}) all);
in
{
  inherit secrets;

  problems =
    idProblems
    ++ placeProblems
    ++ fixedFileProblems
    ++ builtins.concatMap referenceProblems all
    ++ order.problems
    ++ sizes.problems
    ++ useProblems;
}
