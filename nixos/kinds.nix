# The options of each kind of derived secret, as the program's src/manifest/options.ts reads them, and the sizes that
# secrets may reach. A pure function of builtins.
let
  inherit (import ./declarations.nix) keyKinds unique;

  optionals = condition: list: if condition then list else [ ];
  charactersOf = text: builtins.genList (i: builtins.substring i 1 text) (builtins.stringLength text);
  digits = "0123456789";
  upper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  lower = "abcdefghijklmnopqrstuvwxyz";
  namedAlphabets = {
    inherit digits upper lower;
    alnum = digits + upper + lower;
    hex = "${digits}abcdef";
    printable = "!\"#$%&'()*+,-./${digits}:;<=>?@${upper}[\\]^_`${lower}{|}~";
    readable = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    url = "-${digits}${upper}_${lower}";
  };
  printable = charactersOf " ${namedAlphabets.printable}";
  classes = [
    "lower"
    "upper"
    "digit"
    "symbol"
  ];
  classOf =
    character:
    if builtins.elem character (charactersOf lower) then
      "lower"
    else if builtins.elem character (charactersOf upper) then
      "upper"
    else if builtins.elem character (charactersOf digits) then
      "digit"
    else
      "symbol";

  # base ^ exponent in few steps. Never over 2^600, since only small numbers matter.
  power =
    base: exponent:
    let
      half = power base (exponent / 2);
      square = if half > 1.0e90 then half else half * half;
    in
    if exponent == 0 then
      1.0
    else if exponent == exponent / 2 * 2 then
      square
    else
      square * base;

  # The sets of some of these numbers, each as their sum and their count.
  subsetSums = builtins.foldl' (
    sums: size:
    sums
    ++ map (
      { sum, sign }:
      {
        sum = sum + size;
        sign = 0 - sign;
      }
    ) sums
  ) [
    {
      sum = 0;
      sign = 1;
    }
  ];

  largestSecret = 131072;
  largestSource = {
    hex = largestSecret / 2;
    base64 = largestSecret / 4 * 3;
    bytes = largestSecret;
  };

  # The binary logarithm of a number from 0 to 2^64, rounded.
  bitsOf =
    number:
    if number < 1.4142135623730951 then 0 else 1 + bitsOf (number / 2);

  weakness =
    count: bits: table:
    optionals (!table.valueOf.flag "weak" false && count < 18446744073709551616.0) [
      (table.problem "" "it can be guessed: it has ${toString bits} bits of strength, and at least 64 are required"
        "make it longer; weak = true if you want a weak one, such as a PIN"
      )
    ];

  printableProblems =
    table: key: fallback: most:
    let
      given = table.valueOf.text key fallback;
      isPrintable =
        builtins.stringLength given <= most && builtins.all (item: builtins.elem item printable) (charactersOf given);
    in
    table.text key fallback
    ++ optionals (!isPrintable) [
      (table.problem key "printable ASCII of at most ${toString most} characters is expected here" "${key} = \"${fallback}\"")
    ];

  # What a password's keys say; one whose keys don't fit together counts as one of 32 characters.
  passwordOf =
    table:
    let
      named = table.valueOf.text "alphabet" "alnum";
      text = namedAlphabets.${named} or named;
    in
    rec {
      alphabet = unique (charactersOf text);
      size = builtins.length alphabet;
      hasAlphabet =
        size >= 2 && builtins.all (item: builtins.elem item (builtins.tail printable)) alphabet;
      length = table.valueOf.whole "length" 32 1 largestSecret;
      required = unique (builtins.sort builtins.lessThan (table.valueOf.list "require"));
      fits = builtins.length required <= length;
      most = if hasAlphabet && fits then length else 32;
    };

  passwordProblems =
    table:
    let
      inherit (passwordOf table) alphabet size hasAlphabet length required fits;
      sizeOf = class: builtins.length (builtins.filter (character: classOf character == class) alphabet);
      require = builtins.filter (class: builtins.elem class classes && sizeOf class > 0) required;
      classProblems = builtins.concatMap (
        class:
        if !builtins.elem class classes then
          [
            (table.problem "require" "${builtins.toJSON class} is not a class of characters"
              "classes are ${builtins.concatStringsSep ", " classes}"
            )
          ]
        else
          optionals (sizeOf class == 0) [ (table.problem "require" "the alphabet has no ${class} character" null) ]
      ) required;
      # The passwords that have a character of each required class, among all.
      acceptance =
        let
          terms = subsetSums (map sizeOf require);
          part = { sum, sign }: sign * power ((size - sum) * 1.0 / size) length;
          total = builtins.foldl' (total: term: total + part term) 0.0 terms;
        in
        if length < builtins.length require || total < 0 then 0.0 else total;
      count = power (size * 1.0) length * acceptance;
    in
    table.text "alphabet" "alnum"
    ++ table.whole "length" 32 1 largestSecret
    ++ table.list "require"
    ++ (
      if !hasAlphabet then
        [
          (table.problem "alphabet" "an alphabet needs two different printable ASCII characters or more"
            "a name (${builtins.concatStringsSep ", " (builtins.attrNames namedAlphabets)}) or the characters themselves"
          )
        ]
      else if !fits then
        [
          (table.problem "require"
            "${toString (builtins.length required)} required classes do not fit ${toString length} characters"
            null
          )
        ]
        ++ weakness (power (size * 1.0) 32) (bitsOf (power (size * 1.0) 32)) table
      else
        classProblems
        ++ optionals (acceptance < 1.0e-3) [
          (table.problem "require"
            "fewer than one in a thousand passwords of this alphabet and length have a character of each class"
            "make it longer, or the alphabet more even"
          )
        ]
        ++ weakness count (bitsOf count) table
    );
in
{
  inherit largestSecret;

  # The least, the default and the greatest cost of each hash.
  hashRounds = {
    yescrypt = {
      least = 1;
      usual = 5;
      most = 11;
    };
    sha512-crypt = {
      least = 1000;
      usual = 5000;
      most = 999999999;
    };
    bcrypt = {
      least = 4;
      usual = 10;
      most = 17;
    };
  };
  # The most bytes that each hash reads.
  longestPhrase = {
    yescrypt = 511;
    sha512-crypt = 511;
    bcrypt = 72;
  };

  keysOf =
    kind:
    {
      password = [
        "length"
        "alphabet"
        "require"
        "weak"
      ];
      passphrase = [
        "words"
        "separator"
        "capitalize"
        "weak"
      ];
      hex = [
        "bytes"
        "weak"
      ];
      base64 = [
        "bytes"
        "weak"
      ];
      bytes = [
        "bytes"
        "weak"
      ];
      ssh-ed25519 = [ "comment" ];
    }
    .${kind} or [ ];

  problemsOf =
    kind: table:
    let
      words = table.valueOf.whole "words" 6 1 1024;
      bytes = table.valueOf.whole "bytes" 32 1 largestSource.${kind};
      weak = table.flag "weak" false;
    in
    if kind == "password" then
      passwordProblems table ++ weak
    else if kind == "passphrase" then
      table.whole "words" 6 1 1024
      ++ printableProblems table "separator" "-" 16
      ++ table.flag "capitalize" false
      ++ weak
      ++ weakness (power 7776.0 words) (bitsOf (power 7776.0 words)) table
    else if largestSource ? ${kind} then
      table.whole "bytes" 32 1 largestSource.${kind} ++ weak ++ weakness (power 256.0 bytes) (8 * bytes) table
    else if kind == "ssh-ed25519" then
      printableProblems table "comment" "" 200
    else
      [ ];

  # The most bytes of a derived secret or its public half.
  mostOf =
    kind: table:
    let
      bytes = table.valueOf.whole "bytes" 32 1 largestSource.${kind};
    in
    if kind == "password" then
      (passwordOf table).most
    else if kind == "passphrase" then
      table.valueOf.whole "words" 6 1 1024 * (9 + builtins.stringLength (table.valueOf.text "separator" "-"))
    else if kind == "hex" then
      2 * bytes
    else if kind == "base64" then
      (bytes + 2) / 3 * 4
    else if kind == "bytes" then
      bytes
    else if kind == "uuid" then
      36
    else if kind == "wireguard-psk" then
      44
    else
      1024;
}
