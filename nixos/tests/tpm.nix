# The seed is sealed to a TPM, which swtpm emulates.
{
  name = "auxcred-tpm";

  nodes.machine = {
    imports = [ ../module.nix ];
    virtualisation.tpm.enable = true;
    security.tpm2.enable = true;
    auxcred = {
      enable = true;
      seal.withKey = "tpm2";
      seal.tpm2Pcrs = [ 7 ];
      secrets.db-password.units = [ "web" ];
    };
    systemd.services.web = {
      wantedBy = [ "multi-user.target" ];
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
      };
      script = ''cat "$CREDENTIALS_DIRECTORY/db-password" > /run/db-password'';
    };
  };

  testScript = ''
    machine.wait_for_unit("multi-user.target")
    machine.succeed("auxcred seal --with-key=tpm2 --tpm2-pcrs=7 --no-recovery")
    machine.shutdown()
    machine.start()
    machine.wait_for_unit("web.service")
    machine.succeed("test $(cat /run/db-password) = $(auxcred get db-password)")
  '';
}
