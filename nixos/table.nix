# Reads one table of a manifest key by key: what is wrong with a value, and the value or its default.
rec {
  isText = builtins.isString;
  isNumber = value: builtins.isInt value || builtins.isFloat value;

  tableOf =
    place: record:
    let
      has = key: record ? ${key};
      get = key: record.${key} or null;
      problem = key: message: hint: {
        severity = "error";
        key = if key == "" then place else "${place}.${key}";
        inherit message hint;
      };
      wrong =
        condition: key: message: hint:
        if has key && condition then [ (problem key message hint) ] else [ ];
      isWhole =
        value: least: most:
        isNumber value && value >= least && value <= most && (builtins.isInt value || builtins.floor value == value);
      isList = value: builtins.isList value && builtins.all isText value;
      isTexts = value: builtins.isAttrs value && builtins.all (item: isText item || isNumber item) (builtins.attrValues value);
      show = value: if builtins.isBool value then (if value then "true" else "false") else toString value;
    in
    rec {
      inherit has get problem;

      text = key: fallback: wrong (!isText (get key)) key "text is expected here" "${key} = \"${fallback}\"";
      oneOf =
        key: fallback: choices:
        text key fallback
        ++ wrong (isText (get key) && !builtins.elem (get key) choices) key "${builtins.toJSON (get key)} is not known here"
          "one of ${builtins.concatStringsSep ", " choices}";
      whole =
        key: fallback: least: most:
        wrong (!isWhole (get key) least most) key
          "a whole number from ${toString least} to ${toString most} is expected here"
          "${key} = ${toString fallback}";
      flag =
        key: fallback: wrong (!builtins.isBool (get key)) key "true or false is expected here" "${key} = ${show fallback}";
      list = key: wrong (!isList (get key)) key "a list of texts is expected here" "${key} = [ \"...\" ]";
      texts = key: wrong (!isTexts (get key)) key "a table of texts is expected here" "${key} = { name = \"value\"; }";

      # The value of a key, or the fallback if it lacks one that is right.
      valueOf = {
        text = key: fallback: if isText (get key) then get key else fallback;
        oneOf = key: fallback: choices: if builtins.elem (get key) choices then get key else fallback;
        whole =
          key: fallback: least: most:
          if isWhole (get key) least most then get key else fallback;
        flag = key: fallback: if builtins.isBool (get key) then get key else fallback;
        list = key: if isList (get key) then get key else [ ];
      };
    };
}
