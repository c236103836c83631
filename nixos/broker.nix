# What auxcred.service needs beyond its unit file to open seeds that are sealed like this: the same lines as the
# program's src/drop-ins/broker-drop-in.ts. A pure function of builtins.
{
  # host, tpm2, tpm2+host or systemd-creds.
  withKey,
  # The TPM in systemd's notation, or null for the default one.
  device ? null,
  # The file with signatures of PCR values, or null for systemd's.
  signature ? null,
  # Whether the machine has an ssh host key.
  sshHostKey,
  # Whether there is a group tss.
  tssGroup,
}:
let
  hasTpm = withKey == "tpm2" || withKey == "tpm2+host";
  tcti =
    if device == null then
      "device:/dev/tpmrm0"
    else if builtins.substring 0 1 device == "/" then
      "device:${device}"
    else
      device;
  node = builtins.match "device:(.+)" tcti;
  socket = builtins.match "swtpm:(.*,)?path=([^,]+).*" tcti;
  socketPath = builtins.elemAt socket 1;
  # If the file is missing, the broker starts anyway, and says so.
  key = setting: id: path: {
    ${setting} = [ "${id}:${path}" ];
    SetCredential = [ "${id}:missing" ];
  };
  # Where systemd-stub's tmpfiles.d(5) entry puts the signatures of the booted image.
  stubSignatures = "/run/systemd/tpm2-pcr-signature.json";
  # The broker does not see the rest of /run.
  hasOwnSignatures =
    signature != null && signature != stubSignatures && builtins.substring 0 5 signature == "/run/";
  credentials =
    if withKey == "systemd-creds" then
      key "LoadCredentialEncrypted" "sealed-host-key" "/var/lib/auxcred/host.cred"
    else if withKey == "tpm2" then
      { }
    else if sshHostKey then
      key "LoadCredential" "ssh-host-key" "/etc/ssh/ssh_host_ed25519_key"
    else
      key "LoadCredential" "age-host-key" "/var/lib/auxcred/host.key";
  tpm = {
    PrivateDevices = "no";
    DeviceAllow = [
      "char-tpm rw"
      "${if node == null then "/dev/tpmrm0" else builtins.head node} rw"
    ];
  }
  // {
    BindReadOnlyPaths =
      (
        if socket == null then
          [ ]
        else
          [
            "-${socketPath}"
            "-${socketPath}.ctrl"
          ]
      )
      ++ [ "-${stubSignatures}" ]
      ++ (if hasOwnSignatures then [ "-${signature}" ] else [ ]);
  }
  // (if tssGroup then { SupplementaryGroups = [ "tss" ]; } else { });
in
credentials // (if hasTpm then tpm else { })
