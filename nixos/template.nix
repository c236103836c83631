# Reads templates as the program's src/manifest/template.ts does: into pieces, which are texts and references, and
# complaints. A pure function of builtins.
let
  escapes = [
    "base64"
    "url"
    "json"
    "env"
  ];
  quoting = [
    "json"
    "env"
  ];
  hint = "{{name}}, {{name.public}}, {{name | url}}; {{\"{{\"}} stands for two braces";
  complaint = message: hint: { inherit message hint; };

  # All that ECMAScript counts as white space, so that a name means the same to both.
  spaces = builtins.fromJSON ''["\f", "\u000b", "\t", "\n", "\r", "\u00a0", "\ufeff", "\u1680", "\u2000", "\u2001",
    "\u2002", "\u2003", "\u2004", "\u2005", "\u2006", "\u2007", "\u2008", "\u2009", "\u200a", "\u2028", "\u2029",
    "\u202f", "\u205f", "\u3000"]'';
  trim =
    text:
    let
      plain = builtins.replaceStrings spaces (map (_: " ") spaces) text;
      words = builtins.filter (part: builtins.isString part && part != "") (builtins.split " " plain);
    in
    builtins.concatStringsSep " " words;

  contains = part: text: builtins.length (builtins.split part text) > 1;
  endsInBrace = text: text != "" && builtins.substring (builtins.stringLength text - 1) 1 text == "{";
  namePattern = "[a-z0-9_][a-z0-9._@+-]*(/[a-z0-9_][a-z0-9._@+-]*)*";
  isName = text: builtins.stringLength text <= 1000 && builtins.match namePattern text != null;
  last = list: builtins.elemAt list (builtins.length list - 1);
  init = list: builtins.genList (builtins.elemAt list) (builtins.length list - 1);

  nothing = {
    pieces = [ ];
    complaints = [ ];
  };
  joined = parts: {
    pieces = builtins.concatMap ({ pieces, ... }: pieces) parts;
    complaints = builtins.concatMap ({ complaints, ... }: complaints) parts;
  };
  only = piece: nothing // { pieces = [ piece ]; };
  wrong = message: hint: nothing // { complaints = [ (complaint message hint) ]; };

  # What stands between two pairs of braces.
  slot =
    inside:
    let
      parts = map trim (builtins.filter builtins.isString (builtins.split "[|]" inside));
      reference = builtins.head parts;
      names = builtins.tail parts;
      asked = builtins.filter (name: builtins.elem name escapes) names;
      unknown = builtins.filter (name: !builtins.elem name escapes) names;
      isEarly = asked != [ ] && builtins.any (name: builtins.elem name quoting) (init asked);
      piece = {
        inherit reference;
        escapes = asked;
      };
    in
    if !isName reference then
      wrong "${builtins.toJSON inside} is not the name of a secret" hint
    else
      {
        pieces =
          if asked != [ ] && builtins.elem (last asked) quoting then
            [
              "\""
              piece
              "\""
            ]
          else
            [ piece ];
        complaints =
          map (
            name: complaint "${builtins.toJSON name} is not an escape" "escapes are ${builtins.concatStringsSep ", " escapes}"
          ) unknown
          ++ (if isEarly then [ (complaint "${trim inside}: json and env quote a value, so they come last" null) ] else [ ]);
      };

  # Splits a text at its {{...}}.
  text =
    content:
    let
      parts = builtins.split "\\{\\{[[:space:]]*(\"[^\"]*\"|[^{}]*)[[:space:]]*}}" content;
      count = builtins.length parts;
      isBad =
        i:
        let
          part = builtins.elemAt parts i;
        in
        builtins.isString part && (contains "\\{\\{" part || (i + 1 < count && endsInBrace part));
      bad = builtins.filter isBad (builtins.genList (i: i) count);
      end = if bad == [ ] then count else builtins.head bad;
      read =
        part:
        let
          inside = trim (builtins.head part);
          length = builtins.stringLength inside;
          literal = builtins.match "\"([^\"]*)\"" inside;
          raw = builtins.match "[[:space:]]*\"([^\"]*)\"[[:space:]]*" (builtins.head part);
        in
        if builtins.isString part then
          only part
        else if length > 1 && literal != null then
          only (builtins.head (if raw == null then literal else raw))
        else
          slot (builtins.head part);
    in
    joined (
      map (i: read (builtins.elemAt parts i)) (builtins.genList (i: i) end)
      ++ (
        if bad == [ ] then
          [ ]
        else
          [ (wrong "${builtins.toJSON (builtins.elemAt parts end)} is not the name of a secret in braces" hint) ]
      )
    );

  controls = builtins.genList (i: builtins.fromJSON "\"\\u00${hexOf i}\"") 32;
  hexOf = i: "${toString (i / 16)}${builtins.substring (i - (i / 16) * 16) 1 "0123456789ABCDEF"}";
  someControls = builtins.tail controls;
  escapers = {
    json =
      builtins.replaceStrings
        (
          [
            "\""
            "\\"
          ]
          ++ someControls
        )
        (
          [
            "\\\""
            "\\\\"
          ]
          ++ builtins.tail (builtins.genList (i: "\\u00${hexOf i}") 32)
        );
    env =
      builtins.replaceStrings
        [
          "\""
          "\\"
          "$"
          "`"
        ]
        [
          "\\\""
          "\\\\"
          "\\$"
          "\\`"
        ];
  };

  # Text between double quotes: its characters and its secrets are escaped alike.
  quoted =
    form: content:
    let
      read = text content;
      twice = builtins.filter (
        piece: !builtins.isString piece && builtins.any (name: builtins.elem name quoting) piece.escapes
      ) read.pieces;
      written =
        piece: if builtins.isString piece then escapers.${form} piece else piece // { escapes = piece.escapes ++ [ form ]; };
    in
    {
      pieces = [ "\"" ] ++ map written read.pieces ++ [ "\"" ];
      complaints =
        read.complaints
        ++ map (
          { reference, ... }: complaint "${reference}: the whole value is quoted here, so json and env are not needed" null
        ) twice;
    };

  isNumber = value: builtins.isInt value || builtins.isFloat value;
  magnitude = value: if value < 0 then 0 - value else value;
  # Whole numbers from 2^53 on may be rounded by the program.
  isExact =
    value:
    if builtins.isInt value then
      magnitude value <= 9007199254740991
    else
      magnitude value >= 1.0e21 || magnitude value < 9007199254740992.0 || !isWhole value;
  isWhole = value: magnitude value >= 9007199254740992.0 || builtins.floor value == value;
  # Nix writes some numbers with fewer digits than they have.
  isKept = value: builtins.isInt value || builtins.fromJSON (builtins.toJSON value) == value;
  inexact =
    message: value:
    if isExact value && isKept value then nothing else wrong (message (builtins.toJSON value)) "write it as text";

  scalarText =
    value:
    if builtins.isBool value then
      (if value then "true" else "false")
    else if builtins.isString value then
      value
    else
      builtins.toJSON value;

  environment =
    value:
    let
      variable =
        name:
        let
          content = value.${name};
          isScalar = builtins.isString content || builtins.isBool content || isNumber content;
          hasControl = builtins.any (control: contains control content') (
            builtins.filter (control: control != "\t" && control != "\n") (someControls ++ [ delete ])
          );
          content' = scalarText content;
        in
        joined (
          [
            (
              if builtins.match "[A-Za-z_][A-Za-z0-9_]*" name == null then
                wrong "${builtins.toJSON name} is not the name of a variable" "letters, digits and _"
              else
                nothing
            )
          ]
          ++ (
            if !isScalar then
              [ (wrong "${name} is neither text nor a number" null) ]
            else
              [
                (if isNumber content then inexact (number: "${name} is ${number}, which is not an exact number") content else nothing)
                (if hasControl then wrong "${name} has a control character" null else nothing)
                (only "${name}=")
                (quoted "env" content')
                (only "\n")
              ]
          )
        );
    in
    if builtins.isAttrs value then
      joined (map variable (builtins.attrNames value))
    else
      wrong "a table of variables is expected here" "env = { DATABASE_URL = \"postgres://web:{{db-password | url}}@db/web\"; }";
  delete = builtins.fromJSON "\"\\u007f\"";

  deepestJson = 64;
  document =
    value: depth:
    let
      indent = builtins.concatStringsSep "" (builtins.genList (_: "  ") depth);
      between =
        items: open: close:
        if items == [ ] then
          [ (only "${open}${close}") ]
        else
          [ (only "${open}\n  ${indent}") ]
          ++ builtins.head items
          ++ builtins.concatMap (item: [ (only ",\n  ${indent}") ] ++ item) (builtins.tail items)
          ++ [ (only "\n${indent}${close}") ];
    in
    if depth + 1 > deepestJson + 1 then
      wrong "lists and tables are nested more than ${toString deepestJson} deep" null
    else if builtins.isString value then
      quoted "json" value
    else if isNumber value then
      joined [
        (inexact (number: "${number} is not an exact number") value)
        (only (builtins.toJSON value))
      ]
    else if value == null || builtins.isBool value then
      only (builtins.toJSON value)
    else if builtins.isList value then
      joined (between (map (item: [ (document item (depth + 1)) ]) value) "[" "]")
    else
      joined (
        between (map (key: [
          (only "${builtins.toJSON key}: ")
          (document value.${key} (depth + 1))
        ]) (builtins.attrNames value)) "{" "}"
      );

  keys = [
    "content"
    "env"
    "json"
  ];
in
rec {
  inherit trim;

  # The key that a template's text stands under, and what it is made of.
  readTemplate =
    declaration:
    let
      given = builtins.filter (key: declaration ? ${key}) keys;
      key = if given == [ ] then "content" else builtins.head given;
      value = declaration.${key} or "";
      read =
        if key == "env" then
          environment value
        else if key == "json" then
          joined [
            (document value 0)
            (only "\n")
          ]
        else if builtins.isString value then
          text value
        else
          wrong "text is expected here" "content = \"\"";
    in
    read // { inherit given key; };

  # The secrets that a declaration names, in order, each with its escapes.
  referencesOf =
    declaration:
    let
      kind = declaration.kind or "password";
      of = declaration.of or "";
    in
    if kind == "template" then
      builtins.filter (piece: !builtins.isString piece) (readTemplate declaration).pieces
    else if kind == "crypt" && builtins.isString of && of != "" then
      [
        {
          reference = of;
          escapes = [ ];
        }
      ]
    else
      [ ];

  # Resolves a reference: to the secret of that exact name, else to a part of one; null if there is neither.
  dependencyOf =
    declarations: reference:
    let
      plain = builtins.unsafeDiscardStringContext reference;
      parts = if builtins.stringLength plain > 1000 then null else builtins.match "(.+)[.](public|previous)" plain;
      name = builtins.elemAt parts 0;
    in
    if declarations ? ${plain} then
      {
        name = plain;
        part = "secret";
      }
    else if parts != null && declarations ? ${name} then
      {
        inherit name;
        part = builtins.elemAt parts 1;
      }
    else
      null;

  # The declared secrets that a declaration names.
  dependenciesOf =
    declarations: declaration:
    builtins.filter (found: found != null) (
      map ({ reference, ... }: dependencyOf declarations reference) (referencesOf declaration)
    );
}
