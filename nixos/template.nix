# The secrets that a declaration names.
rec {
  isText = builtins.isString;

  # The inside of each {{...}} of a text.
  insidesOf =
    text:
    builtins.concatMap (part: if builtins.isList part && builtins.head part != null then part else [ ]) (
      builtins.split "\\{\\{[[:space:]]*([^{}\"]*)[[:space:]]*}}" text
    );

  referenceIn =
    inside:
    builtins.head (builtins.match "[[:space:]]*([^|[:space:]]*).*" inside);

  textsOf =
    value:
    if isText value then
      [ value ]
    else if builtins.isList value then
      builtins.concatMap textsOf value
    else if builtins.isAttrs value then
      builtins.concatMap textsOf (builtins.attrValues value)
    else
      [ ];

  # The references of a declaration, in order: NAME, NAME.public or NAME.previous.
  referencesOf =
    declaration:
    if (declaration.kind or "password") == "crypt" then
      [ (declaration.of or "") ]
    else if (declaration.kind or "password") == "template" then
      map referenceIn (
        builtins.concatMap insidesOf (
          builtins.concatMap (key: textsOf (declaration.${key} or null)) [
            "content"
            "env"
            "json"
          ]
        )
      )
    else
      [ ];
}
