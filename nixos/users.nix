# Passwords of users whose hashes are files of auxcred, which are written before anything makes users.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  isOurs = file: file != null && lib.hasPrefix "/run/auxcred/files/" file;
  names = builtins.attrNames (lib.filterAttrs (_: user: isOurs user.hashedPasswordFile) config.users.users);

  # No password has this hash, and nothing but this module writes it.
  withoutHash = "!auxcred";

  hasImmutableEtc = (config.system.etc.overlay.enable or false) && !(config.system.etc.overlay.mutable or true);
  folder = if hasImmutableEtc then "/var/lib/nixos/etc" else "/etc";

  # systemd-sysusers never changes a user that exists, so one that it made without the hash gets it here.
  mend = pkgs.writeShellScript "auxcred-mend-passwords" ''
    set -eu
    umask 077
    PATH=${pkgs.coreutils}/bin
    shadow=${folder}/shadow next=${folder}/.shadow.auxcred mended=
    while IFS= read -r line; do
      name=''${line%%:*}
      file=$CREDENTIALS_DIRECTORY/passwd.hashed-password.$name
      case $line in
        "$name:${withoutHash}:"*)
          hash=
          [ ! -e "$file" ] || read -r hash < "$file" || true
          case $hash in
            "" | *:* | '${withoutHash}') ;;
            *) line=$name:$hash:''${line#"$name:${withoutHash}:"} mended=1 ;;
          esac
          ;;
      esac
      printf '%s\n' "$line"
    done < "$shadow" > "$next"
    if [ "$mended" ]; then
      chown --reference="$shadow" "$next"
      chmod --reference="$shadow" "$next"
      mv "$next" "$shadow"
    else
      rm "$next"
    fi
  '';
in
{
  config = lib.mkIf (config.auxcred.enable && (config.systemd.sysusers.enable or false) && names != [ ]) {
    systemd.services.systemd-sysusers.serviceConfig = {
      # Without it, one hash that is missing would keep systemd-sysusers from making any user.
      SetCredential = map (name: "passwd.hashed-password.${name}:${withoutHash}") names;
      # Before the files are made read-only again.
      ExecStartPost = lib.mkBefore [ "-${mend}" ];
    };
  };
}
