# package-lock.json with the address of each package in npm's registry. The lock file names none, so that it is the same
# behind any mirror; what is fetched has to match the hash in it.
lock:
let
  addressed =
    path: entry:
    if path == "" || entry ? resolved || (entry.link or false) then
      entry
    else
      let
        parts = builtins.filter builtins.isString (builtins.split "node_modules/" path);
        name = builtins.elemAt parts (builtins.length parts - 1);
        base = baseNameOf name;
      in
      entry // { resolved = "https://registry.npmjs.org/${name}/-/${base}-${entry.version}.tgz"; };
in
lock // { packages = builtins.mapAttrs addressed lock.packages; }
